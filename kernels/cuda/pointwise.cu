// Elementwise operations: one pass over memory, 16 bytes a thread where addresses allow.
#include "kernels/cuda/dropout.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/families.h"

namespace trident::cuda {
namespace {

/// y = x * factor; any two float types.
template <class Y, class X>
struct Scale {
  Y* y;
  const X* x;
  float factor;

  template <int kWidth>
  SIMT_DEV void run(int64_t i) const {
    const Pack<X, kWidth> in = Pack<X, kWidth>::load(x + i);
    Pack<Y, kWidth> out;
#pragma unroll
    for (int j = 0; j < kWidth; ++j) out.value[j] = in.value[j] * factor;
    out.store(y + i);
  }
};

/// y += x; any two float types.
template <class Y, class X>
struct Add {
  Y* y;
  const X* x;

  template <int kWidth>
  SIMT_DEV void run(int64_t i) const {
    const Pack<X, kWidth> in = Pack<X, kWidth>::load(x + i);
    Pack<Y, kWidth> out = Pack<Y, kWidth>::load(y + i);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) out.value[j] += in.value[j];
    out.store(y + i);
  }
};

/// y = x + dropout(z), x perhaps absent.
template <class T>
struct DropoutAdd {
  T* y;
  const T *x, *z;
  Dropout drop;

  template <int kWidth>
  SIMT_DEV void run(int64_t i) const {
    Pack<T, kWidth> out = Pack<T, kWidth>::load(z + i);
    const Pack<float, kWidth> factor = dropout_factors<kWidth>(drop, i);
    if (x != nullptr) {
      const Pack<T, kWidth> in = Pack<T, kWidth>::load(x + i);
#pragma unroll
      for (int j = 0; j < kWidth; ++j) out.value[j] = residual_sum(in.value[j], out.value[j], factor.value[j]);
    } else {
#pragma unroll
      for (int j = 0; j < kWidth; ++j) out.value[j] *= factor.value[j];
    }
    out.store(y + i);
  }
};

}  // namespace

void scale(cudaStream_t stream, Tensor y, Tensor x, float factor) {
  with_float(y.dtype, [&](auto y_tag) {
    with_float(x.dtype, [&](auto x_tag) {
      using Y = typename decltype(y_tag)::type;
      using X = typename decltype(x_tag)::type;
      run_elements<kCommonWidth<Y, X>>(stream, "scale", y.numel(), aligned(y) && aligned(x),
                                       Scale<Y, X>{at<Y>(y), at<const X>(x), factor});
    });
  });
}

void add(cudaStream_t stream, Tensor y, Tensor x) {
  with_float(y.dtype, [&](auto y_tag) {
    with_float(x.dtype, [&](auto x_tag) {
      using Y = typename decltype(y_tag)::type;
      using X = typename decltype(x_tag)::type;
      run_elements<kCommonWidth<Y, X>>(stream, "add", y.numel(), aligned(y) && aligned(x),
                                       Add<Y, X>{at<Y>(y), at<const X>(x)});
    });
  });
}

void dropout_add(cudaStream_t stream, Tensor y_TN, Tensor x_TN, Tensor z_TN, const DropoutSpec& drop) {
  const Dropout dropout = make_dropout(drop, y_TN.dim[1]);
  // A pack must begin with a Philox block, too.
  const bool wide = aligned(y_TN) && aligned(z_TN) && (!x_TN.defined() || aligned(x_TN)) && dropout.first_word % 4 == 0;
  with_float(y_TN.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const DropoutAdd<T> body{at<T>(y_TN), x_TN.defined() ? at<const T>(x_TN) : nullptr, at<const T>(z_TN), dropout};
    run_elements<kCommonWidth<T>>(stream, "dropout_add", y_TN.numel(), wide, body);
  });
}

}  // namespace trident::cuda
