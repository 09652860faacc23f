#include "core/base/tensor.h"

#include "core/base/error.h"

namespace trident {

Tensor::Tensor(void* address, DType type, std::initializer_list<int64_t> shape, Place where)
    : Tensor(address, type, std::span<const int64_t>(shape.begin(), shape.size()), where) {}

Tensor::Tensor(void* address, DType type, std::span<const int64_t> shape, Place where)
    : data(address), dtype(type), place(where), rank(static_cast<int>(shape.size())) {
  ensure(shape.size() >= 1 && shape.size() <= kMaxRank, "a tensor has 1 to 5 dimensions");
  for (size_t i = 0; i < shape.size(); ++i) {
    ensure(shape[i] >= 0, "a dimension is not negative");
    dim[i] = shape[i];
  }
}

int64_t Tensor::numel() const {
  if (rank == 0) return 0;
  return dim[0] * row_size();
}

int64_t Tensor::row_size() const {
  int64_t n = 1;
  for (int i = 1; i < rank; ++i) n *= dim[static_cast<size_t>(i)];
  return n;
}

Tensor Tensor::rows(int64_t begin, int64_t end) const {
  ensure(rank >= 1 && begin >= 0 && begin <= end && end <= dim[0], "rows() stays inside the tensor");
  Tensor view = *this;
  view.dim[0] = end - begin;
  if (data != nullptr) {
    view.data = static_cast<char*>(data) + static_cast<size_t>(begin * row_size()) * dtype_bytes(dtype);
  }
  return view;
}

Tensor Tensor::reshape(std::initializer_list<int64_t> shape) const {
  Tensor view(data, dtype, shape, place);
  ensure(view.numel() == numel(), "reshape() keeps the number of elements");
  return view;
}

std::string Tensor::describe() const {
  std::string text = build_string(dtype_name(dtype), "[");
  for (int i = 0; i < rank; ++i) text += build_string(i > 0 ? "," : "", dim[static_cast<size_t>(i)]);
  return text + "]";
}

void Tensor::check_dtype(DType wanted) const { ensure(dtype == wanted, "a tensor is read as its own dtype"); }

}  // namespace trident
