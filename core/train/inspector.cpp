#include "core/train/inspector.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

namespace trident {
namespace {

template <class T>
int64_t find_non_finite(const std::byte* bytes, int64_t count) {
  const auto* values = reinterpret_cast<const T*>(bytes);
  const T* found = std::find_if(values, values + count, [](T x) {
    if constexpr (std::is_same_v<T, double>) return !std::isfinite(x);
    return !std::isfinite(static_cast<float>(x));
  });
  return found - values;
}

int64_t find_non_finite(DType dtype, const std::byte* bytes, int64_t count) {
  switch (dtype) {
    case DType::f32: return find_non_finite<float>(bytes, count);
    case DType::f64: return find_non_finite<double>(bytes, count);
    case DType::bf16: return find_non_finite<bf16>(bytes, count);
    case DType::f16: return find_non_finite<f16>(bytes, count);
    default: return count;  // whole numbers are finite
  }
}

}  // namespace

Inspector::Inspector(Device& device, const Grid& grid, const ModelShape& shape, int64_t micro_batch)
    : device_(device), grid_(grid), shape_(shape), micro_batch_(micro_batch) {}

std::optional<int64_t> Inspector::first_non_finite(const Tensor& t) {
  constexpr int64_t kPiece = int64_t{1} << 22;  // elements copied at a time
  const Tensor flat = t.flat();
  const Stream stream = device_.stream(Role::compute);
  host_.resize(static_cast<size_t>(std::min(kPiece, flat.numel())) * dtype_bytes(t.dtype));
  for (int64_t begin = 0; begin < flat.numel(); begin += kPiece) {
    const int64_t count = std::min(kPiece, flat.numel() - begin);
    device_.copy(Tensor(host_.data(), t.dtype, {count}), flat.rows(begin, begin + count), stream);
    device_.synchronize(stream);
    const int64_t at = find_non_finite(t.dtype, host_.data(), count);
    if (at < count) return begin + at;
  }
  return std::nullopt;
}

void Inspector::look(const Tensor& t, const std::array<int64_t, 3>& when, int64_t block, int64_t micro,
                     const std::string& what) {
  if (!t.defined() || t.numel() == 0 || (first_ && first_->when <= when)) return;
  const std::optional<int64_t> at = first_non_finite(t);
  if (at) first_ = {.when = when, .block = block, .sequence = sequence_of(t, *at, micro), .tensor = what};
}

// Rows of activations are tokens: all of the micro-batch, or this tensor rank's part of them; statistics of attention
// have a row a sequence.
int64_t Inspector::sequence_of(const Tensor& t, int64_t element, int64_t micro) const {
  const int64_t tokens = micro_batch_ * shape_.context, rows = tokens / shape_.row_split();
  const int64_t row = element / t.row_size(), first = micro * micro_batch_;
  if (micro < 0) return -1;
  if (t.dim[0] == tokens) return first + row / shape_.context;
  if (t.dim[0] == rows) return first + (grid_.at.tensor * rows + row) / shape_.context;
  return t.dim[0] == micro_batch_ ? first + row : -1;
}

void Inspector::before_forward(int64_t block, const Module& module, const BlockParams& params) {
  if (std::find(seen_.begin(), seen_.end(), block) != seen_.end()) return;
  seen_.push_back(block);
  const std::vector<ParamSpec> specs = module.params();
  for (size_t i = 0; i < specs.size(); ++i) {
    look(params.value[i], {0, block, static_cast<int64_t>(i)}, block, -1, "weight " + specs[i].name);
  }
}

void Inspector::after_forward(int64_t block, int micro, std::span<const Tensor> saved, Tensor y_RD, Tensor loss_N) {
  const int64_t at = global_micro(micro);
  std::array<int64_t, 3> when{1 + at, block, 0};
  for (const Tensor& t : saved) {
    look(t, when, block, at, "activation " + t.describe());
    ++when[2];
  }
  // A rank that holds a bad part of a sum comes before those that see the sum only, however much each has saved.
  when[2] = std::numeric_limits<int64_t>::max();
  look(y_RD, when, block, at, "output");
  look(loss_N, when, block, -1, "loss");
}

void Inspector::after_backward(int64_t block, int micro, const Module& module, const BlockParams& params,
                               Tensor dx_RD) {
  const int64_t at = global_micro(micro), blocks = shape_.layers + 2;
  std::array<int64_t, 3> when{1 + at, 2 * blocks - block, 0};
  const std::vector<ParamSpec> specs = module.params();
  // Backward passes through a block's parameters in reverse.
  for (size_t i = specs.size(); i-- > 0;) {
    look(params.grad[i], when, block, -1, "gradient of " + specs[i].name);
    ++when[2];
  }
  // The embedding, block 0, has no input to leave a gradient for.
  when[2] = std::numeric_limits<int64_t>::max();
  if (block > 0) look(dx_RD, when, block, at, "gradient of the input");
}

}  // namespace trident
