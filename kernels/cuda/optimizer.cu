// AdamW in one pass: master, moments and gradient are read once, 16 bytes a thread each (8 of bf16 moments), and
// everything that changes is written in the same visit, its rounding included.
#include <cmath>

#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/families.h"
#include "kernels/cuda/random.h"

namespace trident::cuda {
namespace {

/// What AdamW needs per call, with the powers taken in double (PyTorch's bias corrections are doubles too).
struct Factors {
  float decay, one_minus_beta1, beta2, one_minus_beta2, step_size = 0, inverse_sqrt_correction2 = 0, eps, grad_scale;

  explicit Factors(const AdamWArgs& args) : beta2(args.beta2), eps(args.eps), grad_scale(args.grad_scale) {
    const double t = static_cast<double>(args.step), b1 = args.beta1, b2 = args.beta2, lr = args.lr;
    decay = static_cast<float>(1.0 - lr * static_cast<double>(args.weight_decay));
    one_minus_beta1 = static_cast<float>(1.0 - b1);
    one_minus_beta2 = static_cast<float>(1.0 - b2);
    if (args.control_4.defined()) return;  // the device knows the rest
    step_size = static_cast<float>(lr / (1.0 - std::pow(b1, t)));
    inverse_sqrt_correction2 = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(b2, t)));
  }
};

/// How the weight follows the master: nobody has one, rounded to nearest even, or rounded at random (bf16).
enum class Rounding { none, nearest, stochastic };

/// A value whose rounding to bf16, at random with the upper half of `word`, is itself: a bf16 is the upper half of a
/// float, so that the pack which stores it has nothing left to round.
SIMT_DEV float rounded_at_random(float x, uint32_t word) {
  return __uint_as_float(static_cast<uint32_t>(stochastic_bf16(__float_as_uint(x), word)) << 16);
}

template <class S, class W, Rounding kRounding>
struct AdamW {
  float* master;
  const float* grad;
  S *m, *v;
  W* weight;
  Factors f;
  const float* control;  ///< a StepControl, or nullptr
  RandomKey rounding_key, state_key;
  ElementIndex element;

  template <int kWidth>
  SIMT_DEV void run(int64_t i) const {
    float grad_scale = f.grad_scale, step_size = f.step_size, inverse_sqrt_correction2 = f.inverse_sqrt_correction2;
    if (control != nullptr) {
      if (control[3] == 0.0f) return;
      grad_scale = control[0], step_size = control[1], inverse_sqrt_correction2 = control[2];
    }
    using Floats = Pack<float, kWidth>;
    Floats w = Floats::load(master + i);
    Pack<S, kWidth> m_t = Pack<S, kWidth>::load(m + i), v_t = Pack<S, kWidth>::load(v + i);
    const Floats g = Floats::load(grad + i);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      const float scaled = g.value[j] * grad_scale;
      m_t.value[j] += (scaled - m_t.value[j]) * f.one_minus_beta1;
      v_t.value[j] = v_t.value[j] * f.beta2 + scaled * scaled * f.one_minus_beta2;
    }
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      const float denominator = sqrtf(v_t.value[j]) * inverse_sqrt_correction2 + f.eps;
      w.value[j] = w.value[j] * f.decay - step_size * m_t.value[j] / denominator;
    }
    w.store(master + i);
    store_state(m_t, v_t, i);
    store_weight(w, i);
  }

 private:
  template <int kWidth>
  SIMT_DEV void store_state(Pack<S, kWidth>& m_t, Pack<S, kWidth>& v_t, int64_t i) const {
    if constexpr (!std::is_same_v<S, float>) {
      uint32_t word[kWidth];
      random_words(state_key, element(i), word);
#pragma unroll
      for (int j = 0; j < kWidth; ++j) {
        m_t.value[j] = rounded_at_random(m_t.value[j], word[j]);
        v_t.value[j] = rounded_at_random(v_t.value[j], word[j] << 16);
      }
    }
    m_t.store(m + i);
    v_t.store(v + i);
  }
  template <int kWidth>
  SIMT_DEV void store_weight(const Pack<float, kWidth>& w, int64_t i) const {
    Pack<W, kWidth> out;
    if constexpr (kRounding == Rounding::stochastic) {
      uint32_t word[kWidth];
      random_words(rounding_key, element(i), word);
#pragma unroll
      for (int j = 0; j < kWidth; ++j) out.value[j] = rounded_at_random(w.value[j], word[j]);
      out.store(weight + i);
    } else if constexpr (kRounding == Rounding::nearest) {
#pragma unroll
      for (int j = 0; j < kWidth; ++j) out.value[j] = w.value[j];
      out.store(weight + i);
    }
  }
};

template <class S, class W, Rounding kRounding>
void run_adamw(cudaStream_t stream, const AdamWArgs& args, bool wide) {
  const AdamW<S, W, kRounding> body{.master = at<float>(args.master),
                                    .grad = at<const float>(args.grad),
                                    .m = at<S>(args.m),
                                    .v = at<S>(args.v),
                                    .weight = at<W>(args.weight),
                                    .f = Factors(args),
                                    .control = args.control_4.defined() ? at<const float>(args.control_4) : nullptr,
                                    .rounding_key = args.rounding_key,
                                    .state_key = args.state_key,
                                    .element = args.element};
  run_elements<kCommonWidth<float>>(stream, "adamw", args.master.numel(), wide, body);
}

/// By the weight, for moments of type S.
template <class S>
void run_adamw(cudaStream_t stream, const AdamWArgs& args) {
  // A pack that draws must begin with a Philox block, too.
  const bool draws = args.stochastic_state || args.stochastic_rounding;
  bool wide = aligned(args.master) && aligned(args.m) && aligned(args.v) && aligned(args.grad) &&
              (!draws || args.element.in_fours());
  if (!args.weight.defined() || args.weight.data == args.master.data) {
    run_adamw<S, float, Rounding::none>(stream, args, wide);
    return;
  }
  wide = wide && aligned(args.weight);
  if (args.stochastic_rounding) {
    run_adamw<S, __nv_bfloat16, Rounding::stochastic>(stream, args, wide);
    return;
  }
  with_float(args.weight.dtype,
             [&](auto tag) { run_adamw<S, typename decltype(tag)::type, Rounding::nearest>(stream, args, wide); });
}

}  // namespace

void adamw(cudaStream_t stream, const AdamWArgs& args) {
  if (args.stochastic_state) {
    run_adamw<__nv_bfloat16>(stream, args);
  } else {
    run_adamw<float>(stream, args);
  }
}

}  // namespace trident::cuda
