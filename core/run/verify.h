// `trident verify`: the config's grid against one rank, on the same data, for several steps: loss, gradient norm and
// every gradient tensor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/comm/grid.h"
#include "core/config/config.h"

namespace trident {

/// One tensor's distance in the 2-norm: |grid - one rank| / max(|one rank|, 2^-10 |all gradients of one rank|).
struct GradientDifference {
  std::string tensor;
  double relative = 0;
};

struct VerifyStep {
  int64_t step = 0;
  double loss = 0, loss_reference = 0, norm = 0, norm_reference = 0;
  GradientDifference worst;
};

struct VerifyReport {
  double loss_bound = 0, gradient_bound = 0;  ///< relative
  std::vector<VerifyStep> steps;
  std::string first_difference;  ///< "" when all agree; else what differs beyond its bound
};

/// How far two grids may drift apart in one gradient tensor, relative to its 2-norm: every operation rounds its result
/// to `dtype` and its f32 sums of up to K terms carry sqrt(K) rounding errors of f32; a gradient passes through about
/// 16 operations a layer, whose independent errors add as a square root; four standard deviations.
double gradient_bound(DType, int64_t layers, int64_t largest_sum);

/// Collective over the world. Rank 0 also runs the reference, alone; its report is complete, the others' is empty.
VerifyReport verify(const Config&, World&, int64_t steps);

}  // namespace trident
