// AdamW and the sums behind gradient clipping and logging. One pass over memory each.
#include <cmath>

#include "kernels/cpu/families.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/random.h"
#include "kernels/cpu/simd.h"

namespace trident::cpu {
namespace {

constexpr int64_t kPiece = 1024;  // elements; shares begin at its multiples

/// What AdamW needs per call, with the powers taken in double (PyTorch's bias corrections are doubles too).
struct AdamWFactors {
  float decay, one_minus_beta1, beta2, one_minus_beta2, step_size, inverse_sqrt_correction2, eps, grad_scale;

  explicit AdamWFactors(const AdamWArgs& args) {
    decay = static_cast<float>(1.0 - static_cast<double>(args.lr) * static_cast<double>(args.weight_decay));
    one_minus_beta1 = static_cast<float>(1.0 - static_cast<double>(args.beta1));
    beta2 = args.beta2;
    one_minus_beta2 = static_cast<float>(1.0 - static_cast<double>(args.beta2));
    eps = args.eps;
    if (args.control_4.defined()) {
      const float* control = args.control_4.as<float>();
      grad_scale = control[0], step_size = control[1], inverse_sqrt_correction2 = control[2];
      return;
    }
    const double t = static_cast<double>(args.step);
    const double correction1 = 1.0 - std::pow(static_cast<double>(args.beta1), t);
    const double correction2 = 1.0 - std::pow(static_cast<double>(args.beta2), t);
    step_size = static_cast<float>(static_cast<double>(args.lr) / correction1);
    inverse_sqrt_correction2 = static_cast<float>(1.0 / std::sqrt(correction2));
    grad_scale = args.grad_scale;
  }
};

template <class W>
void adamw_range(const AdamWArgs& args, const AdamWFactors& f, int64_t begin, int64_t end, W* weight) {
  float *master = args.master.as<float>(), *m = args.m.as<float>(), *v = args.v.as<float>(),
        *grad = args.grad.as<float>();
  vector_steps(begin, end, [&](int64_t i, auto lanes) {
    const VecF g = load(grad + i, lanes) * f.grad_scale;
    const VecF m_old = load(m + i, lanes);
    const VecF m_t = m_old + (g - m_old) * f.one_minus_beta1;
    const VecF v_t = load(v + i, lanes) * f.beta2 + g * g * f.one_minus_beta2;
    const VecF denominator = sqrt(v_t) * f.inverse_sqrt_correction2 + f.eps;
    const VecF w = load(master + i, lanes) * f.decay - f.step_size * m_t / denominator;
    store(m + i, m_t, lanes);
    store(v + i, v_t, lanes);
    store(master + i, w, lanes);
    if (weight != nullptr) store(weight + i, w, lanes);
    if (args.zero_grad) store(grad + i, VecF{}, lanes);
  });
}

/// The update, then the master's rounding at random: by runs that stay in the nearest cache.
void adamw_rounding_range(const AdamWArgs& args, const AdamWFactors& f, int64_t begin, int64_t end) {
  uint32_t words[kPiece];
  const float* master = args.master.as<float>();
  bf16* weight = args.weight.as<bf16>();
  for (int64_t run = begin; run < end; run += kPiece) {
    const int64_t n = std::min(kPiece, end - run);
    adamw_range<float>(args, f, run, run + n, nullptr);
    random_words(args.rounding_key, static_cast<uint64_t>(args.first_element + run), n, words);
    for (int64_t i = 0; i < n; ++i) {
      weight[run + i].bits = stochastic_bf16(std::bit_cast<uint32_t>(master[run + i]), words[i]);
    }
  }
}

// Half as many doubles as floats fill a register.
typedef float HalfF __attribute__((vector_size(2 * kLanes)));
typedef double VecD __attribute__((vector_size(4 * kLanes)));

/// Sum of term(x) in double. The order depends on n alone: at most kParts parts of whole runs, each summed lane by
/// lane, the parts added in order. No table in memory is needed, so none is asked of the caller.
template <class Term>
void ordered_sum(Tensor out_1, Tensor x, Term term) {
  constexpr int64_t kParts = 256, kRun = 4096;
  const int64_t n = x.numel();
  const int64_t runs_per_part = (n + kParts * kRun - 1) / (kParts * kRun);
  const int64_t part_size = std::max<int64_t>(1, runs_per_part) * kRun, parts = (n + part_size - 1) / part_size;
  double part_sum[kParts] = {};
  with_float(x.dtype, [&](auto tag) {
    const auto* in = x.as<TypeOf<decltype(tag)>>();
    parallel_range(parts, n, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        VecD low_sum = {}, high_sum = {};
        vector_steps(part * part_size, std::min(n, (part + 1) * part_size), [&](int64_t i, auto lanes) {
          const VecF v = load(in + i, lanes);
          HalfF half[2];
          std::memcpy(half, &v, sizeof v);
          low_sum += term(__builtin_convertvector(half[0], VecD));
          high_sum += term(__builtin_convertvector(half[1], VecD));
        });
        const VecD sum = low_sum + high_sum;
        for (int lane = 0; lane < kLanes / 2; ++lane) part_sum[part] += sum[lane];
      }
    });
  });
  double total = 0;
  for (int64_t part = 0; part < parts; ++part) total += part_sum[part];
  out_1.as<double>()[0] = total;
}

}  // namespace

void adamw(const AdamWArgs& args) {
  const int64_t n = args.master.numel();
  if (args.control_4.defined() && args.control_4.as<float>()[3] == 0.0f) return;
  const AdamWFactors factors(args);
  const auto share = [&](auto body) {
    parallel_range((n + kPiece - 1) / kPiece, n,
                   [&](int64_t begin, int64_t end) { body(begin * kPiece, std::min(end * kPiece, n)); });
  };
  const auto run = [&]<class W>(W* weight) {
    share([&](int64_t begin, int64_t end) { adamw_range<W>(args, factors, begin, end, weight); });
  };
  if (args.stochastic_rounding) {
    share([&](int64_t begin, int64_t end) { adamw_rounding_range(args, factors, begin, end); });
  } else if (!args.weight.defined() || args.weight.data == args.master.data) {
    run(static_cast<float*>(nullptr));
  } else {
    with_float(args.weight.dtype, [&](auto tag) { run(args.weight.as<TypeOf<decltype(tag)>>()); });
  }
}

void sum_squares(Tensor out_1, Tensor x) {
  ordered_sum(out_1, x, [](VecD v) { return v * v; });
}

void sum(Tensor out_1, Tensor x) {
  ordered_sum(out_1, x, [](VecD v) { return v; });
}

}  // namespace trident::cpu
