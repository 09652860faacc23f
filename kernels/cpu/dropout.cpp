#include "kernels/cpu/dropout.h"

#include <algorithm>

#include "kernels/cpu/random.h"
#include "kernels/cpu/simd.h"

namespace trident::cpu {
namespace {

/// `factor(i, lanes)` gives the factors of elements i...; 1 without dropout.
template <class T, class Factor>
void add_scaled(T* y, const T* x, const T* z, int64_t count, Factor factor) {
  if (x == nullptr) {
    vector_steps(0, count, [&](int64_t i, auto lanes) { store(y + i, load(z + i, lanes) * factor(i, lanes), lanes); });
    return;
  }
  vector_steps(0, count, [&](int64_t i, auto lanes) {
    fetch_ahead(x + i), fetch_ahead(z + i);
    const VecF x_i = load(x + i, lanes), z_i = load(z + i, lanes), f_i = factor(i, lanes);
    store(y + i, x_i + z_i * f_i, lanes);
  });
}

}  // namespace

template <class T>
void dropout_add_run(T* y, const T* x, const T* z, int64_t count, const DropoutSpec& drop, uint64_t first) {
  if (drop.p == 0) return add_scaled(y, x, z, count, [](int64_t, auto) { return broadcast(1.0f); });
  constexpr int64_t kRun = 512;  // factors made at a time
  float made[kRun];
  for (int64_t begin = 0; begin < count; begin += kRun) {
    const int64_t n = std::min(kRun, count - begin);
    dropout_factors(drop.key, first + static_cast<uint64_t>(begin), n, drop.p, made);
    add_scaled(y + begin, x == nullptr ? nullptr : x + begin, z + begin, n,
               [&](int64_t i, auto lanes) { return load(made + i, lanes); });
  }
}

template void dropout_add_run(float*, const float*, const float*, int64_t, const DropoutSpec&, uint64_t);
template void dropout_add_run(bf16*, const bf16*, const bf16*, int64_t, const DropoutSpec&, uint64_t);
template void dropout_add_run(f16*, const f16*, const f16*, int64_t, const DropoutSpec&, uint64_t);

}  // namespace trident::cpu
