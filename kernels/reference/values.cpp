#include "kernels/reference/values.h"

#include "core/base/error.h"

namespace trident::reference {
namespace {

template <class T>
Values load_as(const Tensor& t) {
  const T* from = t.as<T>();
  Values values(static_cast<size_t>(t.numel()));
  for (size_t i = 0; i < values.size(); ++i) {
    if constexpr (std::is_same_v<T, double>) {
      values[i] = from[i];
    } else {
      values[i] = static_cast<float>(from[i]);
    }
  }
  return values;
}

template <class T>
void store_as(const Tensor& t, const Values& values) {
  T* to = t.as<T>();
  for (size_t i = 0; i < values.size(); ++i) {
    if constexpr (std::is_same_v<T, double>) {
      to[i] = values[i];
    } else {
      to[i] = T(static_cast<float>(values[i]));
    }
  }
}

}  // namespace

Values load(const Tensor& t) {
  switch (t.dtype) {
    case DType::f64: return load_as<double>(t);
    case DType::f32: return load_as<float>(t);
    case DType::bf16: return load_as<bf16>(t);
    case DType::f16: return load_as<f16>(t);
    default: throw InternalError(build_string("the reference loads float tensors, not ", t.describe()));
  }
}

void store(const Tensor& t, const Values& values) {
  ensure(static_cast<size_t>(t.numel()) == values.size(), "as many values as elements are stored");
  switch (t.dtype) {
    case DType::f64: return store_as<double>(t, values);
    case DType::f32: return store_as<float>(t, values);
    case DType::bf16: return store_as<bf16>(t, values);
    case DType::f16: return store_as<f16>(t, values);
    default: throw InternalError(build_string("the reference stores float tensors, not ", t.describe()));
  }
}

}  // namespace trident::reference
