#include "core/model/param_spec.h"

#include <algorithm>

#include "core/base/error.h"

namespace trident {
namespace {

// The dimension the tensor axis splits, or -1.
int split_dim(const ParamSpec& spec) {
  switch (spec.split) {
    case Split::none: return -1;
    case Split::rows: return 0;
    case Split::cols: return 1;
  }
  return -1;
}

}  // namespace

std::vector<int64_t> local_shape(const ParamSpec& spec, int tensor) {
  std::vector<int64_t> shape = spec.shape;
  if (const int d = split_dim(spec); d >= 0) {
    ensure(static_cast<size_t>(d) < shape.size(), "a split dimension exists");
    auto& extent = shape[static_cast<size_t>(d)];
    extent = (extent + tensor - 1) / tensor;
  }
  return shape;
}

LocalSlice local_slice(const ParamSpec& spec, int tensor, int tensor_rank) {
  LocalSlice slice{std::vector<int64_t>(spec.shape.size(), 0), spec.shape};
  if (const int d = split_dim(spec); d >= 0) {
    const auto dim = static_cast<size_t>(d);
    const int64_t extent = local_shape(spec, tensor)[dim];
    slice.begin[dim] = std::min(extent * tensor_rank, spec.shape[dim]);
    slice.size[dim] = std::min(extent, spec.shape[dim] - slice.begin[dim]);
  }
  return slice;
}

}  // namespace trident
