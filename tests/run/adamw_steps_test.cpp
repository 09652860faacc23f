// Ten AdamW steps with clipping against PyTorch's (tests/oracle), each resumed from the checkpoint before.
//
// Bounds. Before the first update both sides have the same weights, and the bounds for equal weights hold. Then Adam
// makes much of little: its early steps move a weight by lr * sign(g) however small g is, so a weight whose gradient is
// below the rounding errors moves either way. With errors of `eps` of a tensor's typical gradient, about 0.8 eps of its
// weights (the share of a normal distribution within +-eps) go astray by up to 2 lr: two correct programs differ after
// one update by about 2 sqrt(0.8 eps) of it, a thousandth for eps = 1e-6, and not by eps. What this does to the next
// losses and norms depends on the curvature and is measured: the same ten steps, a few times, with every weight nudged
// before each step by a random relative error of `nudge_size`. The bound is four times the root mean square of what
// the nudges move (at the worst step so far: divergence does not heal), on top of the bound for equal weights.
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "checkpoint/support.h"
#include "core/checkpoint/huggingface.h"
#include "core/run/run.h"
#include "run/oracle.h"

namespace trident::testing {
namespace {

constexpr uint32_t kNudgedRuns = 3;

struct Curve {
  std::vector<double> loss, norm;
};

/// Bounds of each step, absolute.
using Bounds = Curve;

/// The relative error of one operation that gradient_bound is made of: 4 sqrt(16 layers + 8) of them.
double nudge_size(const Config& config) {
  return derived_gradient_bound(config) / (4.0 * std::sqrt(16.0 * static_cast<double>(config.model.layers) + 8.0));
}

/// The bound of gradients for equal weights.
double gradient_bound_of(const Oracle& oracle) {
  Config config;
  config.model = read_hf_model(oracle.directory()).model;
  config.model.context = oracle.size("context");
  config.train.global_batch = oracle.size("batch");
  return derived_gradient_bound(config);
}

/// The recorded steps, with a change to the config, and with nudged weights when `seed` is not 0.
Curve ten_steps(const Oracle& oracle, uint32_t seed = 0, const std::function<void(Config&)>& change = {}) {
  const test::TempDir scratch(test::Medium::memory);
  std::string checkpoint = import_huggingface(oracle.directory(), scratch / "ckpt");
  const int64_t vocab = read_hf_model(oracle.directory()).model.vocab;
  const std::unique_ptr<World> world = make_self_world();
  std::mt19937 random(seed);
  Curve curve;
  for (int64_t step = 0; step < oracle.size("steps"); ++step) {
    const std::string dataset = oracle.write_dataset(step, scratch / "data", vocab);
    Config config = recorded_config(oracle, checkpoint, dataset, scratch / "run", 2);
    if (change) change(config);
    Run run(config, *world);
    CHECK(run.load(checkpoint).weights_only == (step == 0));
    CHECK(run.step() == step);
    if (seed != 0) {
      std::normal_distribution<float> error(0.0f, static_cast<float>(nudge_size(config)));
      for (const Segment& s : run.engine().store.segments()) {
        for (float *w = s.weight.as<float>(), *end = w + s.weight.numel(); w < end; ++w) *w *= 1.0f + error(random);
      }
    }
    const StepReport report = run.train_step(false);
    curve.loss.push_back(report.loss);
    curve.norm.push_back(report.grad_norm);
    if (!report.applied) break;
    run.save();
    checkpoint = find_checkpoints(config.out + "/checkpoints").front().path;
  }
  return curve;
}

/// The bounds described above, around a curve.
Bounds measured_bounds(const Oracle& oracle, const Curve& plain, double gradient_bound) {
  const size_t steps = plain.loss.size();
  std::vector<double> loss_squares(steps), norm_squares(steps);
  for (uint32_t seed = 1; seed <= kNudgedRuns; ++seed) {
    const Curve nudged = ten_steps(oracle, seed);
    REQUIRE(nudged.loss.size() == steps);
    for (size_t i = 0; i < steps; ++i) {
      loss_squares[i] += std::pow(nudged.loss[i] - plain.loss[i], 2) / kNudgedRuns;
      norm_squares[i] += std::pow(nudged.norm[i] - plain.norm[i], 2) / kNudgedRuns;
    }
  }
  Bounds bounds;
  double loss = 0, norm = 0;
  for (size_t i = 0; i < steps; ++i) {
    loss = std::max(loss, 4 * std::sqrt(loss_squares[i]));
    norm = std::max(norm, 4 * std::sqrt(norm_squares[i]));
    bounds.loss.push_back(loss + kLossBound * plain.loss[i]);
    bounds.norm.push_back(norm + gradient_bound * plain.norm[i]);
    // What the project promises of the losses.
    CHECK(bounds.loss[i] < 1e-4 * plain.loss[i]);
  }
  return bounds;
}

/// "" when a curve is the recorded one within its bounds, else the first difference.
std::string first_difference(const Oracle& oracle, const Curve& curve, const Bounds& bounds) {
  const std::vector<float> losses = oracle.floats("losses"), norms = oracle.floats("grad_norms");
  const auto differs = [](double a, double b, double bound) { return !(std::abs(a - b) <= bound); };
  for (size_t i = 0; i < curve.loss.size(); ++i) {
    if (differs(curve.loss[i], losses[i], bounds.loss[i])) {
      return build_string("step ", i + 1, ": loss ", curve.loss[i], ", recorded ", losses[i], ", bound ",
                          bounds.loss[i]);
    }
    if (differs(curve.norm[i], norms[i], bounds.norm[i])) {
      return build_string("step ", i + 1, ": gradient norm ", curve.norm[i], ", recorded ", norms[i], ", bound ",
                          bounds.norm[i]);
    }
  }
  return curve.loss.size() == losses.size() ? "" : "a step was not applied";
}

}  // namespace

TEST_CASE("ten AdamW steps with clipping agree with PyTorch, each resumed from the checkpoint before", "[ranks=1]") {
  for (const std::string arch : {"gpt2", "llama"}) {
    const Oracle oracle(arch);
    const Curve plain = ten_steps(oracle);
    INFO(arch);
    CHECK(first_difference(oracle, plain, measured_bounds(oracle, plain, gradient_bound_of(oracle))) == "");
  }
}

// The bounds must not be wide enough for a program that computes something else: each of these is found.
TEST_CASE("a wrong hyper-parameter of AdamW leaves the bounds of the ten steps", "[ranks=1]") {
  const Oracle oracle("llama");
  const Curve plain = ten_steps(oracle);
  const Bounds bounds = measured_bounds(oracle, plain, gradient_bound_of(oracle));
  const std::pair<const char*, std::function<void(Config&)>> faults[] = {
      {"eps left out", [](Config& c) { c.optimizer.eps = 0; }},
      {"eps ten times as large", [](Config& c) { c.optimizer.eps *= 10; }},
      {"beta1 0.89", [](Config& c) { c.optimizer.betas[0] = 0.89; }},
      {"beta2 0.96", [](Config& c) { c.optimizer.betas[1] = 0.96; }},
      {"no weight decay", [](Config& c) { c.optimizer.weight_decay = 0; }},
      {"no clipping", [](Config& c) { c.train.grad_clip = 0; }},
  };
  for (const auto& [name, change] : faults) {
    INFO(name);
    CHECK(first_difference(oracle, ten_steps(oracle, 0, change), bounds) != "");
  }
}

}  // namespace trident::testing
