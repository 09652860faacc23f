// What the subcommands of `trident bench` share: shapes, tensors that live as long as a measurement, times.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/device/device.h"

namespace trident {

/// Of GPT-2 124M with 4 x 1024 tokens and a head in chunks.
///
/// Legend: T tokens, D hidden, F ffn, V vocabulary, C context, H heads, K head size.
struct BenchShape {
  int64_t t = 4096, d = 768, f = 3072, v = 50257, c = 1024, h = 12, k = 64, chunk = 512;
  int64_t parameters = 100'000'000;    ///< of AdamW
  int64_t stream = int64_t{64} << 20;  ///< f32 elements of the bandwidth's arrays: much larger than the caches
};
/// To see that everything runs.
constexpr BenchShape kTinyBench{
    .t = 64, .d = 64, .f = 128, .v = 257, .c = 32, .h = 2, .k = 32, .chunk = 16, .parameters = 4096, .stream = 4096};

/// Tensors on a device that live as long as one measurement.
class Room {
 public:
  explicit Room(Device& device) : device_(device) {}

  Tensor make(DType, std::initializer_list<int64_t> shape);
  /// Small numbers of either sign, so that no operation meets a special case.
  Tensor fill(DType, std::initializer_list<int64_t> shape);
  Tensor ids(int64_t n, int64_t vocabulary);
  Tensor scratch(size_t bytes) { return bytes == 0 ? Tensor{} : make(DType::u8, {static_cast<int64_t>(bytes)}); }

 private:
  template <class T, class Value>
  Tensor upload(Tensor, Value);

  Device& device_;
  std::vector<Memory> memory_;
};

/// Seconds of a call, of `calls` in a row.
double seconds_of(Device&, const std::function<void()>& call, int calls);

/// How many calls make a sample that is long enough: what submitting short operations to a GPU costs then overlaps.
int calls_of_a_sample(double seconds_of_one);

/// Seconds of the fastest of a few samples, after a call that warms up.
double fastest(Device&, const std::function<void()>& call);

/// Where an operation writes, which decides what its memory can give: a line that is not read before it is written is
/// read all the same, but nobody counts that.
enum class Traffic : uint8_t {
  reading,    ///< next to nothing is written
  in_place,   ///< over what was read
  elsewhere,  ///< to other memory
};

/// The streams over f32 that operations bound by memory are measured against: reading x, x *= s, and y = x s from one
/// half of the array to the other. On a GPU the second for all.
class MemoryStream {
 public:
  MemoryStream(Device& device, bool on_cpu, int64_t elements);
  /// One pass that moves `bytes` in all, or as many as there are in the arrays. Returns how many.
  double run(double bytes, Traffic) const;

 private:
  Device& device_;
  bool on_cpu_;
  Room room_;
  Tensor x_;
};

/// Medians of a few pairs.
struct BesideStream {
  double seconds = 0;      ///< of the call
  double stream_rate = 0;  ///< bytes/s
};
/// A call that moves `bytes`, and the stream over as many bytes, in turn, so that both meet the same machine.
BesideStream beside_stream(Device&, const MemoryStream&, double bytes, Traffic, const std::function<void()>& call);

/// An update of `count` parameters of `dtype` with moments of `state`, all zero: memory comes so.
AdamWArgs adamw_args(Room&, int64_t count, DType dtype, DType state);

/// Seconds of the head of a model in training, and of its products alone: the fastest of a few, taken in turn.
struct HeadTimes {
  double head = 0, products = 0;
};
HeadTimes time_head(Device&, const BenchShape&, DType);

/// The subcommands. `measure_peak` gives the FLOP/s of the best GEMM in a dtype.
void bench_ops(Device&, bool on_cpu, const BenchShape&, const std::function<double(DType)>& measure_peak);
void bench_adamw(Device&, bool on_cpu, const BenchShape&);
void bench_attention(Device&, int64_t context, int64_t tokens);
void bench_disk(const std::string& directory, bool tiny);
void bench_comm(bool tiny);

}  // namespace trident
