#include "core/device/chunk_file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "support/catch.h"

using namespace trident;
namespace fs = std::filesystem;

namespace {

constexpr size_t kBlock = ChunkFile::kAlign;
constexpr size_t kChunkBytes = 4 * kBlock;
constexpr int64_t kChunks = 9;

/// An empty directory that goes with its test.
class Directory {
 public:
  Directory() {
    std::string path = (fs::temp_directory_path() / "trident-chunk-file-XXXXXX").string();
    REQUIRE(::mkdtemp(path.data()) != nullptr);
    path_ = path;
  }
  ~Directory() { fs::remove_all(path_); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  const std::string& path() const { return path_; }
  ChunkFile::Options options() const {
    return {.directory = path_, .chunk_bytes = kChunkBytes, .chunks = kChunks, .name = "state"};
  }

 private:
  std::string path_;
};

/// A chunk's worth of aligned memory.
class Buffer {
 public:
  explicit Buffer(uint64_t seed = 0) : bytes_(::operator new(kChunkBytes, std::align_val_t(kBlock))) { fill(seed); }
  ~Buffer() { ::operator delete(bytes_, std::align_val_t(kBlock)); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  std::byte* data() const { return static_cast<std::byte*>(bytes_); }
  /// Every word of every seed is another one.
  void fill(uint64_t seed) {
    auto* const words = static_cast<uint64_t*>(bytes_);
    for (size_t i = 0; i < kChunkBytes / 8; ++i) words[i] = (seed << 32) + i;
  }
  bool operator==(const Buffer& other) const { return std::memcmp(bytes_, other.bytes_, kChunkBytes) == 0; }

 private:
  void* bytes_;
};

/// What goes wrong: changes an operation, or answers for it.
using Fault = std::function<std::optional<int64_t>(FileOp&)>;

class FaultyEngine : public FileEngine {
 public:
  FaultyEngine(std::unique_ptr<FileEngine> inner, Fault fault, Done done)
      : inner_(std::move(inner)), fault_(std::move(fault)), done_(std::move(done)) {}
  void start(const FileOp& op) override {
    FileOp changed = op;
    if (const std::optional<int64_t> result = fault_(changed)) {
      done_(op.slot, *result);
    } else {
      inner_->start(changed);
    }
  }
  std::string name() const override { return inner_->name(); }

 private:
  std::unique_ptr<FileEngine> inner_;
  Fault fault_;
  Done done_;
};

EngineMaker with_fault(EngineMaker inner, Fault fault) {
  return [inner = std::move(inner), fault = std::move(fault)](int fd, int depth, const FileEngine::Done& done) {
    return std::make_unique<FaultyEngine>(inner(fd, depth, done), fault, done);
  };
}

/// Finishes nothing before it is released.
class HeldEngine : public FileEngine {
 public:
  explicit HeldEngine(std::unique_ptr<FileEngine> inner) : inner_(std::move(inner)) {}
  void start(const FileOp& op) override {
    const std::lock_guard lock(mutex_);
    held_.push_back(op);
  }
  void release() {
    const std::lock_guard lock(mutex_);
    for (const FileOp& op : std::exchange(held_, {})) inner_->start(op);
  }
  std::string name() const override { return inner_->name(); }

 private:
  std::unique_ptr<FileEngine> inner_;
  std::mutex mutex_;
  std::vector<FileOp> held_;
};

/// The error of `call`, which must throw an E.
template <class E, class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const E& error) {
    return error.what();
  }
  FAIL("no error, or another one");
  return {};
}

void check_says(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    INFO(text << "\nshould say: " << part);
    CHECK(text.find(part) != std::string::npos);
  }
}

void write(ChunkFile& file, int64_t chunk, const Buffer& buffer) {
  ChunkFile::Ticket ticket = file.start_write(chunk, buffer.data());
  file.wait(ticket);
}
void read(ChunkFile& file, int64_t chunk, const Buffer& buffer) {
  ChunkFile::Ticket ticket = file.start_read(chunk, buffer.data());
  file.wait(ticket);
}

/// Why there is no io_uring here; empty where there is.
std::string uring_refusal() {
  const Directory directory;
  try {
    const ChunkFile file(directory.options(), make_uring_engine);
  } catch (const UringRefused& refused) {
    return refused.what();
  }
  return "";
}

