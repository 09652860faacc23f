// How two checkpoints differ, whichever grids wrote them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace trident {

enum class DifferenceKind : uint8_t { values, only_in_a, only_in_b, shape };

/// One tensor that two checkpoints do not agree on.
struct TensorDifference {
  std::string tensor;
  DifferenceKind kind = DifferenceKind::values;
  std::string detail;  ///< for people: the shapes, or the place and values of the largest difference
  double max_abs = 0;  ///< largest |a - b|; infinite when only one is NaN
  double max_rel = 0;  ///< largest |a - b| / max(|a|, |b|)
};

/// Every difference, by name. Dtypes may differ; both are compared in f64 (i64 for integers). Memory is constant.
/// Throws UserError when a checkpoint cannot be read.
std::vector<TensorDifference> diff_checkpoints(const std::string& a, const std::string& b);

}  // namespace trident
