// Files with the guarantees checkpoints need: every short write, error and fsync is seen and told with path and errno.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace trident {

/// One open file. Movable, closes itself.
class PosixFile {
 public:
  /// Largest portion handed to one system call: bounds memory pressure and lets a cancelled save stop soon.
  static constexpr size_t kChunkBytes = size_t{8} << 20;

  PosixFile() = default;
  /// An existing file, for reading. Throws UserError (path, errno text) when it cannot be opened or is not a file.
  static PosixFile open_read(const std::string& path);
  /// A new or emptied file, for writing. Throws RunError when it cannot be created.
  static PosixFile create(const std::string& path);
  PosixFile(PosixFile&&) noexcept;
  PosixFile& operator=(PosixFile&&) noexcept;
  ~PosixFile();

  const std::string& path() const { return path_; }
  bool is_open() const { return fd_ >= 0; }
  uint64_t size() const;

  /// Throws RunError when the disk refuses.
  void write(std::span<const std::byte> bytes);
  /// Flushes to the disk and closes. Throws RunError.
  void sync_and_close();
  /// Throws UserError when the file ends early or cannot be read.
  void read_at(uint64_t offset, std::span<std::byte> dst) const;

 private:
  std::string path_;
  int fd_ = -1;
};

/// The whole file as text. Throws UserError when it cannot be read or is larger than `limit`.
std::string read_text(const std::string& path, uint64_t limit);

/// Makes the entries of a directory durable. Throws RunError.
void sync_directory(const std::string& path);

/// Replaces `path` with this text: temporary beside it, fsync, rename, fsync of the directory. Throws RunError.
void write_text_atomically(const std::string& path, const std::string& text);

}  // namespace trident