/// The engines of this machine. Threads are everywhere.
std::vector<EngineMaker> engines() {
  std::vector<EngineMaker> found = {make_thread_engine};
  const std::string refusal = uring_refusal();
  if (refusal.empty()) {
    found.emplace_back(make_uring_engine);
  } else {
    WARN("skipped: " << refusal);
  }
  return found;
}

/// As the optimizer walks: chunk i + 1 is read and chunk i - 1 written while chunk i is changed.
void walk(ChunkFile& file, uint64_t old_round) {
  Buffer buffers[3];
  ChunkFile::Ticket reads[3], writes[3];
  reads[0] = file.start_read(0, buffers[0].data());
  for (int64_t i = 0; i < kChunks; ++i) {
    const int now = static_cast<int>(i % 3), next = static_cast<int>((i + 1) % 3);
    file.wait(writes[next]);
    if (i + 1 < kChunks) reads[next] = file.start_read(i + 1, buffers[next].data());
    file.wait(reads[now]);
    INFO("chunk " << i);
    CHECK(buffers[now] == Buffer(old_round * 100 + static_cast<uint64_t>(i)));
    buffers[now].fill((old_round + 1) * 100 + static_cast<uint64_t>(i));
    writes[now] = file.start_write(i, buffers[now].data());
  }
  for (ChunkFile::Ticket& ticket : writes) file.wait(ticket);
}

}  // namespace

TEST_CASE("what a walk over the chunks writes, the next one reads") {
  for (const EngineMaker& engine : engines()) {
    for (const bool direct : {true, false}) {
      const Directory directory;
      ChunkFile::Options options = directory.options();
      options.direct = direct;
      ChunkFile file(options, engine);
      INFO(file.describe());
      for (int64_t i = 0; i < kChunks; ++i) write(file, i, Buffer(static_cast<uint64_t>(i)));
      for (uint64_t round = 0; round < 3; ++round) walk(file, round);
    }
  }
}

TEST_CASE("many transfers are under way at once, in any order") {
  for (const EngineMaker& engine : engines()) {
    const Directory directory;
    ChunkFile::Options options = directory.options();
    options.queue_depth = kChunks;  // more than the threads of the engine
    ChunkFile file(options, engine);
    std::vector<Buffer> wrote(kChunks), got(kChunks);
    std::vector<ChunkFile::Ticket> tickets(kChunks);
    for (int round = 0; round < 20; ++round) {
      for (int64_t i = kChunks; i-- > 0;) {
        wrote[i].fill(static_cast<uint64_t>(round * 100 + i));
        tickets[i] = file.start_write(i, wrote[i].data());
      }
      for (ChunkFile::Ticket& ticket : tickets) file.wait(ticket);
      for (int64_t i = 0; i < kChunks; ++i) tickets[i] = file.start_read((i * 4) % kChunks, got[i].data());
      for (int64_t i = kChunks; i-- > 0;) file.wait(tickets[i]);
      for (int64_t i = 0; i < kChunks; ++i) CHECK(got[i] == wrote[(i * 4) % kChunks]);
    }
  }
}

TEST_CASE("a chunk never written reads as zeros, without I/O") {
  const Directory directory;
  std::atomic<int> operations = 0;
  ChunkFile file(directory.options(), with_fault(make_thread_engine, [&](FileOp&) {
                   ++operations;
                   return std::optional<int64_t>();
                 }));
  const Buffer buffer(7);
  read(file, 3, buffer);
  CHECK(operations == 0);
  for (size_t i = 0; i < kChunkBytes; ++i) REQUIRE(buffer.data()[i] == std::byte{0});
  write(file, 3, buffer);
  CHECK(operations == 1);
  ChunkFile::Ticket none;
  CHECK_NOTHROW(file.wait(none));
}

TEST_CASE("the file has its space and no name from the start") {
  const Directory directory;
  int descriptor = -1;
  const ChunkFile::Options options = directory.options();
  const ChunkFile file(options, [&](int fd, int depth, FileEngine::Done done) {
    descriptor = fd;
    return make_thread_engine(fd, depth, std::move(done));
  });
  CHECK(fs::is_empty(directory.path()));
  struct stat info {};
  REQUIRE(::fstat(descriptor, &info) == 0);
  CHECK(info.st_size == kChunks * static_cast<int64_t>(kChunkBytes));
  CHECK(info.st_nlink == 0);
  if (file.describe().find(" reserved, ") == std::string::npos) {
    WARN("skipped: " << file.describe());
  } else {
    CHECK(info.st_blocks * 512 >= info.st_size);
  }
}

