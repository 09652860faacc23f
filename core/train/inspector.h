// Inspector: where a step stopped being finite. After a bad step the same step runs again (data and dropout are pure
// functions of its number) and every block is looked at: its weights, what its forward saved and handed on, the
// gradients its backward made. A good step pays nothing for it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/comm/grid.h"
#include "core/device/device.h"
#include "core/model/module.h"

namespace trident {

/// A tensor that is not finite.
struct Finding {
  /// Order of cause, comparable over all ranks: weights come first, then micro-batches in the order of the global batch
  /// (they meet in the sums over a step only), in each its forward and backward block by block, in each block its
  /// tensors in the order they are made.
  std::array<int64_t, 3> when{};
  int64_t block = 0;      ///< global block index
  int64_t sequence = -1;  ///< of the step's global batch; -1: no particular one
  std::string tensor;     ///< "weight layers.3.mlp.up.weight", "output", ...

  bool operator<(const Finding& other) const { return when < other.when; }
};

class Inspector {
 public:
  /// For one step on this rank; what is passed outlives it. `micro_batch` in sequences.
  Inspector(Device&, const Grid&, const ModelShape&, int64_t micro_batch);

  // Called by Stage around each block, `saved` being what the block's forward pushed. An absent y or dx is passed over.
  void before_forward(int64_t block, const Module&, const BlockParams&);
  void after_forward(int64_t block, int micro, std::span<const Tensor> saved, Tensor y_RD, Tensor loss_N);
  void after_backward(int64_t block, int micro, const Module&, const BlockParams&, Tensor dx_RD);

  /// The first of this rank.
  const std::optional<Finding>& first() const { return first_; }

 private:
  /// `micro`: of the global batch, for a tensor whose rows are tokens or sequences; -1 for any other.
  void look(const Tensor&, const std::array<int64_t, 3>& when, int64_t block, int64_t micro, const std::string& what);
  std::optional<int64_t> first_non_finite(const Tensor&);
  int64_t sequence_of(const Tensor&, int64_t element, int64_t micro) const;
  int64_t global_micro(int micro) const { return int64_t{micro} * grid_.topology.data + grid_.at.data; }

  Device& device_;
  const Grid& grid_;
  const ModelShape& shape_;
  int64_t micro_batch_;
  std::vector<int64_t> seen_;  // blocks whose weights have been looked at
  std::vector<std::byte> host_;
  std::optional<Finding> first_;
};

}  // namespace trident
