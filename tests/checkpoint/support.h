// Helpers of the checkpoint tests: a temporary directory, ranks that are threads, tensors with known elements, and the
// cuts by which a grid would split them.
#pragma once

#include <unistd.h>

#include <barrier>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "core/checkpoint/store.h"
#include "core/comm/communicator.h"

namespace trident::test {

/// Where a test's files lie: on a disk, for the whole path of a save, or in memory, for thousands of small files.
enum class Medium { disk, memory };

/// A fresh directory, removed at the end.
class TempDir {
 public:
  explicit TempDir(Medium medium = Medium::disk) {
    const bool memory = medium == Medium::memory && ::access("/dev/shm", W_OK) == 0;
    std::string pattern = memory ? "/dev/shm" : std::filesystem::temp_directory_path().string();
    pattern += "/trident-ckpt-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) throw RunError("mkdtemp failed");
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void spill(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// The message of what `work` throws; "" when it does not throw E.
template <class E>
std::string message_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const E& error) {
    return error.what();
  }
  return "";
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// Ranks that are threads of this process: enough of a Communicator for the control traffic of the store.
class ThreadGroup {
 public:
  explicit ThreadGroup(int ranks) : barrier_(ranks), slots_(static_cast<size_t>(ranks)) {}

  /// Runs `body(communicator)` on every rank at once; returns what each rank threw, "" for none.
  std::vector<std::string> run(const std::function<void(Communicator&)>& body) {
    std::vector<std::string> errors(slots_.size());
    std::vector<std::thread> threads;
    for (size_t rank = 0; rank < slots_.size(); ++rank) {
      threads.emplace_back([&, rank] {
        Rank self(*this, static_cast<int>(rank));
        try {
          body(self);
        } catch (const std::exception& error) {
          errors[rank] = error.what();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return errors;
  }

 private:
  using Bytes = std::vector<std::byte>;

  class Rank : public Communicator {
   public:
    Rank(ThreadGroup& group, int rank) : group_(group), rank_(rank) {}
    int rank() const override { return rank_; }
    int size() const override { return static_cast<int>(group_.slots_.size()); }
    std::string_view axis() const override { return "world"; }
    void all_reduce(Tensor, Reduce, Stream) override { refuse(); }
    void reduce_scatter(Tensor, Tensor, Reduce, Stream) override { refuse(); }
    void all_gather(Tensor, Tensor, Stream) override { refuse(); }
    void broadcast(Tensor, int, Stream) override { refuse(); }
    void send(Tensor, int, int, Stream) override { refuse(); }
    void recv(Tensor, int, int, Stream) override { refuse(); }
    std::vector<Bytes> all_gather_bytes(std::span<const std::byte> mine) override {
      group_.slots_[static_cast<size_t>(rank_)].assign(mine.begin(), mine.end());
      group_.barrier_.arrive_and_wait();
      std::vector<Bytes> all = group_.slots_;
      group_.barrier_.arrive_and_wait();
      return all;
    }
    void barrier() override { group_.barrier_.arrive_and_wait(); }

   private:
    [[noreturn]] static void refuse() { throw RunError("the store exchanges control data only"); }
    ThreadGroup& group_;
    int rank_;
  };

  std::barrier<> barrier_;
  std::vector<Bytes> slots_;
};

/// A logical tensor with all its elements.
struct Logical {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;
};

inline Logical make_logical(const std::string& name, std::vector<int64_t> shape, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Logical tensor = {name, std::move(shape), {}};
  tensor.values.resize(static_cast<size_t>(shape_numel(tensor.shape)));
  for (float& value : tensor.values) value = normal(random);
  return tensor;
}

/// The slice's elements, by index arithmetic of the plainest kind.
inline std::vector<float> cut(const Logical& tensor, const Slice& slice) {
  std::vector<float> out;
  for (int64_t flat = 0; flat < slice.numel(); ++flat) {
    int64_t rest = flat, from = 0, stride = 1;
    for (size_t d = tensor.shape.size(); d-- > 0;) {
      from += (slice.begin[d] + rest % slice.size[d]) * stride;
      rest /= slice.size[d];
      stride *= tensor.shape[d];
    }
    out.push_back(tensor.values[static_cast<size_t>(from)]);
  }
  return out;
}

/// What one rank holds: slices of tensors and their elements.
struct Holding {
  std::vector<LocalPiece> pieces;
  std::vector<std::unique_ptr<std::vector<float>>> memory;

  void add(const Logical& tensor, const Slice& slice) {
    memory.push_back(std::make_unique<std::vector<float>>(cut(tensor, slice)));
    pieces.push_back({tensor.name, tensor.shape, slice, Tensor(memory.back()->data(), DType::f32, {slice.numel()})});
  }
};

/// A way a grid splits a tensor over its ranks: along dimension `dim` (tensor parallelism), then each part's flat
/// elements among `zero` ranks (ZeRO). Uneven on purpose: part i gets [n*i/parts, n*(i+1)/parts).
struct Cut {
  int dim = 0, parts = 1, zero = 1;
  int ranks() const { return parts * zero; }
};

inline std::vector<Slice> slices_of(const std::vector<int64_t>& shape, const Cut& how, int rank) {
  const size_t dim = static_cast<size_t>(how.dim) % shape.size();
  const int part = rank / how.zero, shard = rank % how.zero;
  Slice box = whole(shape);
  box.begin[dim] = shape[dim] * part / how.parts;
  box.size[dim] = shape[dim] * (part + 1) / how.parts - box.begin[dim];
  const int64_t n = box.numel();
  std::vector<Slice> slices = rectangles(box.size, n * shard / how.zero, n * (shard + 1) / how.zero);
  for (Slice& slice : slices) {
    for (size_t d = 0; d < shape.size(); ++d) slice.begin[d] += box.begin[d];
  }
  return slices;
}

inline Holding hold(const std::vector<Logical>& tensors, const Cut& how, int rank) {
  Holding holding;
  for (const Logical& tensor : tensors) {
    for (const Slice& slice : slices_of(tensor.shape, how, rank)) holding.add(tensor, slice);
  }
  return holding;
}

inline std::vector<Logical> sample_tensors(uint32_t seed = 1) {
  return {make_logical("model.embed.token.weight", {13, 8}, seed),
          make_logical("model.layers.0.norm1.weight", {7}, seed + 1),
          make_logical("model.layers.0.attn.q.weight", {5, 9}, seed + 2),
          make_logical("model.cube", {3, 4, 5}, seed + 3)};
}

inline CheckpointMeta sample_meta(int64_t step) {
  CheckpointMeta meta;
  meta.step = step;
  meta.config = "name: test\nmodel: {arch: gpt2}\n";
  meta.grid = "pp2 x tp2";
  meta.ranks = 4;
  meta.counters = {{"tokens", 4096}, {"skipped_steps", 0}};
  meta.labels = {{"dataset", "9f86d081884c7d65"}};
  meta.probe = ProbeBatch{1, 4, {1, 2, 3, 4}, {2, 3, 4, -1}, 5.545177444479562};
  return meta;
}

/// Writes a checkpoint of these tensors as `how` splits them, one thread per rank; throws what rank 0 threw.
inline std::string save(const std::string& root, int64_t step, const std::vector<Logical>& tensors, const Cut& how,
                        int keep = 100, bool async = false) {
  std::string path;
  const auto errors = ThreadGroup(how.ranks()).run([&](Communicator& world) {
    CheckpointWriter writer({root, keep, async, {}}, world);
    const Holding holding = hold(tensors, how, world.rank());
    auto done = writer.begin_save(holding.pieces, sample_meta(step));
    if (async) done = writer.finish();
    if (world.rank() == 0) path = done.value_or("");
  });
  if (!errors[0].empty()) throw RunError(errors[0]);
  return path;
}

}  // namespace trident::test
