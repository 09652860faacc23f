// The step's sums and the decision how it is applied.
//
// Bounds: sums of n terms in double: kLambda sqrt(n) eps(f64) sum|terms|, exact elsewhere. The control's numbers come
// from double arithmetic whose inputs carry those errors, and are rounded to f32 once: kLambda eps(f32) relative. What
// is not applied is exactly zero.
#include <cmath>
#include <limits>

#include "cases.h"
#include "core/base/error.h"

namespace trident::cases {
namespace {

Case sums_case(int64_t blocks, int64_t segments, int64_t losses) {
  Case c;
  c.name = build_string("step_sums ", blocks, " blocks ", segments, " segments ", losses, " losses");
  c.operands = [=, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o;
    o.push_back({"squares", Use::in, DType::f64, {segments}, magnitudes(random.normal(DType::f64, segments))});
    o.push_back({"block", Use::in, DType::i32, {segments}, random.integers(segments, -1, blocks)});
    if (losses > 0) o.push_back({"loss", Use::in, DType::f64, {losses}, random.normal(DType::f64, losses, 1, 5)});
    o.push_back({"sums", Use::out, DType::f64, {blocks + kStepSums}, {}});
    return o;
  };
  c.run = [=](const Ops& ops, Arguments& t) {
    ops.step_sums(t.stream(), {.sums_N = t["sums"],
                               .squares_S = t["squares"],
                               .block_S = t["block"],
                               .loss_L = losses > 0 ? t["loss"] : Tensor{},
                               .valid_tokens = 4095,
                               .stop_votes = 1});
  };
  c.bounds = [=](const Oracle& oracle) {
    const double terms = std::sqrt(static_cast<double>(std::max(segments, losses)));
    Values bound(magnitudes(oracle.after("sums")));
    for (double& x : bound) x *= kLambda * terms * dtype_epsilon(DType::f64);
    return Bounds{{"sums", bound}};
  };
  return c;
}

struct Decision {
  const char* name;
  double squares, loss;  ///< of the last block; of the whole batch
  float max_norm;
  double updates;
};

Case control_case(const Decision& d) {
  constexpr int64_t kBlocks = 5;
  Case c;
  c.name = build_string("step_control ", d.name);
  c.operands = [=, seed = seed_of(c.name)] {
    Values sums = magnitudes(Random(seed).normal(DType::f64, kBlocks + kStepSums, 1e4));
    sums[kBlocks - 1] = d.squares;
    sums[kBlocks + kLossSum] = d.loss;
    sums[kBlocks + kTokenSum] = 512;
    sums[kBlocks + kVoteSum] = 0;
    std::vector<Operand> o;
    o.push_back({"sums", Use::in, DType::f64, {kBlocks + kStepSums}, sums});
    o.push_back({"updates", Use::inout, DType::f64, {1}, {d.updates}});
    o.push_back({"control", Use::out, DType::f32, {4}, {}});
    return o;
  };
  c.run = [=](const Ops& ops, Arguments& t) {
    ops.step_control(t.stream(), {.control_4 = t["control"],
                                  .updates_1 = t["updates"],
                                  .sums_N = t["sums"],
                                  .lr = 3e-3f,
                                  .beta1 = 0.9f,
                                  .beta2 = 0.95f,
                                  .max_norm = d.max_norm});
  };
  c.bounds = [](const Oracle& oracle) {
    Values bound(magnitudes(oracle.after("control")));
    for (double& x : bound) x *= kLambda * kEps;
    return Bounds{{"control", bound}};
  };
  return c;
}

}  // namespace

std::vector<Case> step_cases() {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  std::vector<Case> list = {sums_case(1, 1, 0), sums_case(4, 37, 1), sums_case(130, 1000, 64), sums_case(3, 0, 5)};
  for (const Decision& d :
       {Decision{"clips", 1e7, 2000, 1.0f, 0}, Decision{"does not clip", 1, 2000, 0.0f, 7},
        Decision{"below the norm", 1, 2000, 1e6f, 999}, Decision{"norm overflows", kInfinity, 2000, 1.0f, 3},
        Decision{"norm is NaN", kNan, 2000, 1.0f, 3}, Decision{"loss is NaN", 1, kNan, 1.0f, 3},
        Decision{"loss is infinite", 1, -kInfinity, 1.0f, 3}}) {
    list.push_back(control_case(d));
  }
  return list;
}

}  // namespace trident::cases
