#include "core/train/policy.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/base/error.h"

namespace trident {
namespace {

/// The rate after warm-up, a share `f` of the way to the end.
double decayed(const LrPolicy& policy, double f) {
  const double fall = policy.min_lr - policy.lr;
  switch (policy.shape) {
    case LrShape::constant: return policy.lr;
    case LrShape::linear: return policy.lr + fall * f;
    case LrShape::cosine: return policy.min_lr - fall * (1 + std::cos(std::numbers::pi * f)) / 2;
    case LrShape::wsd:
      if (f <= policy.stable_fraction) return policy.lr;
      return policy.lr + fall * (f - policy.stable_fraction) / (1 - policy.stable_fraction);
  }
  return policy.lr;
}

}  // namespace

float learning_rate(const LrPolicy& policy, int64_t step) {
  ensure(step >= 1, "the first update is number 1");
  if (step <= policy.warmup_steps) {
    return static_cast<float>(policy.lr * static_cast<double>(step) / static_cast<double>(policy.warmup_steps));
  }
  if (policy.shape == LrShape::constant) return static_cast<float>(policy.lr);
  if (step >= policy.decay_steps) return static_cast<float>(policy.min_lr);
  const double f =
      static_cast<double>(step - policy.warmup_steps) / static_cast<double>(policy.decay_steps - policy.warmup_steps);
  return static_cast<float>(decayed(policy, f));
}

std::string describe(const BadStep& bad) {
  std::string text = build_string("step ", bad.step, ": loss ", bad.loss, ", gradient norm ", bad.grad_norm);
  if (!bad.tensor.empty()) {
    text += "; first bad tensor: " + bad.tensor;
    if (!bad.layer.empty()) text += " (" + bad.layer + ")";
    text += build_string(" on rank ", bad.rank);
    if (!bad.sample.empty()) text += ", " + bad.sample;
  }
  // Same input, same bits: what does not come again was no property of the model.
  if (!bad.repeated) text += "; run again, the same step is finite: suspect the hardware or a race";
  return text;
}

BadStepGuard::BadStepGuard(int64_t max_bad_steps) : max_bad_steps_(max_bad_steps) {
  ensure(max_bad_steps >= 1, "at least one bad step ends a run");
}

bool BadStepGuard::finite(double loss, double grad_norm) { return std::isfinite(loss) && std::isfinite(grad_norm); }

void BadStepGuard::bad(const BadStep& step) {
  if (++in_a_row_ < max_bad_steps_) return;
  throw RunError(build_string(in_a_row_, in_a_row_ == 1 ? " step" : " steps in a row",
                              " could not be applied (train.max_bad_steps: ", max_bad_steps_, "). ", describe(step),
                              ". Resume from the last checkpoint with a lower optimizer.lr or a longer warm-up, or "
                              "look at the data of this step"));
}

}  // namespace trident
