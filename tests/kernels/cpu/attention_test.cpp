// The CPU's attention in f32 beyond the case list, whose bounds are those of any order of sums: nothing is lost where
// products run on tiles of bf16 parts.
#include <cmath>
#include <vector>

#include "core/base/rng.h"
#include "kernels/cpu/attention_amx.h"
#include "kernels/cpu/families.h"
#include "kernels/reference/reference_ops.h"
#include "support/catch.h"

using namespace trident;

namespace {

constexpr int64_t kContext = 224, kHeads = 2, kSize = 64, kWidth = 3 * kHeads * kSize;

/// An attention's tensors, its inputs the same numbers in every T.
template <class T>
struct Call {
  std::vector<T> qkv, out, lse, dout, dqkv;
  std::vector<char> scratch;

  Call()
      : qkv(kContext * kWidth),
        out(kContext * kHeads * kSize),
        lse(kHeads * kContext),
        dout(out.size()),
        dqkv(qkv.size()) {
    const RandomKey key{5, 0, 1};
    for (size_t i = 0; i < qkv.size(); ++i) qkv[i] = static_cast<T>(4 * (uniform01(random_u32(key, i)) - 0.5f));
    for (size_t i = 0; i < dout.size(); ++i) dout[i] = static_cast<T>(uniform01(random_u32(key, qkv.size() + i)));
  }
  AttentionArgs forward() {
    constexpr DType dtype = DTypeOf<T>::value;
    AttentionArgs args;
    args.out = Tensor(out.data(), dtype, {kContext, kHeads * kSize});
    args.lse = Tensor(lse.data(), dtype, {1, kHeads, kContext});
    args.qkv = Tensor(qkv.data(), dtype, {kContext, kWidth});
    args.context = kContext, args.heads = args.kv_heads = args.heads_total = kHeads, args.head_size = kSize;
    args.scale = 0.125f;
    return args;
  }
  AttentionBackwardArgs backward() {
    return {forward(),
            Tensor(dqkv.data(), DTypeOf<T>::value, {kContext, kWidth}),
            Tensor(dout.data(), DTypeOf<T>::value, {kContext, kHeads * kSize}),
            {}};
  }
  Tensor room(size_t bytes) {
    scratch.resize(bytes);
    return Tensor(scratch.data(), DType::u8, {static_cast<int64_t>(bytes)});
  }
};

/// Root mean square of the errors, relative to that of the exact numbers.
double error(const std::vector<float>& got, const std::vector<double>& exact) {
  double squares = 0, errors = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    squares += exact[i] * exact[i];
    errors += std::pow(static_cast<double>(got[i]) - exact[i], 2);
  }
  return std::sqrt(errors / squares);
}

}  // namespace

TEST_CASE("attention in f32 errs like f32 where its products run on tiles of bf16") {
  Call<float> call;
  Call<double> exact;
  AttentionArgs forward = call.forward();
  if (!cpu::attention_takes_amx(forward)) {
    WARN("not run: this build or this processor has no AMX");
    return;
  }
  forward.scratch = call.room(cpu::attention_scratch_bytes(forward));
  cpu::attention_forward(forward);
  AttentionBackwardArgs backward = call.backward();
  backward.scratch = call.room(cpu::attention_scratch_bytes(backward));
  cpu::attention_backward(backward);
  const auto reference = make_reference_ops();
  reference->attention_forward({}, exact.forward());
  reference->attention_backward({}, exact.backward());
  // Scores of up to 10 carry errors of a few 2^-24 into e^x. Two parts instead of three would err by 2^-17.
  constexpr double kBound = 0x1p-21;
  CHECK(error(call.out, exact.out) < kBound);
  CHECK(error(call.dqkv, exact.dqkv) < kBound);
}
