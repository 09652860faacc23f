#include "core/device/chunk_file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <ios>
#include <limits>
#include <optional>
#include <utility>

#include "core/base/error.h"
#include "core/base/format.h"
#include "core/base/free_space.h"
#include "core/base/trace.h"

namespace trident {
namespace {

/// Largest piece of one operation; the kernel takes 2 GiB at most.
constexpr size_t kMostBytes = size_t{1} << 30;
/// Reports without progress in a row, with the last of which a transfer is given up.
constexpr int kMostStalls = 100;
constexpr int kMostSlots = 256;

constexpr const char* kSafe = "; the last checkpoint is intact, start again from it";

[[noreturn]] void refuse_directory(const std::string& directory, const std::string& reason) {
  throw UserError(build_string("no scratch file can be made in ", directory, ": ", reason,
                               " (set zero.nvme_path to a directory on a fast local disk that may be written)"));
}

std::string bytes_text(uint64_t bytes) {
  return build_string(format_bytes(static_cast<int64_t>(bytes)), " (", bytes, " bytes)");
}

[[noreturn]] void refuse_space(const std::string& directory, uint64_t needed, const std::string& reason) {
  const std::optional<int64_t> free = free_disk_bytes(directory);
  throw RunError(build_string("the offloaded state of this rank needs ", bytes_text(needed), " in ", directory,
                              ", where ", free ? bytes_text(static_cast<uint64_t>(*free)) : "an unknown amount",
                              " is free: ", reason,
                              " (free space there, set zero.nvme_path to a larger disk, or use more data ranks)"));
}

/// What can be known before any space is taken: a file system filled to the brim, if only for a moment, hurts others,
/// and a process past its limit is killed by SIGXFSZ.
void check_space(const std::string& directory, uint64_t needed) {
  const std::optional<int64_t> free = free_disk_bytes(directory);
  if (free && static_cast<uint64_t>(*free) < needed) refuse_space(directory, needed, "not enough");
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < needed) {
    refuse_space(directory, needed, build_string("a file may have ", limit.rlim_cur, " bytes at most (ulimit -f)"));
  }
}

/// A new file without a name. The name it has for a moment is unique, so that ranks and runs never share one.
int create_nameless(const std::string& directory, const std::string& name) {
  std::error_code code;
  std::filesystem::create_directories(directory, code);
  if (code) refuse_directory(directory, code.message());
  std::string path = build_string(directory, "/", name, "-XXXXXX");
  const int fd = ::mkostemp(path.data(), O_CLOEXEC);
  if (fd < 0) refuse_directory(directory, std::strerror(errno));
  ::unlink(path.c_str());
  return fd;
}

/// Gives the file its size and its space. Returns false where the file system cannot reserve: it is then sparse, and a
/// full disk is found by a write.
bool reserve(int fd, const std::string& directory, uint64_t bytes) {
  if (bytes == 0) return true;  // which fallocate refuses
  int failed = 0;
  do {
    failed = ::fallocate(fd, 0, 0, static_cast<off_t>(bytes));
  } while (failed != 0 && errno == EINTR);
  if (failed == 0) return true;
  // (Not posix_fallocate: where the file system cannot, that one writes to every block.)
  if (errno != EOPNOTSUPP && errno != ENOSYS) refuse_space(directory, bytes, std::strerror(errno));
  if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0) refuse_space(directory, bytes, std::strerror(errno));
  return false;
}

/// Turns O_DIRECT on and tries it. Not at open: a file system that refuses it there has made the file all the same.
bool make_direct(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_DIRECT) != 0) return false;
  alignas(ChunkFile::kAlign) std::array<std::byte, ChunkFile::kAlign> block;
  if (::pread(fd, block.data(), block.size(), 0) == static_cast<ssize_t>(block.size())) return true;
  ::fcntl(fd, F_SETFL, flags);
  return false;
}

ChunkFile::Options checked(ChunkFile::Options options) {
  ensure(options.chunk_bytes > 0 && options.chunk_bytes % ChunkFile::kAlign == 0,
         "chunks of a file are multiples of 4096 bytes");
  ensure(options.chunks >= 0 && static_cast<uint64_t>(options.chunks) <=
                                    uint64_t{std::numeric_limits<int64_t>::max()} / options.chunk_bytes,
         "the size of a chunk file fits 63 bits");
  ensure(options.queue_depth > 0 && options.queue_depth <= kMostSlots, "a chunk file has 1 to 256 transfers under way");
  return options;
}

}  // namespace

