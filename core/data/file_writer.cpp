#include "core/data/file_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "core/base/error.h"

namespace trident {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

// A rename is on the disk only when its directory is.
void sync_directory(const std::filesystem::path& directory) {
  const int fd = ::open(directory.empty() ? "." : directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;  // some network filesystems refuse; the rename itself has succeeded
  ::fsync(fd);
  ::close(fd);
}

}  // namespace

FileWriter::FileWriter(std::string path)
    : path_(std::move(path)), temporary_(path_ + ".tmp"), file_(std::fopen(temporary_.c_str(), "w+b")) {
  if (!file_) {
    throw UserError(build_string("cannot write ", temporary_, ": ", std::strerror(errno),
                                 "; choose an output in a writable directory"));
  }
  std::setvbuf(file_.get(), nullptr, _IOFBF, kBufferBytes);
}

void FileWriter::discard() {
  if (!file_) return;
  file_.reset();
  std::remove(temporary_.c_str());
}

void FileWriter::fail(const char* doing) const {
  throw RunError(build_string(doing, " ", temporary_, " failed: ", std::strerror(errno)));
}

void FileWriter::write(std::span<const std::byte> bytes) {
  ensure(file_ != nullptr, "no writing after commit");
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) fail("writing to");
}

void FileWriter::copy_to(FileWriter& other) {
  ensure(file_ != nullptr, "no copying after commit");
  if (std::fflush(file_.get()) != 0) fail("writing to");
  std::rewind(file_.get());
  std::vector<std::byte> buffer(kBufferBytes);
  while (const size_t got = std::fread(buffer.data(), 1, buffer.size(), file_.get())) {
    other.write(std::span(buffer).first(got));
  }
  if (std::ferror(file_.get()) != 0) fail("reading back");
  std::fseek(file_.get(), 0, SEEK_END);
}

void FileWriter::commit() {
  ensure(file_ != nullptr, "one commit");
  if (std::fflush(file_.get()) != 0 || ::fsync(::fileno(file_.get())) != 0) fail("writing to");
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail("renaming");
  file_.reset();
  sync_directory(std::filesystem::path(path_).parent_path());
}

}  // namespace trident
