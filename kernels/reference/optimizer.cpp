// Reference AdamW and the two totals.
#include "kernels/check.h"
#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_table.h"
#include "kernels/reference/values.h"

namespace trident::reference {
namespace {

/// Element i as stochastic_bf16 rounds its f32 value, with word first + i of the key.
Values rounded_at_random(const Values& master, const RandomKey& key, int64_t first) {
  Values weight(master.size());
  for (size_t i = 0; i < master.size(); ++i) {
    bf16 rounded;
    rounded.bits = stochastic_bf16(std::bit_cast<uint32_t>(static_cast<float>(master[i])),
                                   random_u32(key, static_cast<uint64_t>(first) + i));
    weight[i] = static_cast<double>(static_cast<float>(rounded));
  }
  return weight;
}

}  // namespace

void ReferenceOps::adamw(Stream, const AdamWArgs& args) const {
  check(args);
  const AdamWStep step{.lr = static_cast<double>(args.lr),
                       .beta1 = static_cast<double>(args.beta1),
                       .beta2 = static_cast<double>(args.beta2),
                       .eps = static_cast<double>(args.eps),
                       .weight_decay = static_cast<double>(args.weight_decay),
                       .step = static_cast<double>(args.step)};
  Values master = load(args.master), m = load(args.m), v = load(args.v), grad = load(args.grad);
  for (size_t i = 0; i < master.size(); ++i) {
    adamw_update(master[i], m[i], v[i], grad[i] * static_cast<double>(args.grad_scale), step);
  }
  store(args.master, master);
  store(args.m, m);
  store(args.v, v);
  // From the stored master: the weight is its rounding, not the unrounded value's.
  if (args.stochastic_rounding) {
    store(args.weight, rounded_at_random(load(args.master), args.rounding_key, args.first_element));
  } else if (args.weight.defined()) {
    store(args.weight, load(args.master));
  }
  if (args.zero_grad) store(args.grad, Values(grad.size(), 0.0));
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
