#include "core/checkpoint/diff.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <type_traits>

#include "core/base/error.h"
#include "core/checkpoint/reader.h"

namespace trident {

namespace {

constexpr int64_t kPortion = int64_t{1} << 20;  // elements compared at a time

bool is_integer(DType type) {
  return type == DType::i32 || type == DType::i64 || type == DType::u8 || type == DType::u16;
}

/// Largest differences of two portions; `first` is the flat index of their first element.
template <class T>
void compare(std::span<const T> a, std::span<const T> b, int64_t first, TensorDifference& worst) {
  for (size_t i = 0; i < a.size(); ++i) {
    const auto x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    if (a[i] == b[i] || (std::isnan(x) && std::isnan(y))) continue;
    double abs = std::abs(x - y);
    double rel = abs / std::max(std::abs(x), std::abs(y));
    if (std::isnan(abs) || std::isinf(abs)) abs = rel = std::numeric_limits<double>::infinity();
    if (std::is_integral_v<T> && abs == 0) abs = 1;  // beyond 2^53 the doubles agree, the integers do not
    worst.max_rel = std::max(worst.max_rel, rel);
    if (abs <= worst.max_abs) continue;
    worst.max_abs = abs;
    worst.detail =
        build_string("largest at flat index ", first + static_cast<int64_t>(i), ": ", a[i], " against ", b[i]);
  }
}

template <class T>
void compare_tensors(CheckpointReader& a, CheckpointReader& b, TensorDifference& worst) {
  const std::vector<int64_t>& shape = a.find(worst.tensor).shape;
  const int64_t total = shape_numel(shape);
  std::vector<T> of_a, of_b;
  for (int64_t first = 0; first < total; first += kPortion) {
    const int64_t last = std::min(total, first + kPortion);
    int64_t at = first;
    for (const Slice& box : rectangles(shape, first, last)) {
      const int64_t n = box.numel();
      of_a.resize(static_cast<size_t>(n));
      of_b.resize(static_cast<size_t>(n));
      a.read(worst.tensor, box, Tensor(of_a.data(), DTypeOf<T>::value, {n}));
      b.read(worst.tensor, box, Tensor(of_b.data(), DTypeOf<T>::value, {n}));
      compare<T>(of_a, of_b, at, worst);
      at += n;
    }
  }
}

}  // namespace

std::vector<TensorDifference> diff_checkpoints(const std::string& path_a, const std::string& path_b) {
  CheckpointReader a(path_a), b(path_b);
  std::vector<TensorDifference> differences;
  for (const auto& [name, tensor] : a.manifest().tensors) {
    if (!b.has(name)) {
      differences.push_back({name, DifferenceKind::only_in_a, describe_shape(tensor.shape)});
      continue;
    }
    const ManifestTensor& other = b.find(name);
    if (tensor.shape != other.shape || is_integer(tensor.dtype) != is_integer(other.dtype)) {
      differences.push_back({name, DifferenceKind::shape,
                             build_string(dtype_name(tensor.dtype), describe_shape(tensor.shape), " against ",
                                          dtype_name(other.dtype), describe_shape(other.shape))});
      continue;
    }
    TensorDifference difference = {name, DifferenceKind::values, ""};
    if (is_integer(tensor.dtype)) {
      compare_tensors<int64_t>(a, b, difference);
    } else {
      compare_tensors<double>(a, b, difference);
    }
    if (difference.max_abs > 0) differences.push_back(std::move(difference));
  }
  for (const auto& [name, tensor] : b.manifest().tensors) {
    if (!a.has(name)) differences.push_back({name, DifferenceKind::only_in_b, describe_shape(tensor.shape)});
  }
  std::sort(differences.begin(), differences.end(),
            [](const TensorDifference& x, const TensorDifference& y) { return x.tensor < y.tensor; });
  return differences;
}

}  // namespace trident
