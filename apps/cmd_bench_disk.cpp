// trident bench disk DIRECTORY: how fast a directory takes and gives back offloaded state, through the file that runs
// use (core/device/chunk_file.h), checksums included.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "apps/bench.h"
#include "core/base/error.h"
#include "core/device/chunk_file.h"

namespace trident {
namespace {

struct Size {
  size_t chunk_bytes = size_t{64} << 20;
  int64_t chunks = 16;
  int passes = 2;
};
constexpr Size kTiny{.chunk_bytes = 4096, .chunks = 8, .passes = 1};

/// Memory that O_DIRECT takes, not zero: disks may make zeros cheaper than data.
class Buffer {
 public:
  explicit Buffer(size_t bytes) : memory_(::operator new(bytes, std::align_val_t(ChunkFile::kAlign))) {
    uint64_t state = 1;
    for (size_t i = 0; i < bytes / 8; ++i) {
      static_cast<uint64_t*>(memory_)[i] = state = state * 6364136223846793005u + 1442695040888963407u;
    }
  }
  ~Buffer() { ::operator delete(memory_, std::align_val_t(ChunkFile::kAlign)); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void* data() const { return memory_; }

 private:
  void* memory_;
};

enum class Pass { write, read, update };

/// Bytes/s of one pass over the file with `depth` transfers under way. An update reads each chunk and writes it back.
double measure(ChunkFile& file, const std::vector<std::unique_ptr<Buffer>>& buffers, Pass pass, int64_t depth) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  std::vector<ChunkFile::Ticket> tickets(static_cast<size_t>(depth));
  // An update's reads run half the depth ahead of its writes.
  const int64_t ahead = pass == Pass::update ? (depth + 1) / 2 : 0;
  for (int64_t i = 0; i < file.chunks() + ahead; ++i) {
    const auto now = static_cast<size_t>(i % depth), behind = static_cast<size_t>((i + depth - ahead) % depth);
    if (i < file.chunks()) {
      file.wait(tickets[now]);
      void* const buffer = buffers[now]->data();
      tickets[now] = pass == Pass::write ? file.start_write(i, buffer) : file.start_read(i, buffer);
    }
    if (pass == Pass::update && i >= ahead) {
      file.wait(tickets[behind]);
      tickets[behind] = file.start_write(i - ahead, buffers[behind]->data());
    }
  }
  for (ChunkFile::Ticket& ticket : tickets) file.wait(ticket);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  const double bytes = static_cast<double>(file.chunk_bytes()) * static_cast<double>(file.chunks());
  return bytes * (pass == Pass::update ? 2 : 1) / seconds;
}

void bench_engine(const std::string& directory, const Size& size, const EngineMaker& engine) {
  constexpr int kMostDepth = 4;
  ChunkFile file({.directory = directory,
                  .chunk_bytes = size.chunk_bytes,
                  .chunks = size.chunks,
                  .queue_depth = kMostDepth,
                  .name = "trident-bench"},
                 engine);
  std::printf("%s\n%-12s %12s %12s %12s\n", file.describe().c_str(), "under way", "write", "read", "read + write");
  std::vector<std::unique_ptr<Buffer>> buffers;
  for (int i = 0; i < kMostDepth; ++i) buffers.push_back(std::make_unique<Buffer>(size.chunk_bytes));
  measure(file, buffers, Pass::write, kMostDepth);  // the first writes also give the reserved space its meaning
  for (int depth = 2; depth <= kMostDepth; ++depth) {
    double best[3] = {};
    for (int pass = 0; pass < size.passes; ++pass) {
      for (const Pass kind : {Pass::write, Pass::read, Pass::update}) {
        double& rate = best[static_cast<int>(kind)];
        rate = std::max(rate, measure(file, buffers, kind, depth));
      }
    }
    std::printf("%-12d %7.2f GB/s %7.2f GB/s %7.2f GB/s\n", depth, best[0] * 1e-9, best[1] * 1e-9, best[2] * 1e-9);
  }
}

}  // namespace

void bench_disk(const std::string& directory, bool tiny) {
  const Size size = tiny ? kTiny : Size{};
  bench_engine(directory, size, make_thread_engine);
  try {
    bench_engine(directory, size, make_uring_engine);
  } catch (const UringRefused& refused) {
    std::printf("%s\n", refused.what());
  }
}

}  // namespace trident
