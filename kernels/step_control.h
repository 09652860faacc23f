// How a step is applied, decided where the sums are: on the device. The host then need not wait for the gradient's norm
// before it submits the update; it reads what was decided later. One formula for every table.
#pragma once

#include <cmath>

#include "core/base/tensor.h"

#ifdef __CUDACC__
#define TRIDENT_HOST_DEVICE __host__ __device__
#else
#define TRIDENT_HOST_DEVICE
#endif

namespace trident {

/// Where step_sums puts what, behind the blocks' squares.
enum StepSum : int { kLossSum = 0, kTokenSum = 1, kVoteSum = 2, kStepSums = 3 };

/// sums_N = this rank's part of what the ranks agree on: per block the sum of its segments' squares (in their order),
/// then the loss (its partial sums in their order), the valid tokens and the votes to stop.
struct StepSumsArgs {
  Tensor sums_N;     ///< f64 [blocks + kStepSums], overwritten
  Tensor squares_S;  ///< f64, one per segment
  Tensor block_S;    ///< i32, the segment's block; negative: another rank counts the segment
  Tensor loss_L;     ///< f64; absent on ranks that do not count the loss
  double valid_tokens = 0, stop_votes = 0;
};

/// Decides from sums over the job. The norm is that of the gradient of the mean loss; a step whose loss or norm is not
/// finite is not applied. Clipping is PyTorch's clip_grad_norm_: min(1, max_norm / (norm + 1e-6)); max_norm 0: none.
struct StepControlArgs {
  Tensor control_4;  ///< f32 [4], overwritten: a StepControl, all zero when the step is not applied
  Tensor updates_1;  ///< f64 [1]: updates applied so far; one more when this one is
  Tensor sums_N;     ///< f64, from step_sums, summed over the job
  float lr = 0, beta1 = 0.9f, beta2 = 0.95f, max_norm = 0;
};

/// What AdamW takes from control_4.
struct StepControl {
  float grad_scale = 0;                ///< clipping and the one division by the job's tokens
  float step_size = 0;                 ///< lr / (1 - beta1^t)
  float inverse_sqrt_correction2 = 0;  ///< 1 / sqrt(1 - beta2^t)
  float applied = 0;                   ///< 1 or 0
};

/// `square_sum`: of all blocks; `updates`: applied before this one.
TRIDENT_HOST_DEVICE inline StepControl decide_step(double square_sum, double loss_sum, double tokens, double updates,
                                                   float lr, float beta1, float beta2, float max_norm) {
  const double norm = std::sqrt(square_sum) / tokens, loss = loss_sum / tokens;
  // Infinities and NaN alike: x - x is 0 for finite x alone.
  if (!(norm - norm == 0.0 && loss - loss == 0.0)) return {};
  const double room = static_cast<double>(max_norm) / (norm + 1e-6);
  const float clip = max_norm == 0.0f || room >= 1.0 ? 1.0f : static_cast<float>(room);
  const double t = updates + 1.0;
  StepControl control;
  control.grad_scale = static_cast<float>(static_cast<double>(clip) / tokens);
  control.step_size = static_cast<float>(static_cast<double>(lr) / (1.0 - std::pow(static_cast<double>(beta1), t)));
  control.inverse_sqrt_correction2 = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(static_cast<double>(beta2), t)));
  control.applied = 1.0f;
  return control;
}

}  // namespace trident
