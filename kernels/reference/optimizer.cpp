// Reference AdamW, the decision how a step is applied, and the two totals.
#include "kernels/check.h"
#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_table.h"
#include "kernels/reference/values.h"

namespace trident::reference {
namespace {

/// Element i as stochastic_bf16 rounds its f32 value, with word element(i) of the key shifted up by `shift`.
Values rounded_at_random(const Values& x, const RandomKey& key, const ElementIndex& element, int shift) {
  Values out(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    bf16 rounded;
    rounded.bits = stochastic_bf16(std::bit_cast<uint32_t>(static_cast<float>(x[i])),
                                   random_u32(key, element(static_cast<int64_t>(i))) << shift);
    out[i] = static_cast<double>(static_cast<float>(rounded));
  }
  return out;
}

}  // namespace

void ReferenceOps::adamw(Stream, const AdamWArgs& args) const {
  check(args);
  AdamWStep step{.lr = static_cast<double>(args.lr),
                 .beta1 = static_cast<double>(args.beta1),
                 .beta2 = static_cast<double>(args.beta2),
                 .eps = static_cast<double>(args.eps),
                 .weight_decay = static_cast<double>(args.weight_decay)};
  double grad_scale = static_cast<double>(args.grad_scale);
  if (args.control_4.defined()) {
    const Values control = load(args.control_4);
    if (control[3] == 0) return;
    grad_scale = control[0], step.step_size = control[1], step.inverse_sqrt_correction2 = control[2];
  } else {
    step = corrected(step, static_cast<double>(args.step));
  }
  Values master = load(args.master), m = load(args.m), v = load(args.v), grad = load(args.grad);
  for (size_t i = 0; i < master.size(); ++i) {
    adamw_update(master[i], m[i], v[i], grad[i] * grad_scale, step);
  }
  store(args.master, master);
  store(args.m, args.stochastic_state ? rounded_at_random(m, args.state_key, args.element, 0) : m);
  store(args.v, args.stochastic_state ? rounded_at_random(v, args.state_key, args.element, 16) : v);
  // From the stored master: the weight is its rounding, not the unrounded value's.
  if (args.stochastic_rounding) {
    store(args.weight, rounded_at_random(load(args.master), args.rounding_key, args.element, 0));
  } else if (args.weight.defined()) {
    store(args.weight, load(args.master));
  }
}

void ReferenceOps::step_sums(Stream, const StepSumsArgs& args) const {
  check(args);
  Values sums(static_cast<size_t>(args.sums_N.numel()), 0.0);
  const size_t blocks = sums.size() - kStepSums;
  const Values squares = load(args.squares_S);
  for (size_t s = 0; s < squares.size(); ++s) {
    const int32_t block = args.block_S.as<int32_t>()[s];
    if (block >= 0) sums[static_cast<size_t>(block)] += squares[s];
  }
  if (args.loss_L.defined()) {
    for (const double loss : load(args.loss_L)) sums[blocks + kLossSum] += loss;
  }
  sums[blocks + kTokenSum] = args.valid_tokens;
  sums[blocks + kVoteSum] = args.stop_votes;
  store(args.sums_N, sums);
}

void ReferenceOps::step_control(Stream, const StepControlArgs& args) const {
  check(args);
  const Values sums = load(args.sums_N);
  const size_t blocks = sums.size() - kStepSums;
  double square_sum = 0;
  for (size_t block = 0; block < blocks; ++block) square_sum += sums[block];
  const double updates = load(args.updates_1)[0];
  const StepControl control = decide_step(square_sum, sums[blocks + kLossSum], sums[blocks + kTokenSum], updates,
                                          args.lr, args.beta1, args.beta2, args.max_norm);
  store(args.control_4, {static_cast<double>(control.grad_scale), static_cast<double>(control.step_size),
                         static_cast<double>(control.inverse_sqrt_correction2), static_cast<double>(control.applied)});
  store(args.updates_1, {updates + static_cast<double>(control.applied)});
}

void ReferenceOps::sum_squares(Stream, Tensor out_1, Tensor x_any, Tensor) const {
  check_total("sum_squares", out_1, x_any);
  double total = 0;
  for (const double x : load(x_any)) total += x * x;
  store(out_1, {total});
}

void ReferenceOps::sum(Stream, Tensor out_1, Tensor x_any, Tensor) const {
  check_total("sum", out_1, x_any);
  double total = 0;
  for (const double x : load(x_any)) total += x;
  store(out_1, {total});
}

}  // namespace trident::reference
