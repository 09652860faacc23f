// Reference activations, dropout, bias, add and scale: one element at a time.
#include "core/base/error.h"
#include "kernels/check.h"
#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_table.h"
#include "kernels/reference/values.h"

namespace trident::reference {
namespace {

double activation(ActivationKind kind, double x) {
  switch (kind) {
    case ActivationKind::gelu_tanh: return gelu_tanh(x);
    case ActivationKind::relu: return relu(x);
    case ActivationKind::silu: return silu(x);
    case ActivationKind::swiglu: break;
  }
  throw InternalError("swiglu has two inputs");
}

double activation_derivative(ActivationKind kind, double x) {
  switch (kind) {
    case ActivationKind::gelu_tanh: return gelu_tanh_derivative(x);
    case ActivationKind::relu: return relu_derivative(x);
    case ActivationKind::silu: return silu_derivative(x);
    case ActivationKind::swiglu: break;
  }
  throw InternalError("swiglu has two inputs");
}

/// 0 for a dropped element of a [T, N] tensor, 1 / (1 - p) for a kept one.
double dropout_factor(const DropoutSpec& spec, size_t row, size_t column, size_t width) {
  if (spec.p == 0) return 1.0;
  const uint64_t word = (static_cast<uint64_t>(spec.first_row) + row) * width + column;
  return uniform01(random_u32(spec.key, word)) >= spec.p ? 1.0 / (1.0 - static_cast<double>(spec.p)) : 0.0;
}

/// z_TN times its dropout factors.
Values dropped(const Tensor& z_TN, const DropoutSpec& spec) {
  const size_t rows = static_cast<size_t>(z_TN.dim[0]), width = static_cast<size_t>(z_TN.dim[1]);
  Values z = load(z_TN);
  for (size_t t = 0; t < rows; ++t) {
    for (size_t n = 0; n < width; ++n) z[t * width + n] *= dropout_factor(spec, t, n, width);
  }
  return z;
}

}  // namespace

void ReferenceOps::activation_forward(Stream, ActivationKind kind, Tensor y_TF, Tensor x_any) const {
  check_activation_forward(kind, y_TF, x_any);
  const size_t rows = static_cast<size_t>(y_TF.dim[0]), width = static_cast<size_t>(y_TF.dim[1]);
  const Values x = load(x_any);
  Values y(rows * width);
  for (size_t t = 0; t < rows; ++t) {
    for (size_t f = 0; f < width; ++f) {
      const size_t at = t * width + f;
      if (kind == ActivationKind::swiglu) {
        y[at] = swiglu(x[2 * t * width + f], x[(2 * t + 1) * width + f]);
      } else {
        y[at] = activation(kind, x[at]);
      }
    }
  }
  store(y_TF, y);
}

void ReferenceOps::activation_backward(Stream, ActivationKind kind, Tensor dx_any, Tensor dy_TF, Tensor x_any) const {
  check_activation_backward(kind, dx_any, dy_TF, x_any);
  const size_t rows = static_cast<size_t>(dy_TF.dim[0]), width = static_cast<size_t>(dy_TF.dim[1]);
  const Values x = load(x_any), dy = load(dy_TF);
  Values dx(x.size());
  for (size_t t = 0; t < rows; ++t) {
    for (size_t f = 0; f < width; ++f) {
      const size_t at = t * width + f;
      if (kind == ActivationKind::swiglu) {
        const size_t gate = 2 * t * width + f, up = gate + width;
        dx[gate] = dy[at] * x[up] * silu_derivative(x[gate]);
        dx[up] = dy[at] * silu(x[gate]);
      } else {
        dx[at] = dy[at] * activation_derivative(kind, x[at]);
      }
    }
  }
  store(dx_any, dx);
}

void ReferenceOps::dropout_add(Stream, Tensor y_TN, Tensor x_TN, Tensor z_TN, const DropoutSpec& spec) const {
  check_dropout_add(y_TN, x_TN, z_TN, spec);
  Values y = dropped(z_TN, spec);
  if (x_TN.defined()) {
    const Values x = load(x_TN);
    for (size_t i = 0; i < y.size(); ++i) y[i] += x[i];
  }
  store(y_TN, y);
}

void ReferenceOps::dropout_backward(Stream, Tensor dz_TN, Tensor dy_TN, const DropoutSpec& spec) const {
  check_dropout_backward(dz_TN, dy_TN, spec);
  store(dz_TN, dropped(dy_TN, spec));
}

void ReferenceOps::bias_backward(Stream, Tensor db_N, Tensor dy_TN, Tensor) const {
  check_bias_backward(db_N, dy_TN);
  const Values dy = load(dy_TN);
  Values db = load(db_N);
  for (size_t i = 0; i < dy.size(); ++i) db[i % db.size()] += dy[i];
  store(db_N, db);
}

void ReferenceOps::bias_add(Stream, Tensor x_TN, Tensor b_N) const {
  check_bias_add(x_TN, b_N);
  const Values b = load(b_N);
  Values x = load(x_TN);
  for (size_t i = 0; i < x.size(); ++i) x[i] += b[i % b.size()];
  store(x_TN, x);
}

void ReferenceOps::add(Stream, Tensor y_any, Tensor x_any) const {
  check_elementwise("add", y_any, x_any);
  const Values x = load(x_any);
  Values y = load(y_any);
  for (size_t i = 0; i < y.size(); ++i) y[i] += x[i];
  store(y_any, y);
}

void ReferenceOps::scale(Stream, Tensor y_any, Tensor x_any, float factor) const {
  check_elementwise("scale", y_any, x_any);
  Values x = load(x_any);
  for (double& value : x) value *= static_cast<double>(factor);
  store(y_any, x);
}

}  // namespace trident::reference
