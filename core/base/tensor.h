// Tensor: a dense row-major view. It knows address, dtype and shape; no owner, no stream, no rank grid.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "core/base/dtype.h"

namespace trident {

/// Where the bytes live. `pinned` is host memory a device can copy from asynchronously.
enum class Place : uint8_t { host, device, pinned };

/// A view of contiguous elements. A view with a shape but `data == nullptr` is "dry": the planner runs the real code
/// on dry tensors to learn every size. A default-constructed Tensor is absent (`defined()` is false).
struct Tensor {
  static constexpr int kMaxRank = 5;

  void* data = nullptr;
  DType dtype = DType::f32;
  Place place = Place::host;
  int rank = 0;
  std::array<int64_t, kMaxRank> dim{};

  Tensor() = default;
  Tensor(void* address, DType type, std::initializer_list<int64_t> shape, Place where = Place::host);
  Tensor(void* address, DType type, std::span<const int64_t> shape, Place where = Place::host);

  bool defined() const { return rank > 0; }
  bool dry() const { return data == nullptr; }
  int64_t numel() const;
  size_t bytes() const { return static_cast<size_t>(numel()) * dtype_bytes(dtype); }

  /// Elements per step of the first dimension; 1 for a vector.
  int64_t row_size() const;

  /// View of [begin, end) along the first dimension. Throws InternalError when out of range.
  Tensor rows(int64_t begin, int64_t end) const;

  /// Same elements, another shape of equal size. Throws InternalError otherwise.
  Tensor reshape(std::initializer_list<int64_t> shape) const;
  Tensor flat() const { return reshape({numel()}); }

  /// Typed address. Throws InternalError when T is not the dtype.
  template <class T>
  T* as() const {
    check_dtype(DTypeOf<T>::value);
    return static_cast<T*>(data);
  }

  /// "bf16[4096,768]", for messages.
  std::string describe() const;

 private:
  void check_dtype(DType wanted) const;
};

}  // namespace trident
