// ChunkFile: a scratch file of equal chunks, for state that no memory holds (ZeRO-Infinity, arXiv 2104.07857). Its
// space is reserved when it is made, so that a full disk is found before the first step, and it has no name from then
// on: however the process ends, nothing is left behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/device/file_engine.h"

namespace trident {

class ChunkFile {
 public:
  static constexpr size_t kAlign = 4096;

  struct Options {
    std::string directory;   ///< made when it is not there
    size_t chunk_bytes = 0;  ///< a multiple of kAlign
    int64_t chunks = 0;
    bool threads = false;  ///< threads although there may be an io_uring
    FileCalls calls = {};  ///< of the threads
  };
  /// Past the page cache (O_DIRECT) where the file system can. Throws RunError that names the directory, what is needed
  /// and what is free when the space cannot be had.
  explicit ChunkFile(Options);
  ~ChunkFile();
  ChunkFile(const ChunkFile&) = delete;
  ChunkFile& operator=(const ChunkFile&) = delete;

  /// A transfer under way; empty: none. The buffer stays until wait() or the file's end.
  struct Ticket {
    std::shared_ptr<FileTransfer> transfer;
    int64_t chunk = -1;
  };
  /// Starts to read or write a chunk. Buffers are aligned to kAlign. A chunk never written reads as zeros. The caller
  /// waits for one transfer of a chunk before it starts another of the same. One thread at a time.
  Ticket start_read(int64_t chunk, void* buffer);
  Ticket start_write(int64_t chunk, const void* buffer);
  /// Ends the transfer and empties the ticket. Throws RunError, with the chunk and what the system says, when it failed
  /// or the chunk read is not the one written (xxh3-64).
  void wait(Ticket&);

  /// "io_uring, past the page cache, in /scratch"
  std::string describe() const;

 private:
  FileTransfer transfer_of(int64_t chunk, char* buffer, bool write) const;
  std::string place(int64_t chunk) const;

  Options options_;
  int fd_ = -1;
  bool direct_ = false;
  std::unique_ptr<FileEngine> engine_;
  struct Written {
    bool any = false;
    uint64_t checksum = 0;
  };
  std::vector<Written> written_;
};

}  // namespace trident
