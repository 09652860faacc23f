// AdamW and the sums behind gradient clipping and logging. One pass over memory each.
#include <cmath>

#include "kernels/cpu/families.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/random.h"
#include "kernels/cpu/simd.h"

namespace trident::cpu {
namespace {

constexpr int64_t kPiece = 1024;  // elements; shares begin at its multiples, words are drawn for so many at a time
// Elements that lie this far ahead are fetched: the hardware's own prefetching alone leaves a tenth of the bandwidth, a
// fifth where nothing is written.
constexpr int64_t kAhead = 512;
// From so many elements on, 30 bytes each, a call touches more than the caches of its cores keep.
constexpr int64_t kPastCaches = 1 << 18;

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

/// The words of at most kPiece elements; past the end any.
struct Words {
  uint32_t weight[kPiece] = {}, state[kPiece] = {};
};

void draw(const RandomKey& key, const ElementIndex& element, int64_t begin, int64_t end, uint32_t* words) {
  for (int64_t i = begin; i < end;) {
    const int64_t n = element.neighbours(i, end - i);
    random_words(key, element(i), n, words + (i - begin));
    i += n;
  }
}

VecU load_words(const uint32_t* p) {
  VecU words;
  std::memcpy(&words, p, sizeof words);
  return words;
}

/// x as stochastic_bf16 rounds it with the upper halves of `word`.
VecU16 rounded_at_random(VecF x, VecU word) {
  const VecU u = (VecU)x, is_nan = (VecU)(x != x);
  return __builtin_convertvector((is_nan & ((u >> 16) | 0x40u)) | (~is_nan & ((u + (word >> 16)) >> 16)), VecU16);
}

/// The bits of a 16-bit weight, rounded to nearest, or at random with the words at `word`.
template <bool kRandom, class W>
VecU16 weight_bits(VecF x, const uint32_t* word) {
  if constexpr (kRandom) return rounded_at_random(x, load_words(word));
  W rounded[kLanes];
  store(rounded, x);
  VecU16 bits;
  std::memcpy(&bits, rounded, sizeof bits);
  return bits;
}

template <class... T>
void fetch_ahead(const T*... p) {
  (__builtin_prefetch(p + kAhead, 1), ...);
}

/// Updates the state of the elements at i and returns what their weights are rounded from. S: the moments, bf16 when
/// they are rounded at random with the words at `word`.
template <class S, class Lanes>
VecF update_state(const AdamWArgs& args, const AdamWFactors& f, int64_t i, const uint32_t* word, Lanes lanes) {
  float* const master = args.master.as<float>() + i;
  const float* const grad = args.grad.as<float>() + i;
  S *m = args.m.as<S>() + i, *v = args.v.as<S>() + i;
  fetch_ahead(master, grad, m, v);
  const VecF g = load(grad, lanes) * f.grad_scale;
  const VecF m_old = load(m, lanes);
  const VecF m_t = m_old + (g - m_old) * f.one_minus_beta1;
  const VecF v_t = load(v, lanes) * f.beta2 + g * g * f.one_minus_beta2;
  const VecF denominator = sqrt(v_t) * f.inverse_sqrt_correction2 + f.eps;
  const VecF w = load(master, lanes) * f.decay - f.step_size * m_t / denominator;
  if constexpr (std::is_same_v<S, bf16>) {
    const VecU words = load_words(word);
    store_bits(m, rounded_at_random(m_t, words), lanes);
    store_bits(v, rounded_at_random(v_t, words << 16), lanes);
  } else {
    store(m, m_t, lanes);
    store(v, v_t, lanes);
  }
  store(master, w, lanes);
  return w;
}

/// Elements [begin, end). Words begin with element `begin`'s.
template <class S, class W, bool kRandomWeight>
void adamw_range(const AdamWArgs& args, const AdamWFactors& f, int64_t begin, int64_t end, W* weight,
                 const Words& words) {
  const auto state = [&](int64_t i, auto lanes) {
    return update_state<S>(args, f, i, words.state + (i - begin) % kPiece, lanes);
  };
  int64_t i = begin;
  if constexpr (sizeof(W) == 2) {
    const auto bits = [&](int64_t at, VecF w) {
      return weight_bits<kRandomWeight, W>(w, words.weight + (at - begin) % kPiece);
    };
    if (args.master.numel() >= kPastCaches && reinterpret_cast<uintptr_t>(weight + begin) % kCacheLine == 0) {
      for (; i + 2 * kLanes <= end; i += 2 * kLanes) {
        const VecU16 first = bits(i, state(i, Whole{}));
        store_past_caches(weight + i, first, bits(i + kLanes, state(i + kLanes, Whole{})));
      }
    }
    vector_steps(i, end, [&](int64_t at, auto lanes) { store_bits(weight + at, bits(at, state(at, lanes)), lanes); });
  } else {
    vector_steps(i, end, [&](int64_t at, auto lanes) {
      const VecF w = state(at, lanes);
      if (weight != nullptr) store(weight + at, w, lanes);
    });
  }
}

template <class S, class W, bool kRandomWeight>
void adamw_share(const AdamWArgs& args, const AdamWFactors& f, int64_t begin, int64_t end, W* weight) {
  constexpr bool kRandomState = std::is_same_v<S, bf16>;
  const int64_t step = kRandomState || kRandomWeight ? kPiece : end - begin;
  Words words;
  for (int64_t run = begin; run < end; run += step) {
    const int64_t run_end = std::min(run + step, end);
    if (kRandomState) draw(args.state_key, args.element, run, run_end, words.state);
    if (kRandomWeight) draw(args.rounding_key, args.element, run, run_end, words.weight);
    adamw_range<S, W, kRandomWeight>(args, f, run, run_end, weight, words);
  }
  finish_past_caches();
}

template <class S>
void adamw_by_weight(const AdamWArgs& args, const AdamWFactors& factors) {
  const int64_t n = args.master.numel();
  const auto run = [&]<bool kRandomWeight, class W>(std::bool_constant<kRandomWeight>, W* weight) {
    parallel_range(ceil_div(n, kPiece), n, [&](int64_t begin, int64_t end) {
      adamw_share<S, W, kRandomWeight>(args, factors, begin * kPiece, std::min(end * kPiece, n), weight);
    });
  };
  if (args.stochastic_rounding) {
    run(std::true_type{}, args.weight.as<bf16>());
  } else if (!args.weight.defined() || args.weight.data == args.master.data) {
    run(std::false_type{}, static_cast<float*>(nullptr));
  } else {
    with_float(args.weight.dtype, [&](auto tag) { run(std::false_type{}, args.weight.as<TypeOf<decltype(tag)>>()); });
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
  const int64_t part_size = std::max<int64_t>(1, runs_per_part) * kRun, parts = ceil_div(n, part_size);
  double part_sum[kParts] = {};
  with_float(x.dtype, [&](auto tag) {
    const auto* in = x.as<TypeOf<decltype(tag)>>();
    parallel_range(parts, n, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        VecD low_sum = {}, high_sum = {};
        vector_steps(part * part_size, std::min(n, (part + 1) * part_size), [&](int64_t i, auto lanes) {
          __builtin_prefetch(in + i + kAhead);
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
  if (args.control_4.defined() && args.control_4.as<float>()[3] == 0.0f) return;
  const AdamWFactors factors(args);
  if (args.stochastic_state) {
    adamw_by_weight<bf16>(args, factors);
  } else {
    adamw_by_weight<float>(args, factors);
  }
}

void sum_squares(Tensor out_1, Tensor x) {
  ordered_sum(out_1, x, [](VecD v) { return v * v; });
}

void sum(Tensor out_1, Tensor x) {
  ordered_sum(out_1, x, [](VecD v) { return v; });
}

}  // namespace trident::cpu
