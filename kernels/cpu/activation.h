// The activations of one argument: value and derivative.
#pragma once

#include "kernels/cpu/simd.h"
#include "kernels/ops.h"

namespace trident::cpu {

/// 0.5 x (1 + tanh u) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3) (Hendrycks and Gimpel, arXiv 1606.08415).
struct GeluTanh {
  static constexpr float kSlope = 1.5957691216057308f, kCubic = 0.044715f;
  /// sigmoid(2u) = 1 / (1 + 2^(x (a + b x^2))).
  static VecF gate(VecF x) {
    constexpr float kBase = -1.44269504088896341f * kSlope;  // -2 sqrt(2/pi) / ln 2
    return inverse_one_plus_exp2(x * (kBase + kBase * kCubic * (x * x)));
  }
  static VecF value(VecF x) { return x * gate(x); }
  static VecF derivative(VecF x) {
    const VecF s = gate(x), w = x * (kSlope + 3 * kSlope * kCubic * (x * x));
    return s + s * (w - w * s);
  }
};

struct Relu {
  static VecF value(VecF x) { return max(x, VecF{}); }
  static VecF derivative(VecF x) { return select(x > 0.0f, broadcast(1.0f), VecF{}); }
};

struct Silu {
  static VecF value(VecF x) { return x * sigmoid(x); }
  static VecF derivative(VecF x) {
    const VecF s = sigmoid(x);
    return s + x * s * (1.0f - s);
  }
};

/// Calls body(GeluTanh | Relu | Silu). Not for gated activations.
template <class Body>
void with_activation(ActivationKind kind, Body body) {
  switch (kind) {
    case ActivationKind::gelu_tanh: return body(GeluTanh{});
    case ActivationKind::relu: return body(Relu{});
    default: return body(Silu{});
  }
}

}  // namespace trident::cpu
