#include "kernels/cpu/dropout.h"

#include "kernels/cpu/philox.h"
#include "kernels/cpu/simd.h"

namespace trident::cpu {

template <class T>
void dropout_add_run(T* y, const T* x, const T* z, int64_t count, const DropoutSpec& drop, uint64_t first) {
  const auto add = [=](int64_t i, VecF factor, auto lanes) {
    fetch_ahead(x + i), fetch_ahead(z + i);
    store(y + i, load(x + i, lanes) + load(z + i, lanes) * factor, lanes);
  };
  const auto scale = [=](int64_t i, VecF factor, auto lanes) {
    fetch_ahead(z + i);
    store(y + i, load(z + i, lanes) * factor, lanes);
  };
  const auto run = [&](auto join) {
    if (drop.p == 0) {
      vector_steps(0, count, [&](int64_t i, auto lanes) { join(i, broadcast(1.0f), lanes); });
    } else {
      const DropoutFactor factor(drop.p);
      for_words(drop.key, first, count, [=](int64_t i, VecU words, auto lanes) { join(i, factor.of(words), lanes); });
    }
  };
  x == nullptr ? run(scale) : run(add);
}

template void dropout_add_run(float*, const float*, const float*, int64_t, const DropoutSpec&, uint64_t);
template void dropout_add_run(bf16*, const bf16*, const bf16*, int64_t, const DropoutSpec&, uint64_t);
template void dropout_add_run(f16*, const f16*, const f16*, int64_t, const DropoutSpec&, uint64_t);

}  // namespace trident::cpu
