// The step's sums and the decision how it is applied: a few thousand numbers, in one thread.
#include "kernels/step_control.h"

#include <algorithm>

#include "kernels/cpu/families.h"

namespace trident::cpu {

void step_sums(const StepSumsArgs& args) {
  double* sums = args.sums_N.as<double>();
  const int64_t blocks = args.sums_N.numel() - kStepSums;
  std::fill(sums, sums + args.sums_N.numel(), 0.0);
  for (int64_t s = 0; s < args.squares_S.numel(); ++s) {
    const int32_t block = args.block_S.as<int32_t>()[s];
    if (block >= 0) sums[block] += args.squares_S.as<double>()[s];
  }
  const int64_t losses = args.loss_L.defined() ? args.loss_L.numel() : 0;
  for (int64_t i = 0; i < losses; ++i) sums[blocks + kLossSum] += args.loss_L.as<double>()[i];
  sums[blocks + kTokenSum] = args.valid_tokens;
  sums[blocks + kVoteSum] = args.stop_votes;
}

void step_control(const StepControlArgs& args) {
  const double* sums = args.sums_N.as<double>();
  const int64_t blocks = args.sums_N.numel() - kStepSums;
  double square_sum = 0;
  for (int64_t block = 0; block < blocks; ++block) square_sum += sums[block];
  double& updates = args.updates_1.as<double>()[0];
  const StepControl control = decide_step(square_sum, sums[blocks + kLossSum], sums[blocks + kTokenSum], updates,
                                          args.lr, args.beta1, args.beta2, args.max_norm);
  float* out = args.control_4.as<float>();
  out[0] = control.grad_scale;
  out[1] = control.step_size;
  out[2] = control.inverse_sqrt_correction2;
  out[3] = control.applied;
  updates += static_cast<double>(control.applied);
}

}  // namespace trident::cpu
