// The support matrix: every ZeRO stage with every schedule, recomputation and offload, on a handful of grids. Where the
// sums are made in the same order, five steps are the same bit for bit: stage 1 as stage 0, stage 3 as stage 2, and
// whatever is recomputed or offloaded. What a grid earns here is what `trident explain support` prints, word for word.
#include <array>
#include <filesystem>

#include "core/plan/plan.h"
#include "core/plan/support_matrix.h"
#include "grid/session.h"
#include "support/catch.h"

namespace trident::testing {
namespace {

constexpr int64_t kSteps = 5;

struct Grid {
  std::string parallel;
  int64_t micro_batch;
  int shard_group = 0;
};

/// Of this process's scratch files, which have no name.
size_t scratch_bytes() {
  size_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;  // the directory's own descriptor
    const std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
    if (target.find("/trident-") != std::string::npos && target.ends_with(" (deleted)")) {
      bytes += std::filesystem::file_size(entry.path());
    }
  }
  return bytes;
}

/// Trains and checks that this rank allocated what the plan says.
Curve train_as_planned(Session& session, const Config& config) {
  Curve curve;
  session.with_run(config, [&](Run& run) {
    const RankPlan plan = plan_rank(config, session.world().rank(), run.device().ops());
    RankPlan found = plan;
    found.rows = allocation_rows(run.device().allocations());
    INFO(describe(plan) << "\n" << describe(found));
    CHECK(plan.same_bytes(found));
    CHECK(plan.file_bytes == scratch_bytes());
    run.initialize();
    for (int64_t step = 0; step < kSteps; ++step) {
      const StepReport report = run.train_step(false);
      curve.loss.push_back(report.loss);
      curve.norm.push_back(report.grad_norm);
    }
  });
  return curve;
}

/// One class of cells: stages whose sums are made in the same order. Returns the line of the matrix that it earned.
std::string check_stages(Session& session, const Grid& grid, const std::vector<int>& stages, const Curve& reference) {
  const auto train = [&](int stage, const std::string& recompute, const std::string& offload) {
    const GridCase c{
        .model = gpt2(),
        .parallel = grid.parallel,
        .zero = stage,
        .micro_batch = grid.micro_batch,
        .recompute = recompute,
        .offload = offload + (grid.shard_group > 0 ? build_string(", shard_group: ", grid.shard_group) : "")};
    return std::pair(c.name(), train_as_planned(session, session.config(c)));
  };
  const auto [first, want] = train(stages.front(), "none", "none");
  check_follows(session, first, want, reference);
  int runs = 0;
  std::string stage_names;
  for (const int stage : stages) {
    stage_names += build_string(stage_names.empty() ? "" : " ", stage);
    for (const char* recompute : {"none", "selective", "full", "full, offload_activations: host"}) {
      for (const std::string offload :
           {"none", "host", "nvme", "host, offload_parameters: host", "nvme, offload_parameters: nvme"}) {
        if (stage != 3 && offload.find("parameters") != std::string::npos) continue;
        const auto [name, got] = train(stage, recompute, offload);
        ++runs;
        INFO(name);
        if (!session.root()) continue;
        CHECK(got.loss == want.loss);
        CHECK(got.norm == want.norm);
      }
    }
  }
  return build_string(grid.parallel, grid.shard_group > 0 ? build_string(", shard_group: ", grid.shard_group) : "",
                      "\n    ZeRO ", stage_names,
                      " x recompute none, selective, full, full with offload_activations x offload none, host, nvme",
                      stages.back() == 3 ? " (ZeRO 3: and host, nvme with offload_parameters, too)" : "", ": ", runs,
                      " runs, one result\n");
}

void check_grid(Session& session, const Grid& grid) {
  const Curve reference = session.train(session.reference_config({.model = gpt2()}), kSteps);
  std::vector<std::vector<int>> classes = {{0, 1}, {2, 3}};
  if (grid.shard_group > 0) classes = {{1}, {2, 3}};
  for (const std::vector<int>& stages : classes) {
    const std::string earned = check_stages(session, grid, stages, reference);
    INFO(earned);
    CHECK(std::string(support_matrix()).find(earned) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("the support matrix on 2 ranks", "[ranks=2]") {
  on_ranks(2, [&](Session& session) {
    check_grid(session, {"data: 2", 2});
    check_grid(session, {"pipeline: 2, schedule: gpipe", 4});
  });
}

TEST_CASE("the support matrix on 3 ranks", "[ranks=3]") {
  on_ranks(3, [&](Session& session) {
    check_grid(session, {"pipeline: 3", 2});
    check_grid(session, {"data: 3", 2});
  });
}

TEST_CASE("the support matrix on 4 ranks", "[ranks=4]") {
  on_ranks(4, [&](Session& session) {
    check_grid(session, {"data: 2, tensor: 2, sequence: true", 2});
    check_grid(session, {"data: 2, pipeline: 2", 2});
    check_grid(session, {"data: 2, pipeline: 2, schedule: interleaved, virtual_stages: 2", 1});
    check_grid(session, {"data: 2, tensor: 2, schedule: gpipe", 3});
    check_grid(session, {"data: 4", 1, 2});
  });
}

}  // namespace trident::testing
