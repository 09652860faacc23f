#include "core/device/chunk_file.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "core/base/error.h"
#include "core/base/format.h"

namespace trident {
namespace {

constexpr const char* kIntact = " The last checkpoint is intact: start again to go on from it.";

std::string text_of(size_t bytes) { return format_bytes(static_cast<int64_t>(bytes)); }

int open_unnamed(const std::string& directory, bool direct) {
  std::string path = directory + "/.trident-state-XXXXXX";
  const int fd = ::mkostemp(path.data(), O_CLOEXEC | (direct ? O_DIRECT : 0));
  if (fd >= 0) ::unlink(path.c_str());
  return fd;
}

}  // namespace

ChunkFile::ChunkFile(Options options) : options_(std::move(options)) {
  ensure(options_.chunk_bytes % kAlign == 0, "the chunks of a file are whole pages");
  const auto fail = [&](const std::string& what, int error) {
    throw RunError(build_string("zero.nvme_path: ", what, " in ", options_.directory, ": ", std::strerror(error)));
  };
  std::error_code made;
  std::filesystem::create_directories(options_.directory, made);
  if (made) fail("no directory can be made", made.value());
  fd_ = open_unnamed(options_.directory, true);
  direct_ = fd_ >= 0;
  if (!direct_ && errno == EINVAL) fd_ = open_unnamed(options_.directory, false);
  if (fd_ < 0) fail("no file can be made", errno);
  const size_t bytes = options_.chunk_bytes * static_cast<size_t>(options_.chunks);
  if (const int error = bytes == 0 ? 0 : ::posix_fallocate(fd_, 0, static_cast<off_t>(bytes)); error != 0) {
    std::error_code unknown;
    const auto free = std::filesystem::space(options_.directory, unknown).available;
    ::close(fd_);
    fail(build_string("no room for ", text_of(bytes), " of optimizer state (", unknown ? "?" : text_of(free),
                      " are free)"),
         error);
  }
  written_.resize(static_cast<size_t>(options_.chunks));
  if (!options_.threads && !options_.calls.read && !options_.calls.write) engine_ = make_uring_engine(fd_);
  if (!engine_) engine_ = make_thread_engine(fd_, options_.calls);
}

ChunkFile::~ChunkFile() {
  engine_.reset();
  ::close(fd_);
}

FileTransfer ChunkFile::transfer_of(int64_t chunk, char* buffer, bool write) const {
  ensure(chunk >= 0 && chunk < options_.chunks, "a chunk lies in its file");
  ensure(reinterpret_cast<uintptr_t>(buffer) % kAlign == 0, "the buffer of a chunk is aligned to pages");
  return {.write = write,
          .buffer = buffer,
          .bytes = options_.chunk_bytes,
          .offset = static_cast<uint64_t>(chunk) * options_.chunk_bytes};
}

ChunkFile::Ticket ChunkFile::start_read(int64_t chunk, void* buffer) {
  const FileTransfer transfer = transfer_of(chunk, static_cast<char*>(buffer), false);
  if (!written_[static_cast<size_t>(chunk)].any) {
    std::memset(buffer, 0, options_.chunk_bytes);
    return {};
  }
  Ticket ticket{std::make_shared<FileTransfer>(transfer), chunk};
  engine_->start(ticket.transfer);
  return ticket;
}

ChunkFile::Ticket ChunkFile::start_write(int64_t chunk, const void* buffer) {
  // (A transfer has one kind of buffer; a write only reads it.)
  const FileTransfer transfer = transfer_of(chunk, static_cast<char*>(const_cast<void*>(buffer)), true);
  written_[static_cast<size_t>(chunk)] = {true, XXH3_64bits(buffer, options_.chunk_bytes)};
  Ticket ticket{std::make_shared<FileTransfer>(transfer), chunk};
  engine_->start(ticket.transfer);
  return ticket;
}

void ChunkFile::wait(Ticket& ticket) {
  if (!ticket.transfer) return;
  const Ticket mine = std::exchange(ticket, {});
  std::shared_ptr<FileTransfer> t = mine.transfer;
  char* const buffer = t->buffer;
  engine_->wait(*t);
  // What a transfer left undone is asked for again, until nothing moves.
  while (t->result > 0 && static_cast<size_t>(t->result) < t->bytes) {
    FileTransfer rest{t->write, t->buffer + t->result, t->bytes - static_cast<size_t>(t->result),
                      t->offset + static_cast<uint64_t>(t->result)};
    t = std::make_shared<FileTransfer>(rest);
    engine_->start(t);
    engine_->wait(*t);
  }
  const std::string what = (t->write ? "writing " : "reading ") + place(mine.chunk);
  if (t->result < 0)
    throw RunError(build_string(what, " failed: ", std::strerror(static_cast<int>(-t->result)), ".", kIntact));
  if (t->result == 0) throw RunError(build_string(what, " stopped ", text_of(t->bytes), " before its end.", kIntact));
  if (!t->write && XXH3_64bits(buffer, options_.chunk_bytes) != written_[static_cast<size_t>(mine.chunk)].checksum) {
    throw RunError(build_string(
        what, ": its checksum is not that of what was written: the disk or its cable changed it.", kIntact));
  }
}

std::string ChunkFile::place(int64_t chunk) const {
  return build_string("chunk ", chunk, " (", text_of(options_.chunk_bytes), " at byte ",
                      static_cast<uint64_t>(chunk) * options_.chunk_bytes, ") of the optimizer state in ",
                      options_.directory);
}

std::string ChunkFile::describe() const {
  return build_string(engine_->name(), direct_ ? ", past the page cache, in " : ", through the page cache, in ",
                      options_.directory);
}

}  // namespace trident
