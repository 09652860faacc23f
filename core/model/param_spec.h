// ParamSpec: one logical parameter and how ranks share it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/tensor.h"

namespace trident {

/// How the tensor axis splits a parameter.
enum class Split : uint8_t {
  none,  ///< a copy on every tensor rank
  rows,  ///< dim 0 in equal parts (column-parallel weights, their biases, vocabulary rows padded to equal parts)
  cols,  ///< dim 1 in equal parts (row-parallel weights)
};

struct Init {
  enum class Kind : uint8_t { zero, one, normal };
  Kind kind = Kind::zero;
  float std = 0;
};

struct ParamSpec {
  std::string name;            ///< logical name, global: "layers.3.attn.q.weight"
  std::vector<int64_t> shape;  ///< global, unpadded
  Split split = Split::none;
  /// The gradient computed on a tensor rank is a partial sum (norms and positions under sequence parallelism).
  bool sum_tensor = false;
  Init init;
  bool decay = false;
  /// Lies directly behind the previous parameter of the block, so that one GEMM sees both (q|k|v, gate|up).
  bool fused = false;
  /// A second use of a parameter that another block owns ("embed.token.weight" in the head): it shares that block's
  /// memory when both are on this rank, else it is a copy whose gradient is summed with the owner's.
  bool tied_copy = false;
};

/// Shape of this parameter on one of `tensor` ranks, padding rows included.
std::vector<int64_t> local_shape(const ParamSpec&, int tensor);

/// Where the local tensor lies in the global one: per dimension the first index and the count that is not padding
/// (at most the local extent; 0 for a rank that holds only padding).
struct LocalSlice {
  std::vector<int64_t> begin, size;
};
LocalSlice local_slice(const ParamSpec&, int tensor, int tensor_rank);

}  // namespace trident