char* ChunkFile::aligned(void* memory) {
  const auto address = reinterpret_cast<uintptr_t>(memory);
  return static_cast<char*>(memory) + (kAlign - address % kAlign) % kAlign;
}

ChunkFile::ChunkFile(Options options, const EngineMaker& make_engine)
    : options_(checked(std::move(options))),
      path_(build_string(options_.directory, "/", options_.name)),
      file_(create_nameless(options_.directory, options_.name)),
      slots_(static_cast<size_t>(options_.queue_depth)),
      chunks_(static_cast<size_t>(options_.chunks)) {
  const uint64_t bytes = static_cast<uint64_t>(options_.chunks) * options_.chunk_bytes;
  check_space(options_.directory, bytes);
  reserved_ = reserve(file_.get(), options_.directory, bytes);
  direct_ = options_.direct && make_direct(file_.get());
  engine_ = make_engine(file_.get(), options_.queue_depth, [this](int slot, int64_t result) { on_done(slot, result); });
}

ChunkFile::~ChunkFile() {
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] {
    return std::none_of(slots_.begin(), slots_.end(),
                        [](const Slot& slot) { return slot.state == Slot::State::under_way; });
  });
}

ChunkFile::Ticket ChunkFile::start_read(int64_t chunk, void* buffer) {
  check_call(chunk, buffer);
  Chunk::Content content;
  {
    const std::lock_guard lock(mutex_);
    content = chunks_[static_cast<size_t>(chunk)].content;
  }
  if (content == Chunk::Content::none) {
    std::memset(buffer, 0, options_.chunk_bytes);
    return {};
  }
  return start(chunk, static_cast<std::byte*>(buffer), nullptr);
}

ChunkFile::Ticket ChunkFile::start_write(int64_t chunk, const void* buffer) {
  check_call(chunk, buffer);
  return start(chunk, nullptr, static_cast<const std::byte*>(buffer));
}

void ChunkFile::check_call(int64_t chunk, const void* buffer) const {
  ensure(buffer != nullptr && reinterpret_cast<uintptr_t>(buffer) % kAlign == 0,
         "buffers of a chunk file are aligned to 4096 bytes");
  ensure(chunk >= 0 && chunk < options_.chunks, "a chunk file's chunks are numbered from 0 to its number of chunks");
}

ChunkFile::Ticket ChunkFile::start(int64_t chunk, std::byte* into, const std::byte* from) {
  const bool write = from != nullptr;
  Ticket ticket;
  FileOp piece;
  {
    const std::lock_guard lock(mutex_);
    for (int i = 0; i < options_.queue_depth; ++i) {
      const Slot& slot = slots_[static_cast<size_t>(i)];
      if (slot.state == Slot::State::empty) ticket.slot = i;
      const bool clashes = slot.state != Slot::State::empty && slot.chunk == chunk && (write || slot.from != nullptr);
      ensure(!clashes, "a chunk's transfer is waited for before it is written, and its write before it is read");
    }
    Chunk& content = chunks_[static_cast<size_t>(chunk)];
    if (!write && content.content == Chunk::Content::unknown) {
      throw RunError(build_string("cannot read ", place(chunk), ": its last write failed", kSafe));
    }
    ensure(ticket.slot >= 0, "at most queue_depth transfers of a chunk file are started and not yet waited for");
    if (write) content.content = Chunk::Content::unknown;
    ticket.serial = ++serial_;
    Slot& slot = slots_[static_cast<size_t>(ticket.slot)];
    slot = Slot{};
    slot.state = Slot::State::under_way;
    slot.serial = ticket.serial;
    slot.chunk = chunk;
    slot.into = into;
    slot.from = from;
    piece = next_piece(ticket.slot);
  }
  try {
    engine_->start(piece);
  } catch (...) {  // no thread to be had
    const std::lock_guard lock(mutex_);
    slots_[static_cast<size_t>(ticket.slot)].state = Slot::State::empty;
    throw;
  }
  return ticket;
}

FileOp ChunkFile::next_piece(int index) const {
  const Slot& slot = slots_[static_cast<size_t>(index)];
  FileOp op;
  op.slot = index;
  if (slot.from != nullptr) {
    op.from = slot.from + slot.moved;
  } else {
    op.into = slot.into + slot.moved;
  }
  op.bytes = std::min(options_.chunk_bytes - slot.moved, kMostBytes);
  op.offset = static_cast<uint64_t>(slot.chunk) * options_.chunk_bytes + slot.moved;
  return op;
}

