// Activations, forward and backward: one pass over memory.
//
// gelu: 0.5 x (1 + tanh u) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3) (Hendrycks and Gimpel, arXiv 1606.08415).
// Legend: T tokens, F ffn. swiglu reads x_T(2F) = [gate | up].
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/families.h"

namespace trident::cuda {
namespace {

/// 1 / (1 + e^-x): 0 and 1 at the far ends, for e^-x may become infinite.
SIMT_DEV float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

struct Gelu {
  SIMT_DEV static float gate(float x) { return sigmoid(1.5957691216057308f * x * (1.0f + 0.044715f * x * x)); }
  SIMT_DEV static float value(float x) { return x * gate(x); }
  SIMT_DEV static float derivative(float x) {
    const float s = gate(x);
    return s + x * s * (1.0f - s) * (1.5957691216057308f * (1.0f + 3 * 0.044715f * x * x));
  }
};

struct Relu {
  SIMT_DEV static float value(float x) { return x > 0 ? x : 0.0f; }
  SIMT_DEV static float derivative(float x) { return x > 0 ? 1.0f : 0.0f; }
};

struct Silu {
  SIMT_DEV static float value(float x) { return x * sigmoid(x); }
  SIMT_DEV static float derivative(float x) {
    const float s = sigmoid(x);
    return s + x * s * (1.0f - s);
  }
};

/// y = f(x).
template <class F, class T>
struct Forward {
  T* y;
  const T* x;

  template <int kWidth>
  SIMT_DEV void run(int64_t i) const {
    Pack<T, kWidth> pack = Pack<T, kWidth>::load(x + i);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) pack.value[j] = F::value(pack.value[j]);
    pack.store(y + i);
  }
};

/// dx = f'(x) dy; dx may be x.
template <class F, class T>
struct Backward {
  T* dx;
  const T *dy, *x;

  template <int kWidth>
  SIMT_DEV void run(int64_t i) const {
    Pack<T, kWidth> out = Pack<T, kWidth>::load(x + i);
    const Pack<T, kWidth> g = Pack<T, kWidth>::load(dy + i);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) out.value[j] = F::derivative(out.value[j]) * g.value[j];
    out.store(dx + i);
  }
};

/// y = silu(gate) * up. i counts elements of y; a pack lies within a row.
template <class T>
struct SwigluForward {
  T* y_TF;
  const T* x;
  int64_t width;

  template <int kWidth>
  SIMT_DEV void run(int64_t i) const {
    const int64_t at_gate = i + i / width * width;
    Pack<T, kWidth> pack = Pack<T, kWidth>::load(x + at_gate);
    const Pack<T, kWidth> up = Pack<T, kWidth>::load(x + at_gate + width);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) pack.value[j] = Silu::value(pack.value[j]) * up.value[j];
    pack.store(y_TF + i);
  }
};

/// dgate = dy up silu'(gate), dup = dy silu(gate); dx may be x.
template <class T>
struct SwigluBackward {
  T* dx;
  const T *dy_TF, *x;
  int64_t width;

  template <int kWidth>
  SIMT_DEV void run(int64_t i) const {
    const int64_t at_gate = i + i / width * width;
    Pack<T, kWidth> gate = Pack<T, kWidth>::load(x + at_gate), up = Pack<T, kWidth>::load(x + at_gate + width);
    const Pack<T, kWidth> g = Pack<T, kWidth>::load(dy_TF + i);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      const float a = gate.value[j], s = sigmoid(a);
      gate.value[j] = g.value[j] * up.value[j] * (s + a * s * (1.0f - s));
      up.value[j] = g.value[j] * (a * s);
    }
    gate.store(dx + at_gate);
    up.store(dx + at_gate + width);
  }
};

/// Calls f(TypeTag<Gelu | Relu | Silu>).
template <class F>
void with_activation(ActivationKind kind, F f) {
  switch (kind) {
    case ActivationKind::gelu_tanh: return f(TypeTag<Gelu>{});
    case ActivationKind::relu: return f(TypeTag<Relu>{});
    case ActivationKind::silu: return f(TypeTag<Silu>{});
    case ActivationKind::swiglu: break;
  }
  ensure(false, "swiglu has two inputs");
}

}  // namespace

void activation_forward(cudaStream_t stream, ActivationKind kind, Tensor y_TF, Tensor x) {
  const int64_t n = y_TF.numel(), width = y_TF.dim[1];
  with_float(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int kWidth = kCommonWidth<T>;
    if (kind == ActivationKind::swiglu) {
      const bool wide = vectorizable(y_TF, width) && aligned(x);
      run_elements<kWidth>(stream, "swiglu_forward", n, wide, SwigluForward<T>{at<T>(y_TF), at<const T>(x), width});
      return;
    }
    with_activation(kind, [&](auto f) {
      using F = typename decltype(f)::type;
      run_elements<kWidth>(stream, "activation_forward", n, aligned(y_TF) && aligned(x),
                           Forward<F, T>{at<T>(y_TF), at<const T>(x)});
    });
  });
}

void activation_backward(cudaStream_t stream, ActivationKind kind, Tensor dx, Tensor dy_TF, Tensor x) {
  const int64_t n = dy_TF.numel(), width = dy_TF.dim[1];
  const bool wide = aligned(dx) && aligned(dy_TF) && aligned(x);
  with_float(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int kWidth = kCommonWidth<T>;
    if (kind == ActivationKind::swiglu) {
      run_elements<kWidth>(stream, "swiglu_backward", n, wide && vectorizable(dy_TF, width),
                           SwigluBackward<T>{at<T>(dx), at<const T>(dy_TF), at<const T>(x), width});
      return;
    }
    with_activation(kind, [&](auto f) {
      using F = typename decltype(f)::type;
      run_elements<kWidth>(stream, "activation_backward", n, wide,
                           Backward<F, T>{at<T>(dx), at<const T>(dy_TF), at<const T>(x)});
    });
  });
}

}  // namespace trident::cuda
