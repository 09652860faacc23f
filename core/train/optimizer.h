// The update of the sharded state: gradient norm, scaling, AdamW; and its initial values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/comm/communicator.h"
#include "core/device/device.h"
#include "core/train/executor.h"
#include "core/train/zero_store.h"

namespace trident {

struct AdamWOptions {
  float beta1 = 0.9f, beta2 = 0.95f, eps = 1e-8f, weight_decay = 0.1f;
};

/// What the ranks agree on after backward, before the update.
struct StepSums {
  double loss_sum = 0;  ///< of all valid tokens of the global batch
  int64_t valid_tokens = 0;
  int stop_votes = 0;                 ///< ranks that were asked to stop
  std::vector<double> block_squares;  ///< sum of squares of the unscaled gradients, per global block
  double loss() const { return loss_sum / static_cast<double>(valid_tokens); }
  /// Global norm of the gradient of the mean loss.
  double grad_norm() const;
};

class Optimizer {
 public:
  /// Allocates one double per segment. The store outlives the optimizer.
  Optimizer(const AdamWOptions&, ZeroStore&, Device&);

  /// Initial weights, keyed by (seed, parameter, global index): the same on every grid. Moments are zero.
  void initialize(uint64_t seed, Stream);

  /// Sums over the job: this rank's loss and token count (zero on ranks that do not count), its vote to stop, and the
  /// squares of its gradients; `blocks` is the model's number of blocks. The order of additions does not depend on the
  /// pipeline. Collective over `world`.
  StepSums reduce(const LossSum& mine, bool stop, int64_t blocks, Communicator& world, Stream);

  /// One AdamW update number `step` (from 1) with gradients scaled by `grad_scale`, then publishes the weights.
  void update(int64_t step, float lr, float grad_scale, Stream);

  /// The first segment counted by this rank whose gradient was not finite at the last reduce(), or nullptr.
  const Segment* first_bad_segment() const;

 private:
  AdamWOptions options_;
  ZeroStore& store_;
  Device& device_;
  Memory squares_memory_, scratch_memory_;
  Tensor squares_N_;  // f64, one per segment, on the device
  Tensor sum_scratch_;
  std::vector<double> squares_host_;
};

}  // namespace trident
