// FileEngine: what moves bytes between a file and memory while the caller computes: io_uring, or a few threads.
//
// Policy: an engine makes one attempt at one piece and reports what the system said. Going on after a short transfer,
// trying again, checksums and error texts stand once, above it (ChunkFile); tests put their faults in between.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/base/error.h"

namespace trident {

/// Closes itself.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

/// One read (`into`) or write (`from`) of `bytes` (at most 1 GiB) at `offset`. The memory is the caller's until the
/// operation is done.
struct FileOp {
  int slot = 0;  ///< 0 to depth - 1, whose it is: at most one operation of a slot is under way
  std::byte* into = nullptr;
  const std::byte* from = nullptr;
  size_t bytes = 0;
  uint64_t offset = 0;
};

/// Why there is no io_uring: the kernel refuses it (containers often do), or the build has no liburing.
class UringRefused : public RunError {
 public:
  using RunError::RunError;
};

class FileEngine {
 public:
  /// Told once for each operation: how many bytes moved, or -errno. Called by a thread of the engine or inside
  /// `start`; may call `start` again; must not throw.
  using Done = std::function<void(int slot, int64_t result)>;

  /// Only when no operation is under way.
  virtual ~FileEngine() = default;
  /// Returns before the bytes have moved. The calling thread lives until they have. Thread-safe.
  virtual void start(const FileOp&) = 0;
  /// For the log: "io_uring", "4 threads".
  virtual std::string name() const = 0;
};

/// An engine for an open file (which stays the caller's and open) and so many slots.
using EngineMaker = std::function<std::unique_ptr<FileEngine>(int fd, int depth, FileEngine::Done)>;

/// pread and pwrite in threads, one for each slot up to 8.
std::unique_ptr<FileEngine> make_thread_engine(int fd, int depth, FileEngine::Done);

/// Throws UringRefused where there is none.
std::unique_ptr<FileEngine> make_uring_engine(int fd, int depth, FileEngine::Done);

/// io_uring where it works, else threads, whose name() then says why.
std::unique_ptr<FileEngine> make_file_engine(int fd, int depth, FileEngine::Done);

}  // namespace trident
