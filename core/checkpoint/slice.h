// Slices: axis-aligned boxes of a logical tensor, the only language in which writers and readers of a checkpoint speak.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/tensor.h"

namespace trident {

/// The box [begin, begin + size) of a tensor; both have one number per dimension.
struct Slice {
  std::vector<int64_t> begin, size;

  bool operator==(const Slice&) const = default;

  /// Number of elements.
  int64_t numel() const;

  /// "[0:128,64:128]", begin:end per dimension, for messages and for the names of pieces in a shard file.
  std::string describe() const;
};

/// Number of elements of a shape.
int64_t shape_numel(std::span<const int64_t> shape);

/// "[128,64]", for messages.
std::string describe_shape(std::span<const int64_t> shape);

/// All of a tensor of this shape.
Slice whole(std::span<const int64_t> shape);

/// True when the slice has the shape's dimensions, nothing negative, and lies inside.
bool inside(const Slice&, std::span<const int64_t> shape);

/// The common box; absent when there is none. Both must have the same number of dimensions.
std::optional<Slice> intersection(const Slice&, const Slice&);

/// Decomposes the elements [flat_begin, flat_end) of a row-major tensor into few boxes that follow each other:
/// concatenating their elements gives the range in order. At most 2 * dimensions - 1 boxes (3 for a matrix). This is
/// how a ZeRO shard, a run of flat indices, is stored as plain tensors. Throws InternalError when the range leaves the
/// tensor.
std::vector<Slice> rectangles(std::span<const int64_t> shape, int64_t flat_begin, int64_t flat_end);

/// What is wrong with a set of slices, all inside `box`, that should cover it exactly once: "" when nothing, else one
/// clause for a message.
std::string coverage_problem(const Slice& box, std::span<const Slice> slices);

/// A run of elements that is contiguous in two row-major boxes: offsets and count in elements.
struct ElementRun {
  int64_t from, to, count;
};

/// The runs of `part` between the box `from` and the box `to`, in ascending order of both. `part` must lie inside both
/// (all in the tensor's coordinates). `next` steps through them without storing them: a column cut has one run a row.
class Runs {
 public:
  Runs(const Slice& part, const Slice& from, const Slice& to);
  std::optional<ElementRun> next();

 private:
  std::vector<int64_t> index_, extent_, stride_from_, stride_to_;  // of the dimensions outside the run
  int64_t from_ = 0, to_ = 0, count_ = 0;
  bool done_ = false;
};

}  // namespace trident
