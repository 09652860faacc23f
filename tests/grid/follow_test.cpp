// Every grid follows one rank: the same loss at each of ten steps, the same validation loss and the same logits, in the
// memory that was planned.
#include <algorithm>
#include <cmath>
#include <map>

#include "core/plan/plan.h"
#include "core/plan/settings.h"
#include "core/run/verify.h"
#include "grid/session.h"
#include "support/catch.h"

namespace trident::testing {
namespace {

constexpr int64_t kSteps = 10;

struct Showing {
  Curve curve;
  double valid_before = 0, valid_after = 0;
  std::vector<float> logits;  ///< of untrained weights
};

// A batch for the logits: sequence i is the same whatever the micro-batch.
Batch some_batch(const Config& config) {
  Batch batch;
  batch.sequences = config.train.micro_batch;
  batch.context = config.model.context;
  for (int64_t i = 0; i < batch.sequences * batch.context; ++i) {
    batch.tokens.push_back(static_cast<int32_t>((i * i * 7 + 3 * i + 11) % config.model.vocab));
    batch.targets.push_back(-1);
  }
  return batch;
}

// One token of each sequence.
std::vector<int64_t> some_rows(const Batch& batch) {
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < batch.sequences; ++i) rows.push_back(i * batch.context + (i * 11 + 5) % batch.context);
  return rows;
}

size_t allocated_bytes(const Device& device, Place place) {
  size_t bytes = 0;
  for (const Allocation& a : device.allocations()) bytes += a.place == place ? a.bytes : 0;
  return bytes;
}

void check_plan(Run& run, const std::string& what) {
  const int rank = run.grid().world->rank();
  const RankPlan plan = plan_rank(run.config(), rank, *planning_ops(run.config()));
  INFO(what << ", rank " << rank);
  CHECK(plan.device_bytes > 0);
  CHECK(plan.device_bytes == allocated_bytes(run.device(), Place::device));
  CHECK(plan.pinned_bytes == allocated_bytes(run.device(), Place::pinned));
}

Showing show(Session& session, const Config& config, const std::string& what) {
  Showing seen;
  session.with_run(config, [&](Run& run) {
    run.initialize();
    const Batch batch = some_batch(config);
    seen.logits = run.logits(batch, some_rows(batch));
    seen.valid_before = run.evaluate();
    for (int64_t i = 0; i < kSteps; ++i) {
      const StepReport report = run.train_step(false);
      CHECK(report.applied);
      CHECK(report.step == i + 1);
      seen.curve.loss.push_back(report.loss);
      seen.curve.norm.push_back(report.grad_norm);
    }
    seen.valid_after = run.evaluate();
    check_plan(run, what);
  });
  return seen;
}

// Of the sequences that both batches hold.
double relative_distance(const std::vector<float>& ours, const std::vector<float>& theirs) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < std::min(ours.size(), theirs.size()); ++i) {
    difference += std::pow(double{ours[i]} - double{theirs[i]}, 2);
    norm += std::pow(double{theirs[i]}, 2);
  }
  return std::sqrt(difference / norm);
}

void compare(Session& session, const Config& config, const std::string& what, const Showing& got, const Showing& want) {
  check_follows(session, what, got.curve, want.curve);
  if (!session.root()) return;
  INFO(what);
  CHECK(relative(got.valid_before, want.valid_before) <= CurveBounds{}.loss);
  CHECK(relative(got.valid_after, want.valid_after) <= CurveBounds{}.loss);
  // The comparison would be empty if nothing were learned.
  CHECK(got.valid_after < got.valid_before);
  // A forward pass is about a third of what the bound of the gradients allows for.
  const ModelConfig& m = config.model;
  const int64_t largest_sum = std::max({config.train.global_batch * m.context, m.vocab, m.ffn_hidden});
  CHECK(got.logits.size() == static_cast<size_t>(config.train.micro_batch * m.vocab));
  CHECK(relative_distance(got.logits, want.logits) <= gradient_bound(DType::f32, m.layers, largest_sum) / 3);
}

