// ChunkFile: the file tier of offload (ZeRO-Infinity, Rajbhandari et al. 2021, section 5): one scratch file per rank,
// cut into chunks that are read and written whole while the caller computes. Its user walks over the chunks: chunk i +
// 1 is read while chunk i is updated and chunk i - 1 is written.
//
// Policy: scratch, not storage. The file has no name from the start, so nothing stays behind however the process dies;
// nothing is ever flushed. Its whole space is reserved at the start: a full disk is found then, not in step 1000. What
// comes back is what was written or an error: every chunk has a checksum, kept in memory.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/device/file_engine.h"

namespace trident {

/// One thread at a time calls it; a thread outlives the transfers it started.
class ChunkFile {
 public:
  static constexpr size_t kAlign = 4096;  ///< of chunk sizes and buffers: what O_DIRECT wants
  /// The first aligned address of memory that has kAlign bytes to spare.
  static char* aligned(void* memory);

  struct Options {
    std::string directory;               ///< made when missing
    size_t chunk_bytes = 0;              ///< a multiple of kAlign
    int64_t chunks = 0;                  ///< may be none
    int queue_depth = 4;                 ///< transfers not yet waited for, at most
    std::string name = "trident-state";  ///< of the file, while it has one, and in messages
    bool direct = true;                  ///< past the page cache (O_DIRECT) where the file system can
  };

  /// A started transfer. Empty: none.
  struct Ticket {
    int slot = -1;
    uint64_t serial = 0;
  };

  /// Throws UserError when the directory cannot be used, RunError when it has not chunks * chunk_bytes free.
  explicit ChunkFile(Options, const EngineMaker& = make_file_engine);
  /// Waits for what is under way; its errors are dropped.
  ~ChunkFile();
  ChunkFile(const ChunkFile&) = delete;
  ChunkFile& operator=(const ChunkFile&) = delete;

  /// Starts to read (write) a whole chunk. The buffer has chunk_bytes bytes, aligned to kAlign; until wait() has
  /// returned, a reading one is not touched and a writing one not changed. A chunk never written reads as zeros, with
  /// no I/O. Transfers of one chunk are ordered by the caller: a write is waited for before the next transfer of its
  /// chunk starts, and a read before the next write; the rest overlap as they like. Breaking that, or starting more
  /// than queue_depth, is an InternalError. start_read throws RunError when the chunk's last write failed.
  Ticket start_read(int64_t chunk, void* buffer);
  Ticket start_write(int64_t chunk, const void* buffer);

  /// Blocks until the transfer is done and empties the ticket; nothing to do for an empty one. Throws RunError for a
  /// fault of the system and for a chunk that came back other than it was written. After a failed read the buffer holds
  /// anything.
  void wait(Ticket&);

  /// One line for the log: "/nvme/name: 128 chunks of 64.0 MiB, 8.0 GiB reserved, io_uring, O_DIRECT".
  std::string describe() const;
  size_t chunk_bytes() const { return options_.chunk_bytes; }
  int64_t chunks() const { return options_.chunks; }

 private:
  struct Chunk {
    enum class Content : uint8_t { none, whole, unknown };
    Content content = Content::none;  ///< unknown: while it is written, and for good when that fails
    uint64_t checksum = 0;            ///< XXH3 64
  };
  struct Slot {
    enum class State : uint8_t { empty, under_way, done };
    enum class Fault : uint8_t { none, system, stuck, checksum };
    State state = State::empty;
    Fault fault = Fault::none;
    int error = 0;  ///< of Fault::system
    int stalls = 0;
    uint64_t serial = 0;
    int64_t chunk = 0;
    std::byte* into = nullptr;
    const std::byte* from = nullptr;
    size_t moved = 0;  ///< bytes
  };

  void check_call(int64_t chunk, const void* buffer) const;
  Ticket start(int64_t chunk, std::byte* into, const std::byte* from);
  /// The piece of a slot's transfer that comes next.
  FileOp next_piece(int slot) const;
  /// What an engine's report means for the transfer.
  void advance(Slot&, int64_t result) const;
  void on_done(int slot, int64_t result);
  /// Sets or compares the checksum of a transfer that is complete.
  void check_content(Slot&);
  std::string place(int64_t chunk) const;
  std::string describe_fault(const Slot&) const;

  const Options options_;
  const std::string path_;  ///< for messages
  FileDescriptor file_;
  bool reserved_ = false, direct_ = false;
  std::mutex mutex_;  ///< of slots_ and chunks_
  std::condition_variable done_;
  std::vector<Slot> slots_;
  std::vector<Chunk> chunks_;
  uint64_t serial_ = 0;
  std::unique_ptr<FileEngine> engine_;  ///< last: its threads end before what they use goes
};

}  // namespace trident