TEST_CASE("a file says for the log how it works") {
  const Directory directory;
  ChunkFile::Options options = directory.options();
  options.direct = false;
  const ChunkFile file(options, make_thread_engine);
  check_says(file.describe(),
             {directory.path() + "/state: 9 chunks of 16.0 KiB, 144.0 KiB ", ", 4 threads, through the page cache"});
  const std::string refusal = uring_refusal(), automatic = ChunkFile(directory.options()).describe();
  check_says(automatic, {refusal.empty() ? ", io_uring, " : ", 4 threads (" + refusal + "), "});
}

TEST_CASE("short transfers are gone on with") {
  for (const EngineMaker& engine : engines()) {
    // 100 bytes beyond a block: those move again, because O_DIRECT goes on at whole blocks only.
    for (const size_t most : {kBlock, 3 * kBlock, 2 * kBlock + 100}) {
      const Directory directory;
      ChunkFile::Options options = directory.options();
      options.direct = most % kBlock == 0;
      std::atomic<int> operations = 0;
      ChunkFile file(options, with_fault(engine, [&](FileOp& op) {
                       ++operations;
                       op.bytes = std::min(op.bytes, most);
                       return std::optional<int64_t>();
                     }));
      const Buffer wrote(5), got;
      write(file, 2, wrote);
      read(file, 2, got);
      CHECK(got == wrote);
      CHECK(operations == (most == kBlock ? 8 : 4));
    }
  }
}

TEST_CASE("an interrupted transfer is tried again, one without progress given up") {
  for (const int64_t result : {-EINTR, -EAGAIN, 0, 100}) {
    const Directory directory;
    std::atomic<int> left = 0;
    ChunkFile file(directory.options(), with_fault(make_thread_engine, [&](FileOp&) {
                     return left-- > 0 ? std::optional(result) : std::nullopt;
                   }));
    const Buffer wrote(5), got;
    left = 99;
    write(file, 2, wrote);
    left = 99;
    read(file, 2, got);
    CHECK(got == wrote);
    left = 100;
    check_says(error_of<RunError>([&] { write(file, 2, wrote); }),
               {"cannot write chunk 2", "no progress in 100 attempts", "the last checkpoint is intact"});
  }
}

TEST_CASE("an error of the system names the place and the way out") {
  for (const EngineMaker& engine : engines()) {
    const Directory directory;
    std::atomic<int> error = 0;
    ChunkFile file(directory.options(), with_fault(engine, [&](FileOp& op) -> std::optional<int64_t> {
                     op.bytes = std::min(op.bytes, kBlock);
                     if (error == 0 || op.offset % kChunkBytes == 0) return std::nullopt;
                     return -error;
                   }));
    const Buffer wrote(5), got;
    write(file, 2, wrote);
    error = EIO;
    const std::string place = "chunk 2 of the scratch file " + directory.path() +
                              "/state (16384 bytes at byte 32768) from its byte 4096 on: ";
    check_says(error_of<RunError>([&] { read(file, 2, got); }),
               {"cannot read " + place, std::strerror(EIO), "check the disk", "zero.nvme_path",
                "the last checkpoint is intact, start again from it"});
    error = 0;
    read(file, 2, got);  // what was written is still there
    CHECK(got == wrote);
    error = ENOSPC;
    check_says(error_of<RunError>([&] { write(file, 2, wrote); }),
               {"cannot write " + place, std::strerror(ENOSPC), "free space there", "zero.nvme_path",
                "the last checkpoint is intact, start again from it"});
    error = 0;
    // Half of it is the old one, half the new.
    check_says(error_of<RunError>([&] { read(file, 2, got); }),
               {"cannot read chunk 2", "its last write failed", "the last checkpoint is intact"});
    write(file, 2, wrote);
    read(file, 2, got);
    CHECK(got == wrote);
  }
}