void check_grids(int ranks, const std::vector<GridCase>& cases) {
  on_ranks(ranks, [&](Session& session) {
    std::map<std::string, Showing> references;
    for (const GridCase& c : cases) {
      const Config reference = session.reference_config(c);
      if (references.count(c.model.name) == 0) {
        references[c.model.name] = show(session, reference, c.model.name + " on one rank");
      }
      const Config config = session.config(c);
      CHECK(config.parallel.ranks() == ranks);
      compare(session, config, c.name(), show(session, config, c.name()), references[c.model.name]);
    }
  });
}

}  // namespace

TEST_CASE("micro-batches of any size follow one rank", "[ranks=1]") {
  check_grids(1, {
                     {gpt2(), "pipeline: 1", 0, 1},
                     {dropout5(), "pipeline: 1", 0, 12},
                     {llama(), "pipeline: 1, sequence: true", 1, 3},
                 });
}

TEST_CASE("grids of 2 ranks follow one rank", "[ranks=2]") {
  check_grids(2, {
                     {gpt2(), "pipeline: 2, schedule: gpipe"},
                     {gpt2(), "tensor: 2", 0, 4},
                     {dropout5(), "tensor: 2, sequence: true"},
                     {uneven(), "data: 2", 1, 3},
                     {gpt2(), "data: 2", 2, 3},
                     {llama(), "data: 2", 3, 1},
                     {llama(), "pipeline: 2, schedule: interleaved, virtual_stages: 2", 0, 1},
                 });
}

TEST_CASE("grids of 3 ranks follow one rank", "[ranks=3]") {
  check_grids(3, {
                     {dropout5(), "pipeline: 3"},
                     {uneven(), "data: 3", 0},
                     {uneven(), "data: 3", 1, 1},
                     {uneven(), "data: 3", 3, 1},
                     {llama(), "pipeline: 3, schedule: interleaved, virtual_stages: 2"},
                 });
}

TEST_CASE("grids of 4 ranks follow one rank", "[ranks=4]") {
  check_grids(4, {
                     {wide_vocabulary(), "tensor: 4", 0, 4},
                     {wide_vocabulary(), "tensor: 4, sequence: true", 0, 1},
                     {gpt2(), "pipeline: 4"},
                     {dropout5(), "tensor: 2, data: 2, sequence: true", 1, 3},
                     {dropout5(), "tensor: 2, data: 2, sequence: true", 2, 3},
                     {gpt2(), "pipeline: 2, data: 2, schedule: gpipe", 3, 1},
                     {llama(), "pipeline: 2, tensor: 2, sequence: true"},
                 });
}

TEST_CASE("grids of 6 ranks follow one rank", "[ranks=6]") {
  check_grids(6, {
                     {dropout5(), "pipeline: 3, data: 2", 1},
                     {dropout5(), "pipeline: 3, data: 2", 2, 1},
                     {uneven(), "tensor: 2, data: 3", 1},
                     {llama(), "pipeline: 3, tensor: 2, sequence: true, schedule: interleaved, virtual_stages: 2"},
                 });
}

TEST_CASE("grids of 8 ranks follow one rank", "[ranks=8]") {
  check_grids(8, {
                     {dropout5(), "pipeline: 2, tensor: 2, data: 2, sequence: true", 1},
                     {dropout5(), "pipeline: 2, tensor: 2, data: 2, sequence: true", 3},
                     {llama(), "pipeline: 2, tensor: 2, data: 2, schedule: interleaved, virtual_stages: 2", 3, 1},
                     {gpt2(), "pipeline: 4, data: 2, schedule: gpipe", 0, 1},
                     {uneven(), "pipeline: 2, tensor: 4", 0, 3},
                     {llama(), "tensor: 4, data: 2", 1, 3},
                 });
}

TEST_CASE("32 ranks as 4 stages x 4 tensor x 2 data follow one rank", "[ranks=32]") {
  check_grids(32, {{dropout5(), "pipeline: 4, tensor: 4, data: 2, sequence: true", 1, 1}});
}

}  // namespace trident::testing