void ChunkFile::advance(Slot& slot, int64_t result) const {
  if (result < 0 && result != -EINTR && result != -EAGAIN) {
    slot.fault = Slot::Fault::system;
    slot.error = static_cast<int>(-result);
    return;
  }
  size_t moved = static_cast<size_t>(std::max<int64_t>(result, 0));
  // O_DIRECT goes on at whole blocks only; what was moved beyond the last of them moves again.
  if (slot.moved + moved < options_.chunk_bytes) moved -= moved % kAlign;
  slot.moved += moved;
  slot.stalls = moved > 0 ? 0 : slot.stalls + 1;
  if (slot.stalls == kMostStalls) slot.fault = Slot::Fault::stuck;
}

void ChunkFile::on_done(int index, int64_t result) {
  Slot& slot = slots_[static_cast<size_t>(index)];
  std::unique_lock lock(mutex_);
  advance(slot, result);
  const bool good = slot.fault == Slot::Fault::none;
  lock.unlock();
  // A slot under way is touched here only.
  if (good && slot.moved < options_.chunk_bytes) return engine_->start(next_piece(index));
  if (good) check_content(slot);
  lock.lock();
  slot.state = Slot::State::done;
  done_.notify_all();
}

void ChunkFile::check_content(Slot& slot) {
  const bool write = slot.from != nullptr;
  const uint64_t checksum = XXH3_64bits(write ? slot.from : slot.into, options_.chunk_bytes);
  const std::lock_guard lock(mutex_);
  Chunk& chunk = chunks_[static_cast<size_t>(slot.chunk)];
  if (write) {
    chunk.checksum = checksum;
    chunk.content = Chunk::Content::whole;
  } else if (chunk.checksum != checksum) {
    slot.fault = Slot::Fault::checksum;
  }
}

void ChunkFile::wait(Ticket& ours) {
  if (ours.slot < 0) return;
  const Ticket ticket = std::exchange(ours, {});
  const trace::Section waiting(trace::Activity::offload);
  Slot done;
  {
    std::unique_lock lock(mutex_);
    Slot& slot = slots_.at(static_cast<size_t>(ticket.slot));
    ensure(slot.state != Slot::State::empty && slot.serial == ticket.serial,
           "each transfer of a chunk file is waited for once");
    done_.wait(lock, [&] { return slot.state == Slot::State::done; });
    done = slot;
    slot.state = Slot::State::empty;
  }
  if (done.fault != Slot::Fault::none) throw RunError(describe_fault(done));
}

std::string ChunkFile::place(int64_t chunk) const {
  return build_string("chunk ", chunk, " of the scratch file ", path_, " (", options_.chunk_bytes, " bytes at byte ",
                      static_cast<uint64_t>(chunk) * options_.chunk_bytes, ")");
}

std::string ChunkFile::describe_fault(const Slot& slot) const {
  const std::string where = place(slot.chunk);
  const std::string doing =
      build_string("cannot ", slot.from != nullptr ? "write " : "read ", where, " from its byte ", slot.moved, " on: ");
  const char* const check_disk = " (check the disk, or set zero.nvme_path to another one)";
  switch (slot.fault) {
    case Slot::Fault::system: {
      const bool full = slot.error == ENOSPC || slot.error == EDQUOT || slot.error == EFBIG;
      const char* const fix = full ? " (free space there, or set zero.nvme_path to another disk)" : check_disk;
      return build_string(doing, std::strerror(slot.error), fix, kSafe);
    }
    case Slot::Fault::stuck: return build_string(doing, "no progress in ", kMostStalls, " attempts", check_disk, kSafe);
    case Slot::Fault::checksum:
    case Slot::Fault::none: break;
  }
  return build_string(where, " is not what was written there: its checksum differs. The disk or the memory is faulty",
                      check_disk, kSafe);
}

std::string ChunkFile::describe() const {
  const int64_t chunk = static_cast<int64_t>(options_.chunk_bytes), total = chunk * options_.chunks;
  return build_string(path_, ": ", options_.chunks, " chunks of ", format_bytes(chunk), ", ", format_bytes(total),
                      reserved_ ? " reserved, " : " that the file system cannot reserve, ", engine_->name(), ", ",
                      direct_ ? "O_DIRECT" : "through the page cache");
}

}  // namespace trident