TEST_CASE("an engine that cannot start leaves nothing under way") {
  const Directory directory;
  ChunkFile file(directory.options(), with_fault(make_thread_engine, [](FileOp&) -> std::optional<int64_t> {
                   throw RunError("no thread");
                 }));
  const Buffer buffer(1);
  for (int i = 0; i < 5; ++i) CHECK_THROWS_WITH(file.start_write(0, buffer.data()), "no thread");  // queue_depth is 4
}

TEST_CASE("a real error of the kernel comes through either engine") {
  for (const EngineMaker& engine : engines()) {
    const Directory directory;
    ChunkFile file(directory.options(), [&](int, int depth, FileEngine::Done done) {
      return engine(-1, depth, std::move(done));  // no file at all
    });
    check_says(error_of<RunError>([&] { write(file, 0, Buffer(1)); }), {"cannot write chunk 0", std::strerror(EBADF)});
  }
}

TEST_CASE("a file cut off under us is an error, not zeros") {
  for (const EngineMaker& engine : engines()) {
    const Directory directory;
    int descriptor = -1;
    ChunkFile file(directory.options(), [&](int fd, int depth, FileEngine::Done done) {
      descriptor = fd;
      return engine(fd, depth, std::move(done));
    });
    const Buffer wrote(5), got;
    write(file, 2, wrote);
    REQUIRE(::ftruncate(descriptor, 2 * kChunkBytes + kBlock) == 0);
    check_says(error_of<RunError>([&] { read(file, 2, got); }),
               {"cannot read chunk 2", "from its byte 4096 on", "no progress"});
  }
}

TEST_CASE("one flipped bit is found, wherever it is") {
  for (const EngineMaker& engine : engines()) {
    const Directory directory;
    std::string second_way;
    ChunkFile file(directory.options(), [&](int fd, int depth, FileEngine::Done done) {
      second_way = "/proc/self/fd/" + std::to_string(fd);
      return engine(fd, depth, std::move(done));
    });
    const Buffer wrote(5), got;
    const FileDescriptor other(::open(second_way.c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(other.get() >= 0);
    for (const size_t at : {size_t{0}, kBlock + 1234, kChunkBytes - 1}) {
      for (int64_t i = 0; i < kChunks; ++i) write(file, i, wrote);
      const off_t offset = static_cast<off_t>(2 * kChunkBytes + at);
      unsigned char byte = 0;
      REQUIRE(::pread(other.get(), &byte, 1, offset) == 1);
      byte ^= 0x10;
      REQUIRE(::pwrite(other.get(), &byte, 1, offset) == 1);
      check_says(error_of<RunError>([&] { read(file, 2, got); }),
                 {"chunk 2 of the scratch file " + directory.path() + "/state", "is not what was written",
                  "zero.nvme_path", "the last checkpoint is intact"});
      for (const int64_t i : {1, 3}) CHECK_NOTHROW(read(file, i, got));
    }
    // Two chunks that changed places are as wrong as a flipped bit.
    write(file, 2, Buffer(6));
    REQUIRE(::pwrite(other.get(), wrote.data(), kChunkBytes, static_cast<off_t>(2 * kChunkBytes)) ==
            static_cast<ssize_t>(kChunkBytes));
    check_says(error_of<RunError>([&] { read(file, 2, got); }), {"chunk 2", "is not what was written"});
  }
}

TEST_CASE("a rank without state has an empty file") {
  const Directory directory;
  ChunkFile::Options options = directory.options();
  options.chunks = 0;
  const Buffer buffer;
  ChunkFile file(options);
  check_says(file.describe(), {"0 chunks of 16.0 KiB, 0 B reserved"});
  CHECK_THROWS_AS(file.start_read(0, buffer.data()), InternalError);
}

TEST_CASE("a disk that is too small is found at the start") {
  const Directory directory;
  ChunkFile::Options options = directory.options();
  options.chunk_bytes = size_t{1} << 40;
  options.chunks = 1 << 20;
  check_says(error_of<RunError>([&] { const ChunkFile file(options); }),
             {"needs ", "(1152921504606846976 bytes) in " + directory.path(), " is free: not enough",
              "free space there", "zero.nvme_path"});
  CHECK(fs::is_empty(directory.path()));
}

TEST_CASE("a limit of file sizes is found at the start and kills nobody") {
  const Directory directory;
  struct rlimit before {};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  struct rlimit low = before;
  low.rlim_cur = kChunkBytes;
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &low) == 0);
  std::string text;
  try {
    const ChunkFile file(directory.options());
  } catch (const RunError& error) {
    text = error.what();
  }
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  check_says(text, {"needs 144.0 KiB (147456 bytes)", "16384 bytes at most (ulimit -f)"});
}

