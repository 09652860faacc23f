#include "core/train/profile.h"

#include <nlohmann/json.hpp>
#include <set>

#include "core/base/error.h"
#include "core/train/metrics.h"
#include "support/catch.h"

using namespace trident;
using trace::Activity;

namespace {

StepProfile sample(int64_t ranks) {
  StepProfile p{.last_step = 20, .steps = 10, .ranks = ranks, .step_ms = 200};
  p.lines = {{.name = "gemm", .ms = 100, .least_ms = 90, .most_ms = 110, .work = {.flops = 3e10, .bytes = 1}},
             {.name = "gemm.qkv", .ms = 100, .least_ms = 90, .most_ms = 110, .work = {.flops = 3e10, .bytes = 1}},
             {.name = "norm", .ms = 50, .least_ms = 50, .most_ms = 51, .work = {.bytes = 2e9}},
             {.name = "comm_tensor", .ms = 0, .least_ms = 0, .most_ms = 5},
             {.name = "host", .ms = 50, .least_ms = 40, .most_ms = 50}};
  return p;
}

}  // namespace

TEST_CASE("every operation belongs to a family, a product to its layer", "[train]") {
  for (int op = 0; op < kOps; ++op) {
    INFO(op_name(static_cast<Op>(op)));
    const Activity activity = activity_of(static_cast<Op>(op), Activity::gemm_up);
    CHECK((activity > Activity::host && activity < Activity::copy));
    CHECK((activity == Activity::gemm_up) == (static_cast<Op>(op) == Op::gemm));
  }
  CHECK(activity_of(Op::gemm, Activity::gemm_head) == Activity::gemm_head);
  CHECK_THROWS_AS(activity_of(static_cast<Op>(kOps), Activity::gemm_up), InternalError);
}

TEST_CASE("the tracer tells the thread's recorder, and nobody when there is none", "[train]") {
  OpTracer tracer;
  tracer.begin({Op::sum, {}});
  tracer.end();
  trace::Recorder times;
  times.start();
  {
    const trace::Product down(Activity::gemm_down);
    tracer.begin({Op::gemm, {.flops = 5}});
    tracer.end();
  }
  tracer.begin({Op::rope, {.bytes = 6}});
  tracer.end();
  times.stop();
  CHECK(times[Activity::gemm_down].work.flops == 5);
  CHECK(times[Activity::pointwise].work.bytes == 6);
  CHECK_THROWS_AS(tracer.end(), InternalError);
}

TEST_CASE("a profile is the mean of its steps, adds up, and starts again", "[train]") {
  Profiler profiler;
  const std::unique_ptr<Communicator> self = make_self_communicator("world");
  CHECK_THROWS_AS(profiler.take(1, *self), InternalError);
  OpTracer tracer;
  const auto step = [&](double seconds) {
    profiler.begin_step();
    tracer.begin({Op::norm_forward, {.bytes = 8}});
    tracer.end();
    tracer.begin({Op::gemm, {.flops = 4}});
    tracer.end();
    profiler.end_step(seconds);
  };
  step(0.5);
  step(1.5);
  const StepProfile p = profiler.take(7, *self);
  CHECK(p.last_step == 7);
  CHECK(p.steps == 2);
  CHECK(p.ranks == 1);
  CHECK(p.step_ms == 1000);
  std::set<std::string> names;
  for (const StepProfile::Line& line : p.lines) {
    INFO(line.name);
    names.insert(line.name);
    CHECK(line.ms > 0);
    CHECK(line.least_ms == line.ms);
    CHECK(line.most_ms == line.ms);
    if (line.name == "norm") CHECK(line.work.bytes == 8);
    if (line.name == "gemm" || line.name == "gemm.other") CHECK(line.work.flops == 4);
  }
  CHECK(names == std::set<std::string>{"gemm", "gemm.other", "norm", "host"});
  step(0.25);
  CHECK(profiler.take(8, *self).step_ms == 250);
}

TEST_CASE("the table has shares and rates, and the ranks when there are several", "[train]") {
  const std::vector<std::string> one = describe(sample(1));
  REQUIRE(one.size() == 7);
  CHECK(one[0] == "profile of steps 11 to 20        ms a step    share");
  CHECK(one[1] == "gemm                                100.00    50.0%     300.0 GFLOP/s");
  CHECK(one[2] == "  qkv                               100.00    50.0%     300.0 GFLOP/s");
  CHECK(one[3] == "norm                                 50.00    25.0%      40.0 GB/s   ");
  CHECK(one[4] == "waiting: tensor ranks                 0.00     0.0%");
  CHECK(one[5] == "between operations                   50.00    25.0%");
  CHECK(one[6] == "step                                200.00   100.0%");
  const std::vector<std::string> four = describe(sample(4));
  CHECK(four[1] == "gemm                                100.00    50.0%     300.0 GFLOP/s       90.00 to 110.00");
  CHECK(four[4] == "waiting: tensor ranks                 0.00     0.0%                          0.00 to 5.00");
  StepProfile single = sample(1);
  single.steps = 1;
  CHECK(describe(single)[0].starts_with("profile of step 20  "));
}

TEST_CASE("the metrics line of a step carries the profile", "[train]") {
  StepMetrics m{.step = 20};
  CHECK(!nlohmann::json::parse(to_json(m)).contains("profile"));
  m.profile = sample(4);
  const auto profile = nlohmann::json::parse(to_json(m)).at("profile");
  CHECK(profile.at("steps") == 10);
  CHECK(profile.at("step_ms") == 200);
  const auto& spent = profile.at("spent");
  CHECK(spent.at("gemm.qkv") == nlohmann::json({{"ms", 100}, {"least_ms", 90}, {"most_ms", 110}, {"gflops", 300.0}}));
  CHECK(spent.at("norm").at("gbytes") == 40.0);
  CHECK(!spent.at("host").contains("gbytes"));
  CHECK(!spent.at("comm_tensor").contains("gflops"));
}
