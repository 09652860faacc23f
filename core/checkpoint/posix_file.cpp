#include "core/checkpoint/posix_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "core/base/error.h"

namespace trident {

namespace {

std::string errno_text() { return std::strerror(errno); }

[[noreturn]] void fail_writing(const std::string& path, const char* doing) {
  const bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
  const std::string reason = errno_text();
  throw RunError(build_string("cannot ", doing, " ", path, ": ", reason,
                              full ? " (free space there, lower checkpoint.keep, or set `out` to another disk)" : ""));
}

}  // namespace

PosixFile PosixFile::open_read(const std::string& path) {
  PosixFile file;
  file.path_ = path;
  file.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file.fd_ < 0) throw UserError(build_string("cannot open ", path, ": ", errno_text()));
  struct stat info {};
  if (::fstat(file.fd_, &info) != 0) throw UserError(build_string("cannot read ", path, ": ", errno_text()));
  if (!S_ISREG(info.st_mode)) throw UserError(build_string(path, " is not a file"));
  return file;
}

PosixFile PosixFile::create(const std::string& path) {
  PosixFile file;
  file.path_ = path;
  file.fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file.fd_ < 0) fail_writing(path, "create");
  return file;
}

PosixFile::PosixFile(PosixFile&& other) noexcept : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

PosixFile& PosixFile::operator=(PosixFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  return *this;
}

PosixFile::~PosixFile() {
  if (fd_ >= 0) ::close(fd_);
}

uint64_t PosixFile::size() const {
  struct stat info {};
  if (::fstat(fd_, &info) != 0) throw UserError(build_string("cannot read ", path_, ": ", errno_text()));
  return static_cast<uint64_t>(info.st_size);
}

void PosixFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), std::min(bytes.size(), kChunkBytes));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_writing(path_, "write");
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
}

void PosixFile::sync_and_close() {
  if (::fsync(fd_) != 0) fail_writing(path_, "flush");
  // Network file systems report a full disk as late as here.
  if (::close(std::exchange(fd_, -1)) != 0) fail_writing(path_, "close");
}

void PosixFile::read_at(uint64_t offset, std::span<std::byte> dst) const {
  while (!dst.empty()) {
    const ssize_t n = ::pread(fd_, dst.data(), std::min(dst.size(), kChunkBytes), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw UserError(build_string("cannot read ", path_, " at byte ", offset, ": ", errno_text()));
    if (n == 0) {
      throw UserError(build_string(path_, " ends at byte ", offset, ", ", dst.size(), " bytes early: it is truncated"));
    }
    offset += static_cast<uint64_t>(n);
    dst = dst.subspan(static_cast<size_t>(n));
  }
}

std::string read_text(const std::string& path, uint64_t limit) {
  const PosixFile file = PosixFile::open_read(path);
  const uint64_t size = file.size();
  if (size > limit) {
    throw UserError(build_string(path, " has ", size, " bytes, more than the ", limit, " that such a file can have"));
  }
  std::string text(size, '\0');
  file.read_at(0, std::as_writable_bytes(std::span(text)));
  return text;
}

void sync_directory(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail_writing(path, "open");
  const int failed = ::fsync(fd);
  const int code = errno;
  ::close(fd);
  errno = code;
  // Some file systems cannot flush a directory; what they promise without it is all there is.
  if (failed != 0 && errno != EINVAL) fail_writing(path, "flush");
}

void write_text_atomically(const std::string& path, const std::string& text) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash);
  const std::string temporary = build_string(directory, "/.tmp-", path.substr(slash + 1));
  PosixFile file = PosixFile::create(temporary);
  file.write(std::as_bytes(std::span(text)));
  file.sync_and_close();
  if (std::rename(temporary.c_str(), path.c_str()) != 0) fail_writing(path, "rename to");
  sync_directory(directory);
}

}  // namespace trident
