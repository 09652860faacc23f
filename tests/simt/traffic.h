// What an operation moves over the bus, held against the least it could: every input byte once, every output byte once.
//
// The emulator counts 32-byte sectors as the warps ask for them and knows no cache. Two kinds of traffic therefore do
// not reach memory and have numbers of their own, to be argued where they are given: what blocks read again that others
// have read just before (a norm's weights), and what one kernel leaves for the next (partial sums).
#pragma once

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "emulated_room.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/simt/counters.h"
#include "kernels/simt/runtime.h"
#include "support/catch.h"

namespace trident::simt_tests {

struct Bound {
  std::string operation;  ///< for messages and the audit
  int64_t minimum = 0;    ///< bytes
  int64_t cached = 0;     ///< bytes that only caches see
  int64_t scattered = 0;  ///< sectors beyond the ideal
};

/// The CUDA table on the emulated device, and device tensors full of zeros.
class TrafficBench {
 public:
  TrafficBench() { simt::opt.order = simt::Order::Ascending; }
  ~TrafficBench() { room_.release_all(); }

  /// False in fast mode, where no access is seen; says so.
  static bool counts() {
    if (simt::checked && simt::opt.count_accesses) return true;
    WARN("not run: memory traffic is counted in the checked flavour only (test_simt_checked)");
    return false;
  }

  const Ops& ops() const { return *ops_; }
  Stream stream() const { return room_.stream(); }

  Tensor tensor(DType dtype, std::initializer_list<int64_t> shape) {
    Tensor t(nullptr, dtype, shape, Place::device);
    return fill(t, std::vector<char>(t.bytes()));
  }
  template <class T>
  Tensor vector(const std::vector<T>& values) {
    const char* bytes = reinterpret_cast<const char*>(values.data());
    return fill(Tensor(nullptr, DTypeOf<T>::value, {static_cast<int64_t>(values.size())}, Place::device),
                {bytes, bytes + values.size() * sizeof(T)});
  }
  Tensor scratch(size_t bytes) { return bytes == 0 ? Tensor() : tensor(DType::u8, {static_cast<int64_t>(bytes)}); }

  /// Runs an operation and checks what its kernels moved, all together.
  template <class F>
  void measure(const Bound& bound, F operation) {
    int64_t bytes = 0, extra_sectors = 0;
    uint64_t conflicts = 0;
    for (const auto& [kernel, c] : run(bound.operation, operation)) {
      const uint64_t sectors = c.loads.sectors + c.stores.sectors;
      bytes += static_cast<int64_t>(32 * sectors);
      extra_sectors += static_cast<int64_t>(sectors - c.loads.ideal_sectors - c.stores.ideal_sectors);
      conflicts += c.shared.conflicts() + c.ldmatrix_rows.conflicts();
    }
    INFO(bound.operation << ": moved " << bytes << " bytes of " << bound.minimum << ", " << bound.cached << " cached; "
                         << extra_sectors << " sectors too many, " << conflicts << " bank conflicts");
    CHECK(bytes >= bound.minimum);
    CHECK(10 * (bytes - bound.cached) <= 11 * bound.minimum);
    CHECK(extra_sectors <= bound.scattered);
    CHECK(conflicts == 0);
  }

  /// Runs an operation; the counters of its kernels, which the file that TRIDENT_AUDIT names gets as well.
  template <class F>
  std::map<std::string, simt::Counters> run(const std::string& name, F operation) {
    simt::reset_counters();
    operation();
    REQUIRE(cudaStreamSynchronize(static_cast<cudaStream_t>(stream().handle)) == cudaSuccess);
    const std::map<std::string, simt::Counters> all = simt::counters();
    CHECK_FALSE(all.empty());
    for (const auto& [kernel, c] : all) record(name, kernel, c);
    return all;
  }

 private:
  Tensor fill(Tensor t, const std::vector<char>& bytes) {
    t.data = room_.alloc(bytes.size());
    room_.upload(static_cast<char*>(t.data), bytes);
    return t;
  }

  /// One JSON object a line. `minimum`: bytes the kernel touched, each counted once for reading and once for writing.
  static void record(const std::string& operation, const std::string& kernel, const simt::Counters& c) {
    const char* path = std::getenv("TRIDENT_AUDIT");
    if (path == nullptr) return;
    std::FILE* file = std::fopen(path, "a");
    REQUIRE(file != nullptr);
    const auto number = [&](const char* key, uint64_t value) {
      std::fprintf(file, ", \"%s\": %llu", key, static_cast<unsigned long long>(value));
    };
    std::fprintf(file, R"({"operation": "%s", "kernel": "%s")", operation.c_str(), kernel.c_str());
    number("launches", c.launches);
    number("blocks", c.blocks);
    number("largest_block", c.largest_block);
    number("static_shared", c.static_shared);
    number("dynamic_shared", c.dynamic_shared);
    number("mma", c.mma);
    number("minimum", c.loads.unique_bytes + c.stores.unique_bytes);
    number("sectors", c.loads.sectors + c.stores.sectors);
    number("ideal_sectors", c.loads.ideal_sectors + c.stores.ideal_sectors);
    number("conflicts", c.shared.conflicts() + c.ldmatrix_rows.conflicts());
    std::fprintf(file, "}\n");
    std::fclose(file);
  }

  cases::EmulatedRoom room_;
  std::unique_ptr<Ops> ops_ = make_cuda_ops();
};

}  // namespace trident::simt_tests
