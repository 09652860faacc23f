#include "core/checkpoint/writer.h"

#include <exception>

#include "core/base/error.h"
#include "core/base/format.h"
#include "core/base/log.h"
#include "core/checkpoint/directory.h"
#include "core/checkpoint/verify.h"

namespace trident {

namespace {

std::string to_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// What `work` throws, as text; "" when nothing. Ranks exchange these before any of them throws, so that none is left
/// alone in a collective.
template <class Work>
std::string error_of(Work work) {
  try {
    work();
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace

CheckpointWriter::CheckpointWriter(CheckpointOptions options, Communicator& world)
    : options_(std::move(options)), world_(world) {
  ensure(!options_.root.empty() && options_.keep >= 1, "a checkpoint writer has a root and keeps at least one");
}

CheckpointWriter::~CheckpointWriter() {
  cancelled_ = true;
  if (thread_.joinable()) thread_.join();
}

std::optional<std::string> CheckpointWriter::begin_save(std::span<const LocalPiece> pieces,
                                                        const CheckpointMeta& meta) {
  finish();
  meta_ = meta;
  started_ = std::chrono::steady_clock::now();
  prepare();
  saving_ = true;
  written_ = false;
  if (!options_.async) {
    write(pieces);
    return commit();
  }
  // From its start the thread owns error_. What fails before is told at the commit, where every rank tells.
  error_ = error_of([&] { stage(pieces); });
  const std::string no_thread =
      error_.empty() ? error_of([&] { thread_ = std::thread([this] { write(staged_); }); }) : error_;
  if (!no_thread.empty()) {
    error_ = no_thread;
    written_ = true;
  }
  return std::nullopt;
}

std::optional<std::string> CheckpointWriter::poll() {
  if (!saving_) return std::nullopt;
  const std::byte mine = written_ ? std::byte{1} : std::byte{0};
  for (const std::vector<std::byte>& done : world_.all_gather_bytes(std::span(&mine, 1))) {
    if (done.at(0) == std::byte{0}) return std::nullopt;
  }
  return commit();
}

std::optional<std::string> CheckpointWriter::finish() {
  if (!saving_) return std::nullopt;
  return commit();
}

void CheckpointWriter::prepare() {
  const std::string directory = temporary_path(options_.root, meta_.step);
  // Rank 0 clears away first; the others' files come after.
  fail_together(world_.rank() != 0 ? "" : error_of([&] {
    make_directories(options_.root);
    remove_temporaries(options_.root);
    make_directories(directory);
  }));
}

void CheckpointWriter::stage(std::span<const LocalPiece> pieces) {
  const size_t bytes = staging_bytes(pieces);
  if (options_.staging.bytes() < bytes) {
    own_staging_ = std::make_unique<std::byte[]>(bytes);
    options_.staging = Tensor(own_staging_.get(), DType::u8, {static_cast<int64_t>(bytes)});
  }
  staged_ = stage_pieces(pieces, options_.staging);
}

void CheckpointWriter::write(std::span<const LocalPiece> pieces) {
  error_ = error_of([&] {
    records_ = write_shard(temporary_path(options_.root, meta_.step), world_.rank(), world_.size(), meta_.step, pieces,
                           cancelled_);
  });
  written_ = true;
}

std::string CheckpointWriter::commit() {
  if (thread_.joinable()) thread_.join();
  fail_together(error_);
  std::vector<std::string> records;
  const std::string mine = manifest_records(records_);
  for (const auto& bytes : world_.all_gather_bytes(std::as_bytes(std::span(mine)))) records.push_back(to_text(bytes));

  uint64_t total = 0;
  std::string path = build_string(options_.root, "/", checkpoint_name(meta_.step));
  fail_together(world_.rank() != 0 ? "" : error_of([&] {
    total = write_manifest(temporary_path(options_.root, meta_.step), meta_, records);
    path = commit_directory(options_.root, meta_.step);
  }));
  saving_ = false;
  if (world_.rank() == 0) {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
    log::info(build_string("saved ", path, ": ", format_bytes(static_cast<int64_t>(total)), " in ",
                           format_duration(seconds)));
    prune_checkpoints(options_.root, meta_.step, options_.keep,
                      [](const std::string& candidate) { return check_structure(candidate).empty(); });
  }
  return path;
}

void CheckpointWriter::fail_together(const std::string& mine) {
  std::string all;
  const auto errors = world_.all_gather_bytes(std::as_bytes(std::span(mine)));
  for (size_t rank = 0; rank < errors.size(); ++rank) {
    if (!errors[rank].empty()) all += build_string("\n  rank ", rank, ": ", to_text(errors[rank]));
  }
  if (all.empty()) return;
  saving_ = false;
  if (world_.rank() == 0) remove_temporaries(options_.root);  // a full disk needs the room
  throw RunError(build_string("the checkpoint of step ", meta_.step, " was not saved; the last good one in ",
                              options_.root, " stays", all));
}

}  // namespace trident
