// FileEngine: reads and writes parts of a file while the caller goes on: through io_uring where the kernel allows it
// (containers often forbid it), else with a few threads that call pread and pwrite.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace trident {

/// One transfer. The buffer stays until it is finished.
struct FileTransfer {
  bool write = false;
  char* buffer = nullptr;
  size_t bytes = 0;
  uint64_t offset = 0;
  ssize_t result = 0;  ///< once finished: bytes transferred, maybe fewer than asked for, or -errno
  bool finished = false;
};

class FileEngine {
 public:
  /// Waits for what was started.
  virtual ~FileEngine() = default;
  virtual const char* name() const = 0;
  virtual void start(std::shared_ptr<FileTransfer>) = 0;
  /// Returns when it is finished. Transfers end in any order. One thread at a time calls an engine.
  virtual void wait(FileTransfer&) = 0;
};

/// The system's calls, which tests replace: as pread and pwrite.
struct FileCalls {
  std::function<ssize_t(int fd, void* buffer, size_t bytes, off_t offset)> read;
  std::function<ssize_t(int fd, const void* buffer, size_t bytes, off_t offset)> write;
};

/// nullptr where this build or this kernel has none.
std::unique_ptr<FileEngine> make_uring_engine(int fd);
std::unique_ptr<FileEngine> make_thread_engine(int fd, FileCalls calls = {});

}  // namespace trident
