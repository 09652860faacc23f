// AdamW in one pass: master, moments and gradient are read once, 16 bytes a thread each, and everything that changes is
// written in the same visit, the weight's rounding included.
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

template <class W, Rounding kRounding>
struct AdamW {
  float *master, *m, *v, *grad;
  W* weight;
  Factors f;
  const float* control;  ///< a StepControl, or nullptr
  bool zero_grad;
  RandomKey key;
  uint64_t first_word;

  template <int kWidth>
  SIMT_DEV void run(int64_t i) const {
    float grad_scale = f.grad_scale, step_size = f.step_size, inverse_sqrt_correction2 = f.inverse_sqrt_correction2;
    if (control != nullptr) {
      if (control[3] == 0.0f) return;
      grad_scale = control[0], step_size = control[1], inverse_sqrt_correction2 = control[2];
    }
    using Floats = Pack<float, kWidth>;
    Floats w = Floats::load(master + i), m_t = Floats::load(m + i), v_t = Floats::load(v + i);
    const Floats g = Floats::load(grad + i);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      const float scaled = g.value[j] * grad_scale;
      m_t.value[j] += (scaled - m_t.value[j]) * f.one_minus_beta1;
      v_t.value[j] = v_t.value[j] * f.beta2 + scaled * scaled * f.one_minus_beta2;
    }
    m_t.store(m + i);
    v_t.store(v + i);
    if (zero_grad) Floats{}.store(grad + i);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      const float denominator = sqrtf(v_t.value[j]) * inverse_sqrt_correction2 + f.eps;
      w.value[j] = w.value[j] * f.decay - step_size * m_t.value[j] / denominator;
    }
    w.store(master + i);
    store_weight(w, i);
  }

 private:
  template <int kWidth>
  SIMT_DEV void store_weight(const Pack<float, kWidth>& w, int64_t i) const {
    Pack<W, kWidth> out;
    if constexpr (kRounding == Rounding::stochastic) {
      uint32_t word[kWidth];
      random_words(key, first_word + static_cast<uint64_t>(i), word);
#pragma unroll
      for (int j = 0; j < kWidth; ++j) {
        // A bf16 is the upper half of a float: to the pack this one needs no rounding any more.
        const uint32_t upper = stochastic_bf16(__float_as_uint(w.value[j]), word[j]);
        out.value[j] = __uint_as_float(upper << 16);
      }
      out.store(weight + i);
    } else if constexpr (kRounding == Rounding::nearest) {
#pragma unroll
      for (int j = 0; j < kWidth; ++j) out.value[j] = w.value[j];
      out.store(weight + i);
    }
  }
};

template <class W, Rounding kRounding>
void run_adamw(cudaStream_t stream, const AdamWArgs& args, bool wide) {
  const AdamW<W, kRounding> body{.master = at<float>(args.master),
                                 .m = at<float>(args.m),
                                 .v = at<float>(args.v),
                                 .grad = at<float>(args.grad),
                                 .weight = at<W>(args.weight),
                                 .f = Factors(args),
                                 .control = args.control_4.defined() ? at<const float>(args.control_4) : nullptr,
                                 .zero_grad = args.zero_grad,
                                 .key = args.rounding_key,
                                 .first_word = static_cast<uint64_t>(args.first_element)};
  run_elements<kCommonWidth<float>>(stream, "adamw", args.master.numel(), wide, body);
}

}  // namespace

void adamw(cudaStream_t stream, const AdamWArgs& args) {
  const bool has_weight = args.weight.defined() && args.weight.data != args.master.data;
  bool wide = aligned(args.master) && aligned(args.m) && aligned(args.v) && aligned(args.grad);
  if (!has_weight) {
    run_adamw<float, Rounding::none>(stream, args, wide);
    return;
  }
  wide = wide && aligned(args.weight);
  if (args.stochastic_rounding) {
    // A pack must begin with a Philox block, too.
    run_adamw<__nv_bfloat16, Rounding::stochastic>(stream, args, wide && args.first_element % 4 == 0);
    return;
  }
  with_float(args.weight.dtype,
             [&](auto tag) { run_adamw<typename decltype(tag)::type, Rounding::nearest>(stream, args, wide); });
}

}  // namespace trident::cuda