TEST_CASE("a directory is made, or refused with the key that names it") {
  const Directory directory;
  ChunkFile::Options options = directory.options();
  options.directory += "/node/rank-3";
  { const ChunkFile file(options); }
  CHECK(fs::is_directory(options.directory));

  const FileDescriptor plain(::open((directory.path() + "/plain").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  options.directory = directory.path() + "/plain";
  check_says(error_of<UserError>([&] { const ChunkFile file(options); }), {options.directory, "zero.nvme_path"});
  options.directory = "/proc";  // exists, and nobody can write there
  check_says(error_of<UserError>([&] { const ChunkFile file(options); }), {"in /proc: ", "zero.nvme_path"});
}

TEST_CASE("transfers are started, not done: the caller goes on") {
  const Directory directory;
  HeldEngine* held = nullptr;
  auto file = std::make_unique<ChunkFile>(directory.options(), [&](int fd, int depth, FileEngine::Done done) {
    auto engine = std::make_unique<HeldEngine>(make_thread_engine(fd, depth, std::move(done)));
    held = engine.get();
    return engine;
  });
  const Buffer wrote(1), other(2), got;
  ChunkFile::Ticket first = file->start_write(0, wrote.data());  // an engine that waits would never get past here
  ChunkFile::Ticket second = file->start_write(1, other.data()), copy = second;

  // While they are under way: the caller's mistakes.
  CHECK_THROWS_AS(file->start_read(0, got.data()), InternalError);
  CHECK_THROWS_AS(file->start_write(1, wrote.data()), InternalError);
  held->release();
  file->wait(second);
  CHECK_THROWS_AS(file->wait(copy), InternalError);  // once
  file->wait(first);
  ChunkFile::Ticket a = file->start_read(0, got.data()), b = file->start_read(0, other.data());  // two readers
  CHECK_THROWS_AS(file->start_write(0, wrote.data()), InternalError);
  held->release();
  file->wait(a);
  file->wait(b);
  CHECK(got == wrote);
  CHECK(other == wrote);

  // The end waits for what is under way: the memory is the caller's again afterwards.
  const Buffer last(9);
  file->start_read(1, last.data());
  std::atomic<bool> released = false;
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    released = true;
    held->release();
  });
  file.reset();
  CHECK(released);
  CHECK(last == Buffer(2));
  later.join();
}

TEST_CASE("what the caller may not do is an error of ours") {
  const Directory directory;
  ChunkFile file(directory.options(), make_thread_engine);
  const Buffer buffer(1);
  CHECK_THROWS_AS(file.start_write(0, buffer.data() + 8), InternalError);
  CHECK_THROWS_AS(file.start_read(0, nullptr), InternalError);
  CHECK_THROWS_AS(file.start_read(-1, buffer.data()), InternalError);
  CHECK_THROWS_AS(file.start_write(kChunks, buffer.data()), InternalError);
  std::vector<ChunkFile::Ticket> tickets;
  for (int64_t i = 0; i < 4; ++i) tickets.push_back(file.start_write(i, buffer.data()));
  CHECK_THROWS_AS(file.start_write(4, buffer.data()), InternalError);  // queue_depth is 4
  for (ChunkFile::Ticket& ticket : tickets) file.wait(ticket);
  CHECK_NOTHROW(write(file, 4, buffer));

  const auto refused = [&](auto change) {
    ChunkFile::Options options = directory.options();
    change(options);
    CHECK_THROWS_AS(ChunkFile(options), InternalError);
  };
  refused([](ChunkFile::Options& options) { options.chunk_bytes = 4097; });
  refused([](ChunkFile::Options& options) { options.chunk_bytes = 0; });
  refused([](ChunkFile::Options& options) { options.chunks = -1; });
  refused([](ChunkFile::Options& options) { options.chunks = int64_t{1} << 60; });
  refused([](ChunkFile::Options& options) { options.queue_depth = 0; });
}
