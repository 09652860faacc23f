// What the MPI tests share: a world, streams, and data that every rank can predict.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "core/base/tensor.h"
#include "core/comm/grid.h"
#include "core/device/host_stream.h"
#include "support/catch.h"

namespace trident::testing {

/// A world with its streams; `limits` small enough to reach the paths of big tensors.
struct Job {
  explicit Job(const CommLimits& limits = {}, double timeout_seconds = 60)
      : world(make_mpi_world(std::chrono::duration<double>(timeout_seconds), limits)) {}

  std::unique_ptr<World> world;
  HostStream compute{HostStream::Mode::in_place}, comm{HostStream::Mode::worker}, send{HostStream::Mode::worker};
};

inline void synchronize(HostStream& stream) { stream.wait_for(stream.last_ticket()); }

/// Writes x, rounded to the dtype, as element i.
inline void put(Tensor t, int64_t i, double x) {
  switch (t.dtype) {
    case DType::f32: t.as<float>()[i] = static_cast<float>(x); return;
    case DType::bf16: t.as<bf16>()[i] = bf16(static_cast<float>(x)); return;
    case DType::f16: t.as<f16>()[i] = f16(static_cast<float>(x)); return;
    case DType::f64: t.as<double>()[i] = x; return;
    case DType::i64: t.as<int64_t>()[i] = static_cast<int64_t>(x); return;
    default: FAIL("no such dtype in these tests");
  }
}

inline double get(const Tensor& t, int64_t i) {
  switch (t.dtype) {
    case DType::f32: return t.as<float>()[i];
    case DType::bf16: return static_cast<double>(static_cast<float>(t.as<bf16>()[i]));
    case DType::f16: return static_cast<double>(static_cast<float>(t.as<f16>()[i]));
    case DType::f64: return t.as<double>()[i];
    case DType::i64: return static_cast<double>(t.as<int64_t>()[i]);
    default: return 0;
  }
}

/// A tensor that owns its bytes.
class Buffer {
 public:
  Buffer(DType dtype, int64_t count)
      : bytes_(static_cast<size_t>(count) * dtype_bytes(dtype) + 1), tensor_(bytes_.data(), dtype, {count}) {}
  Tensor& operator*() { return tensor_; }
  Tensor* operator->() { return &tensor_; }

  /// Standard normals (times 100 for i64) that depend on the rank and the index only.
  Buffer& fill_random(int rank) {
    const RandomKey key{42, 0, static_cast<uint32_t>(rank)};
    const double scale = tensor_.dtype == DType::i64 ? 100 : 1;
    for (int64_t i = 0; i < tensor_.numel(); ++i) put(tensor_, i, scale * static_cast<double>(random_normal(key, i)));
    return *this;
  }

 private:
  std::vector<std::byte> bytes_;
  Tensor tensor_;
};

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.dtype == b.dtype && a.numel() == b.numel() &&
         (a.numel() == 0 || std::memcmp(a.data, b.data, a.bytes()) == 0);
}

inline const std::vector<DType> kReducible = {DType::f32, DType::bf16, DType::f16, DType::f64, DType::i64};

}  // namespace trident::testing
