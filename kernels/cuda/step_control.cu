// The step's sums and the decision how it is applied: a few thousand numbers, so that latency is all that counts.
#include "kernels/step_control.h"

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/families.h"
#include "kernels/cuda/launch.h"

namespace trident::cuda {
namespace {

constexpr int kThreads = 128;

/// One thread per sum: every sum is taken in the order of its terms.
__global__ void __launch_bounds__(kThreads)
    step_sums_kernel(double* sums_N, const double* squares_S, const int32_t* block_S, const double* loss_L, int blocks,
                     int segments, int losses, double valid_tokens, double stop_votes) {
  const int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (i >= blocks + kStepSums) return;
  double sum = 0;
  if (i < blocks) {
    for (int s = 0; s < segments; ++s) {
      if (block_S[s] == i) sum += squares_S[s];
    }
  } else if (i == blocks + kLossSum) {
    for (int l = 0; l < losses; ++l) sum += loss_L[l];
  } else {
    sum = i == blocks + kTokenSum ? valid_tokens : stop_votes;
  }
  sums_N[i] = sum;
}

__global__ void __launch_bounds__(32)
    step_control_kernel(float* control_4, double* updates_1, const double* sums_N, int blocks, float lr, float beta1,
                        float beta2, float max_norm) {
  if (threadIdx.x != 0) return;
  double square_sum = 0;
  for (int block = 0; block < blocks; ++block) square_sum += sums_N[block];
  const StepControl control = decide_step(square_sum, sums_N[blocks + kLossSum], sums_N[blocks + kTokenSum],
                                          updates_1[0], lr, beta1, beta2, max_norm);
  control_4[0] = control.grad_scale;
  control_4[1] = control.step_size;
  control_4[2] = control.inverse_sqrt_correction2;
  control_4[3] = control.applied;
  updates_1[0] += static_cast<double>(control.applied);
}

}  // namespace

void step_sums(cudaStream_t stream, const StepSumsArgs& args) {
  const int64_t sums = args.sums_N.numel();
  const int64_t losses = args.loss_L.defined() ? args.loss_L.numel() : 0;
  const dim3 grid(static_cast<unsigned>(ceil_div(sums, kThreads)));
  check_launch(
      simt::launch(step_sums_kernel, grid, dim3(kThreads), 0, stream, at<double>(args.sums_N),
                   at<const double>(args.squares_S), at<const int32_t>(args.block_S), at<const double>(args.loss_L),
                   static_cast<int>(sums - kStepSums), static_cast<int>(args.squares_S.numel()),
                   static_cast<int>(losses), args.valid_tokens, args.stop_votes),
      "step_sums");
}

void step_control(cudaStream_t stream, const StepControlArgs& args) {
  check_launch(
      simt::launch(step_control_kernel, dim3(1), dim3(32), 0, stream, at<float>(args.control_4),
                   at<double>(args.updates_1), at<const double>(args.sums_N),
                   static_cast<int>(args.sums_N.numel() - kStepSums), args.lr, args.beta1, args.beta2, args.max_norm),
      "step_control");
}

}  // namespace trident::cuda
