#include "core/device/chunk_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "support/catch.h"

using namespace trident;

namespace {

constexpr size_t kBytes = 2 * ChunkFile::kAlign;
constexpr int64_t kChunks = 6;

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Pages = std::unique_ptr<char, Free>;

Pages pages(char fill) {
  Pages memory(static_cast<char*>(std::aligned_alloc(ChunkFile::kAlign, kBytes)));
  std::memset(memory.get(), fill, kBytes);
  return memory;
}

class Directory {
 public:
  Directory() { REQUIRE(::mkdtemp(path_.data()) != nullptr); }
  ~Directory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_ = (std::filesystem::temp_directory_path() / "chunk_file_XXXXXX").string();
};

void write(ChunkFile& file, int64_t chunk, char fill) {
  const Pages out = pages(fill);
  auto ticket = file.start_write(chunk, out.get());
  file.wait(ticket);
}

bool reads(ChunkFile& file, int64_t chunk, char fill) {
  const Pages in = pages('?'), want = pages(fill);
  auto ticket = file.start_read(chunk, in.get());
  file.wait(ticket);
  return std::memcmp(in.get(), want.get(), kBytes) == 0;
}

std::string failure_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const RunError& error) {
    return error.what();
  }
  return "nothing failed";
}

ssize_t broken_by(int error) {
  errno = error;
  return -1;
}

}  // namespace

TEST_CASE("chunks come back as they were written, in any order, many at a time") {
  const Directory directory;
  for (const bool threads : {false, true}) {
    ChunkFile file(
        {.directory = directory.path() + "/new", .chunk_bytes = kBytes, .chunks = kChunks, .threads = threads});
    INFO(file.describe());
    if (threads) CHECK(file.describe().starts_with("threads"));
    CHECK(std::filesystem::is_empty(directory.path() + "/new"));  // nothing is left behind, whatever happens
    CHECK(reads(file, 3, 0));
    std::vector<Pages> buffers;
    std::vector<ChunkFile::Ticket> tickets;
    for (int64_t i = kChunks - 1; i >= 0; --i) {
      buffers.push_back(pages(static_cast<char>('a' + i)));
      tickets.push_back(file.start_write(i, buffers.back().get()));
    }
    for (auto& ticket : tickets) file.wait(ticket);
    for (int64_t i = 0; i < kChunks; ++i) CHECK(reads(file, i, static_cast<char>('a' + i)));
    write(file, 2, 'z');
    CHECK(reads(file, 2, 'z'));
    CHECK(reads(file, 1, 'b'));
    // What was started and never waited for ends with the file.
    tickets.push_back(file.start_read(0, buffers.front().get()));
  }
}

TEST_CASE("a transfer that stops half way is taken up again") {
  const Directory directory;
  const auto half = [](size_t bytes) { return std::max<size_t>(bytes / 2, 512); };
  ChunkFile file(
      {.directory = directory.path(),
       .chunk_bytes = kBytes,
       .chunks = kChunks,
       .calls = {.read = [&](int fd, void* b, size_t n, off_t at) { return ::pread(fd, b, half(n), at); },
                 .write = [&](int fd, const void* b, size_t n, off_t at) { return ::pwrite(fd, b, half(n), at); }}});
  write(file, 4, 'x');
  CHECK(reads(file, 4, 'x'));
}

TEST_CASE("a disk's errors name the chunk, the cause and what is safe") {
  const Directory directory;
  int read_error = 0, write_error = 0;
  bool ends = false, flips = false;
  ChunkFile file({.directory = directory.path(),
                  .chunk_bytes = kBytes,
                  .chunks = kChunks,
                  .calls = {.read =
                                [&](int fd, void* b, size_t n, off_t at) {
                                  if (read_error != 0) return broken_by(read_error);
                                  if (ends) return ssize_t{0};
                                  const ssize_t moved = ::pread(fd, b, n, at);
                                  if (flips) static_cast<char*>(b)[kBytes - 5] ^= 4;
                                  return moved;
                                },
                            .write =
                                [&](int fd, const void* b, size_t n, off_t at) {
                                  return write_error != 0 ? broken_by(write_error) : ::pwrite(fd, b, n, at);
                                }}});
  write(file, 1, 'x');
  const auto read = [&] { (void)reads(file, 1, 'x'); };
  const std::string place = "chunk 1 (8.0 KiB at byte 8192) of the optimizer state in " + directory.path();
  const std::string intact = " The last checkpoint is intact: start again to go on from it.";
  read_error = EIO;
  CHECK(failure_of(read) == "reading " + place + " failed: Input/output error." + intact);
  read_error = 0;
  ends = true;
  CHECK(failure_of(read) == "reading " + place + " stopped 8.0 KiB before its end." + intact);
  ends = false;
  flips = true;
  CHECK(failure_of(read).starts_with("reading " + place + ": its checksum is not that of what was written"));
  flips = false;
  CHECK(reads(file, 1, 'x'));
  write_error = ENOSPC;
  CHECK(failure_of([&] { write(file, 1, 'y'); }) == "writing " + place + " failed: No space left on device." + intact);
}

TEST_CASE("a file that cannot be had is refused at once, with the directory") {
  const Directory directory;
  const auto make = [](const std::string& path, int64_t chunks) {
    return failure_of([&] { ChunkFile({.directory = path, .chunk_bytes = kBytes, .chunks = chunks}); });
  };
  const std::string full = make(directory.path(), int64_t{1} << 48);
  INFO(full);
  CHECK(full.starts_with("zero.nvme_path: no room for "));
  CHECK(full.find(" are free) in " + directory.path()) != std::string::npos);
  CHECK(make("/proc/nowhere/at/all", 1).starts_with("zero.nvme_path: no directory can be made in /proc/nowhere"));
  CHECK(make("/proc/self", 1).starts_with("zero.nvme_path: no file can be made in /proc/self"));
}
