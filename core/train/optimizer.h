// The update of the sharded state: gradient norm, scaling, AdamW; and its initial values.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/comm/communicator.h"
#include "core/device/device.h"
#include "core/train/executor.h"
#include "core/train/optimizer_state.h"
#include "core/train/zero_store.h"

namespace trident {

struct AdamWOptions {
  float beta1 = 0.9f, beta2 = 0.95f, eps = 1e-8f, weight_decay = 0.1f;
  uint64_t seed = 0;  ///< of the rounding of moments in bf16
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
  /// Allocates a few doubles per segment and block. `blocks`: of the whole model. Store and state outlive the
  /// optimizer.
  Optimizer(const AdamWOptions&, int64_t blocks, ZeroStore&, OptimizerState&, Device&);

  /// Initial weights, keyed by (seed, parameter, global index): the same on every grid. Moments are zero.
  void initialize(uint64_t seed, Stream);

  /// Submits the sums over the job: this rank's loss and token count (absent and zero on ranks that do not count), its
  /// vote to stop, and the squares of its gradients. The order of additions does not depend on the pipeline. Collective
  /// over `world`.
  void reduce(const StepLoss& mine, bool stop, Communicator& world, Stream);
  /// Submits the decision whether and how the step is applied, one AdamW update, and the publishing of the weights. The
  /// host learns what was decided from the sums. `step`: the run's, from 1, skipped ones counted; what is rounded at
  /// random is keyed by it, so that a resumed run draws what the uninterrupted one draws.
  void update(int64_t step, float lr, float max_norm, Stream);

  /// The sums of the oldest reduce() that was not read yet; waits until they are there. At most kInFlight may be
  /// unread.
  StepSums read();
  static constexpr size_t kInFlight = 2;

  /// The first segment counted by this rank whose gradient was not finite in the sums read last, or nullptr.
  const Segment* first_bad_segment() const;

  /// Updates applied so far, as bias correction counts them; a checkpoint sets it.
  void set_updates(int64_t updates, Stream);

 private:
  /// Where the numbers of one step wait for the host: pinned memory, and the event behind the copies.
  struct Report {
    Memory memory;
    Tensor sums_N, squares_S;
    Event copied;
  };

  /// Squares of the gradients in host memory, on their way to squares_S_.
  void square_on_host(Stream);

  AdamWOptions options_;
  const int64_t blocks_;
  ZeroStore& store_;
  OptimizerState& state_;
  Device& device_;
  Memory memory_, scratch_memory_, host_memory_;
  Tensor squares_S_, sums_N_, updates_1_;   // f64
  Tensor block_S_;                          // i32: the block of a segment, -1 when another rank counts it
  Tensor control_4_;                        // f32
  Tensor host_squares_S_, host_control_4_;  // with offload: the same in pinned memory
  Tensor sum_scratch_;
  std::array<Report, kInFlight> reports_;
  size_t submitted_ = 0, read_ = 0;  // reports
};

}  // namespace trident
