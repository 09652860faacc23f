// What a training step decides from numbers alone: its learning rate, and when bad steps end the run. (How far to clip,
// and whether a step is applied, is decided on the device: kernels/step_control.h.)
#pragma once

#include <cstdint>
#include <string>

namespace trident {

enum class LrShape : uint8_t { constant, linear, cosine, wsd };

/// The learning rate as a function of the update's number. The members mirror the config's optimizer section.
struct LrPolicy {
  LrShape shape = LrShape::cosine;
  double lr = 3e-4;     ///< after warm-up
  double min_lr = 0.0;  ///< from update decay_steps on; not used by constant
  int64_t warmup_steps = 0;
  int64_t decay_steps = 0;       ///< warm-up included; not used by constant
  double stable_fraction = 0.8;  ///< wsd: share of the steps between warm-up and decay_steps at full rate
};

/// The rate of update number `step`; the first update is 1, not 0, so that warm-up does not waste it on a rate of zero.
///
///   step <= warmup_steps              lr * step / warmup_steps: full rate at the last step of warm-up
///   else constant                     lr
///   else step >= decay_steps          min_lr
///   else, with f = (step - warmup_steps) / (decay_steps - warmup_steps), which lies in (0, 1):
///     linear                          lr + (min_lr - lr) f
///     cosine                          min_lr + (lr - min_lr) (1 + cos(pi f)) / 2   (Loshchilov and Hutter, 1608.03983)
///     wsd, f <= stable_fraction       lr   (warm-up, stable, decay: Hu et al., 2404.06395, with a linear decay)
///     wsd, f > stable_fraction        lr + (min_lr - lr) (f - stable_fraction) / (1 - stable_fraction)
///
/// Warm-up wins where decay_steps <= warmup_steps. Computed in double, rounded once. Needs step >= 1.
float learning_rate(const LrPolicy&, int64_t step);

/// A step whose loss or gradient norm is not finite, and where that began.
struct BadStep {
  int64_t step = 0;
  double loss = 0, grad_norm = 0;
  std::string tensor;  ///< the first that is not finite, in words: "output", "gradient of head.weight"; "" when unknown
  std::string layer;   ///< where it is: "layer 3", "embedding", "head"; "" when unknown
  int rank = 0;        ///< the rank that holds it
  std::string sample;  ///< "sequence 9 of the batch, data/kjv: token 1024 of document 3"; "" when no particular one
  bool repeated = true;  ///< the same step, run again, was not finite again
};

/// "step 12: loss nan, gradient norm inf; first bad tensor: gradient of layers.3.attn.q.weight (layer 3) on rank 5".
std::string describe(const BadStep&);

/// Counts steps in a row that could not be applied, and ends the run when there are too many.
class BadStepGuard {
 public:
  /// `max_bad_steps` >= 1: that many in a row end the run.
  explicit BadStepGuard(int64_t max_bad_steps);

  /// Whether a step with these numbers may be applied.
  static bool finite(double loss, double grad_norm);

  /// A step was applied: the row is broken.
  void good() { in_a_row_ = 0; }
  /// A step was left out. Throws RunError, naming tensor, layer and rank, when it is the max_bad_steps-th in a row.
  void bad(const BadStep&);

  int64_t in_a_row() const { return in_a_row_; }

 private:
  int64_t max_bad_steps_, in_a_row_ = 0;
};

}  // namespace trident
