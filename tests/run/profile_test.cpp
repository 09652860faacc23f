// log.profile on a whole run: the parts of a step add up to it, and the work they claim is the model's.
#include "core/train/profile.h"

#include <chrono>
#include <cmath>
#include <map>

#include "checkpoint/support.h"
#include "core/checkpoint/huggingface.h"
#include "core/plan/settings.h"
#include "core/run/run.h"
#include "core/train/flops.h"
#include "run/oracle.h"

namespace trident::testing {
namespace {

using Clock = std::chrono::steady_clock;

StepProfile profile_of(Run& run, int64_t steps) {
  Profiler profiler;
  run.train_step(false);  // caches, pages, the kernels' first calls
  for (int64_t i = 0; i < steps; ++i) {
    const auto start = Clock::now();
    profiler.begin_step();
    run.train_step(false);
    profiler.end_step(std::chrono::duration<double>(Clock::now() - start).count());
  }
  return profiler.take(run.step(), *run.grid().world);
}

}  // namespace

TEST_CASE("the parts of a step add up to its time, and their work is the model's", "[ranks=1]") {
  for (const std::string arch : {"gpt2", "llama"}) {
    INFO(arch);
    const test::TempDir scratch;
    const Oracle oracle(arch);
    const std::string checkpoint = import_huggingface(oracle.directory(), scratch / "ckpt");
    const std::string dataset =
        oracle.write_dataset(0, scratch / "data", read_hf_model(oracle.directory()).model.vocab);
    Config config = recorded_config(oracle, checkpoint, dataset, scratch / "run", 1);
    config.log.profile = true;
    const std::unique_ptr<World> world = make_self_world();
    Run run(config, *world);
    run.load(checkpoint);
    constexpr int64_t kSteps = 20;
    const StepProfile profile = profile_of(run, kSteps);

    double sum = 0, products = 0, flops = 0;
    std::map<std::string, StepProfile::Line> lines;
    for (const StepProfile::Line& line : profile.lines) {
      lines[line.name] = line;
      (line.part() ? products : sum) += line.ms;
      if (line.part()) flops += line.work.flops;
    }
    // What is not the recorder's: two readings of the clock around each step. A scheduler may strike there, too.
    constexpr double kResidualMs = 0.02, kShare = 0.01;
    INFO("sum " << sum << " ms, step " << profile.step_ms << " ms");
    CHECK(std::abs(sum - profile.step_ms) <= kShare * profile.step_ms + kResidualMs);
    CHECK(std::abs(products - lines["gemm"].ms) <= 1e-9 * products);
    for (const char* name : {"gemm.qkv", "gemm.out", "gemm.up", "gemm.down", "gemm.head", "attention", "norm",
                             "activation", "pointwise", "embedding", "loss", "optimizer", "copy", "data", "host"}) {
      // What gpt2 adds and drops out is done by its norms and products.
      if (arch == "gpt2" && name == std::string("activation")) continue;
      INFO(name);
      CHECK(lines[name].ms > 0);
    }
    CHECK(lines.count("gemm.other") == 0);
    CHECK(lines.count("comm_tensor") + lines.count("comm_pipeline") + lines.count("offload") == 0);
    const double tokens = static_cast<double>(config.train.global_batch * config.model.context);
    const FlopShape shape = flop_shape_of(config.model);
    CHECK(flops == 6 * matmul_parameters(shape) * tokens);
    // Forward 4, backward 10 for each kept score and head element: backward makes the scores again.
    const double scores = tokens * static_cast<double>(shape.context + 1) / 2;
    CHECK(lines["attention"].work.flops ==
          14 * scores * static_cast<double>(shape.layers * shape.heads * shape.head_dim));
  }
}

}  // namespace trident::testing
