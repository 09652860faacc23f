// A file that appears whole or not at all.
#pragma once

#include <cstddef>
#include <cstdio>
#include <memory>
#include <span>
#include <string>

namespace trident {

/// Buffered writing to PATH.tmp; `commit` makes it PATH. Uncommitted, it is removed on destruction. Throws UserError
/// when the file cannot be made and RunError, with the reason, when writing fails (disk full).
class FileWriter {
 public:
  explicit FileWriter(std::string path);
  ~FileWriter() { discard(); }
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(std::span<const std::byte> bytes);

  /// Writes the bytes of one number, little endian.
  template <class T>
  void write_number(T value) {
    write(std::as_bytes(std::span(&value, 1)));
  }

  /// Appends everything written here so far to `other`.
  void copy_to(FileWriter& other);

  /// Flushes to the disk and renames PATH.tmp to PATH. Nothing may be written afterwards.
  void commit();

  /// Closes and removes PATH.tmp, unless committed.
  void discard();

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  [[noreturn]] void fail(const char* doing) const;

  std::string path_;
  std::string temporary_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace trident
