// The inspector against tensors with planted faults: what comes first in the order of cause, whatever the order in
// which it is looked at.
#include "core/train/inspector.h"

#include <cmath>
#include <limits>
#include <vector>

#include "core/device/device.h"
#include "support/catch.h"

using namespace trident;

namespace {

constexpr int64_t kContext = 4, kMicroBatch = 2, kHidden = 3, kTokens = kContext * kMicroBatch;

/// A block with two parameters that is never run.
class TwoWeights final : public Module {
 public:
  std::vector<ParamSpec> params() const override {
    return {{.name = "up", .shape = {kHidden, kHidden}}, {.name = "down", .shape = {kHidden, kHidden}}};
  }
  Tensor forward(Exec&, const BlockParams&, Tensor x, Saved&) const override { return x; }
  void backward(Exec&, const BlockParams&, Tensor, Saved&) const override {}
};

/// Everything an inspector is shown of one block, all finite to begin with.
struct Fixture {
  std::unique_ptr<Device> device = make_cpu_device();
  std::unique_ptr<World> world = make_self_world();
  Grid grid = make_grid(*world, Topology{});
  ModelShape shape = [] {
    ModelShape s;
    s.layers = 4, s.hidden = kHidden, s.context = kContext;
    return s;
  }();
  TwoWeights module;
  std::vector<float> up = std::vector<float>(kHidden * kHidden), down = up, dup = up, ddown = up;
  std::vector<float> inner = std::vector<float>(kTokens * kHidden), y = inner, dx = inner;
  double loss[3] = {};

  static Tensor matrix(std::vector<float>& values) {
    return Tensor(values.data(), DType::f32, {static_cast<int64_t>(values.size()) / kHidden, kHidden});
  }
  BlockParams params() { return {{matrix(up), matrix(down)}, {matrix(dup), matrix(ddown)}}; }
  Inspector inspector() { return {*device, grid, shape, kMicroBatch}; }
  void forward(Inspector& i, int64_t block, int micro) {
    const Tensor saved[] = {matrix(inner)};
    i.before_forward(block, module, params());
    i.after_forward(block, micro, saved, matrix(y), Tensor(loss, DType::f64, {3}));
  }
  void backward(Inspector& i, int64_t block, int micro) {
    i.after_backward(block, micro, module, params(), matrix(dx));
  }
};

const float kNan = std::nanf("");
const float kInf = std::numeric_limits<float>::infinity();

}  // namespace

TEST_CASE("finite tensors give no finding", "[train]") {
  Fixture f;
  f.inner[5] = std::numeric_limits<float>::max();
  Inspector i = f.inspector();
  f.forward(i, 2, 0);
  f.backward(i, 2, 0);
  CHECK_FALSE(i.first());
}

TEST_CASE("within a micro-batch: weights, what forward saves, its output, gradients in reverse, dx", "[train]") {
  Fixture f;
  const auto finding = [&] {
    Inspector i = f.inspector();
    f.forward(i, 2, 0);
    f.backward(i, 2, 0);
    REQUIRE(i.first());
    CHECK(i.first()->block == 2);
    return *i.first();
  };
  f.dx[kTokens * kHidden - 1] = kNan;
  CHECK(finding().tensor == "gradient of the input");
  CHECK(finding().sequence == 1);
  f.dup[1] = kInf;
  CHECK(finding().tensor == "gradient of up");
  CHECK(finding().sequence == -1);
  f.ddown[8] = -kInf;
  CHECK(finding().tensor == "gradient of down");
  f.loss[2] = std::nan("");
  CHECK(finding().tensor == "loss");
  CHECK(finding().sequence == -1);
  f.y[kContext * kHidden - 1] = kNan;
  CHECK(finding().tensor == "output");
  CHECK(finding().sequence == 0);
  f.inner[kContext * kHidden] = kNan;
  CHECK(finding().tensor == "activation f32[8,3]");
  CHECK(finding().sequence == 1);
  f.down[8] = kNan;
  CHECK(finding().tensor == "weight down");
  CHECK(finding().sequence == -1);
  f.up[0] = kInf;
  CHECK(finding().tensor == "weight up");
}

TEST_CASE("the earlier micro-batch comes first, in it the earlier block, however the schedule runs them", "[train]") {
  Fixture bad;
  bad.y[0] = bad.dx[0] = kNan;
  Fixture good;
  Inspector i = bad.inspector();
  bad.forward(i, 3, 1);
  CHECK(i.first()->sequence == kMicroBatch);
  good.forward(i, 1, 0);
  bad.backward(i, 3, 0);
  CHECK(i.first()->tensor == "gradient of the input");
  CHECK(i.first()->sequence == 0);
  bad.forward(i, 2, 1);
  CHECK(i.first()->block == 3);
  bad.backward(i, 4, 0);
  CHECK(i.first()->block == 4);
  bad.forward(i, 4, 0);
  CHECK(i.first()->tensor == "output");
  // Weights come before all micro-batches, though the block is seen late.
  bad.down[0] = kNan;
  bad.forward(i, 5, 2);
  CHECK(i.first()->tensor == "weight down");
}
