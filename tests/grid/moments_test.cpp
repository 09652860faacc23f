// Moments in bf16: rounded with words of the element's own global index and the run's step, so that every grid still
// follows one rank, equal arithmetic is still equal bit for bit, and a resumed run still is the uninterrupted one.
//
// Where two grids' sums differ in their last bits, a moment is rounded to the other side in as small a share of the
// elements as the difference is of a bf16 gap: the bounds of fp32 moments hold, and nearly all moments are equal.
#include <cstdio>

#include "core/checkpoint/reader.h"
#include "core/plan/plan.h"
#include "core/plan/settings.h"
#include "grid/session.h"
#include "support/catch.h"

namespace trident::testing {
namespace {

constexpr int64_t kBefore = 5, kSteps = 10;

GridCase with_half_moments(GridCase c) {
  c.state = "bf16";
  return c;
}

// The share of the second moments' elements that two checkpoints hold differently.
double differing_share(const std::string& a, const std::string& b) {
  CheckpointReader ours(a), theirs(b);
  size_t differing = 0, elements = 0;
  for (const auto& [name, tensor] : theirs.manifest().tensors) {
    if (name.find("optimizer.exp_avg_sq.") != 0) continue;
    std::vector<float> x(static_cast<size_t>(whole(tensor.shape).numel())), y(x.size());
    const auto n = static_cast<int64_t>(x.size());
    ours.read(name, Tensor(x.data(), DType::f32, {n}));
    theirs.read(name, Tensor(y.data(), DType::f32, {n}));
    for (size_t i = 0; i < x.size(); ++i) differing += x[i] != y[i];
    elements += x.size();
  }
  return static_cast<double>(differing) / static_cast<double>(elements);
}

void check_grids(Session& session, const std::vector<GridCase>& cases) {
  for (const GridCase& full : cases) {
    const GridCase c = with_half_moments(full);
    const Config config = session.config(c), reference = session.reference_config(c);
    const Curve want = session.train(reference, kSteps, "", true);
    check_follows(session, c.name(), session.train(config, kSteps, "", true), want);
    const Curve otherwise = session.train(session.reference_config(full), kSteps);
    if (!session.root()) continue;
    // The comparison would be empty if the moments were full.
    CHECK(want.loss != otherwise.loss);
    // Ten steps of gradients that may differ by 1e-4 differ by 2.5% of a gap; other words would part half of all.
    const double share = differing_share(save_path(config, kSteps), save_path(reference, kSteps));
    std::printf("    second moments that differ: %.4f%%\n", 100 * share);
    CHECK(share < 0.025);
  }
}

void check_all_same(Session& session, const std::vector<GridCase>& cases) {
  std::vector<Curve> curves;
  std::vector<std::string> checkpoints;
  for (const GridCase& c : cases) {
    const Config config = session.config(with_half_moments(c));
    curves.push_back(session.train(config, kBefore, "", true));
    checkpoints.push_back(save_path(config, kBefore));
    check_same(session, cases.front().name() + " and " + c.name(), curves.back(), curves.front(), checkpoints.back(),
               checkpoints.front());
  }
}

Curve joined(Curve a, const Curve& b) {
  a.loss.insert(a.loss.end(), b.loss.begin(), b.loss.end());
  a.norm.insert(a.norm.end(), b.norm.begin(), b.norm.end());
  return a;
}

size_t bytes_of(const Config& config, const std::string& what) {
  for (const PlanRow& row : plan_rank(config, 0, *planning_ops(config)).rows) {
    if (row.what == what) return row.bytes;
  }
  return 0;
}

}  // namespace

TEST_CASE("moments in bf16 on 2 ranks follow one rank", "[ranks=2]") {
  on_ranks(2, [&](Session& session) {
    check_grids(session, {{gpt2(), "tensor: 2", 0, 4},
                          {dropout5(), "tensor: 2, sequence: true"},
                          {uneven(), "data: 2", 1, 3},
                          {llama(), "data: 2", 3, 1},
                          {gpt2(), "pipeline: 2"}});
  });
}

TEST_CASE("moments in bf16 on 4 ranks follow one rank", "[ranks=4]") {
  on_ranks(4, [&](Session& session) {
    check_grids(session, {{dropout5(), "tensor: 2, data: 2, sequence: true", 1, 3},
                          {gpt2(), "pipeline: 2, data: 2, schedule: gpipe", 3, 1},
                          {llama(), "pipeline: 2, tensor: 2, sequence: true"},
                          {wide_vocabulary(), "tensor: 4", 0, 4}});
  });
}

TEST_CASE("ZeRO stages are the same bit for bit with moments in bf16", "[ranks=4]") {
  on_ranks(4, [&](Session& session) {
    for (const std::string precision : {"fp32", "bf16"}) {
      check_all_same(session, {{uneven(), "tensor: 2, data: 2", 0, 3, precision},
                               {uneven(), "tensor: 2, data: 2", 1, 3, precision}});
      check_all_same(session, {{dropout5(), "pipeline: 2, data: 2", 2, 3, precision},
                               {dropout5(), "pipeline: 2, data: 2", 3, 3, precision}});
    }
  });
}

TEST_CASE("pipeline stages are the same bit for bit with moments in bf16", "[ranks=2]") {
  on_ranks(2, [&](Session& session) { check_all_same(session, {{llama(), "pipeline: 1"}, {llama(), "pipeline: 2"}}); });
}

TEST_CASE("offload is the same bit for bit with moments in bf16", "[ranks=4]") {
  on_ranks(4, [&](Session& session) {
    for (const int stage : {1, 3}) {
      const GridCase device{dropout5(), "tensor: 2, data: 2", stage, 3, "bf16"};
      GridCase host = device;
      host.offload = "host";
      check_all_same(session, {device, host});
    }
  });
}

TEST_CASE("with moments in bf16 a run goes on bit for bit on its grid, and follows on another", "[ranks=4]") {
  on_ranks(4, [&](Session& session) {
    const GridCase c = with_half_moments({dropout5(), "tensor: 2, data: 2, sequence: true", 1, 1});
    Config whole = session.config(c), first = session.config(c), second = session.config(c);
    first.checkpoint.async = true;
    const Curve uninterrupted = session.train(whole, kSteps, "", true);
    const Curve before = session.train(first, kBefore, "", true);
    const std::string checkpoint = save_path(first, kBefore);
    const Curve after = session.train(second, kSteps - kBefore, checkpoint, true);
    check_same(session, c.name(), joined(before, after), uninterrupted, save_path(second, kSteps),
               save_path(whole, kSteps));
    const GridCase other = with_half_moments({dropout5(), "pipeline: 2, tensor: 2", 0, 2});
    check_follows(session, "resumed on " + other.name(),
                  joined(before, session.train(session.config(other), kSteps - kBefore, checkpoint)), uninterrupted);
  });
}

TEST_CASE("a checkpoint of either kind of moments loads into the other", "[ranks=2]") {
  on_ranks(2, [&](Session& session) {
    const GridCase full{gpt2(), "data: 2", 1}, half = with_half_moments(full);
    for (const bool narrows : {true, false}) {
      const GridCase &from = narrows ? full : half, &to = narrows ? half : full;
      const Config saving = session.config(from), going_on = session.config(to), there = session.config(to);
      session.train(saving, kBefore, "", true);
      const std::string checkpoint = save_path(saving, kBefore);
      // Loaded and saved at once: what was bf16 is as it was, what was fp32 lies within half a bf16 gap.
      session.train(there, 0, checkpoint, true);
      if (session.root()) {
        const std::vector<TensorDifference> differences = diff_checkpoints(save_path(there, kBefore), checkpoint);
        for (const TensorDifference& d : differences) {
          INFO(d.tensor << ": " << d.detail);
          CHECK(d.tensor.find("optimizer.") == 0);
          CHECK(d.max_rel <= dtype_epsilon(DType::bf16));
        }
        CHECK(differences.empty() != narrows);
      }
      // Half a gap, 2^-9 of a moment, moves an update by as much of the rate: far below what a step's loss moves by.
      check_follows(session, "moments in " + from.state + " into " + to.state,
                    session.train(going_on, kSteps - kBefore, checkpoint),
                    session.train(session.config(from), kSteps - kBefore, checkpoint), {.loss = 1e-2, .norm = 1e-1});
    }
  });
}

TEST_CASE("moments in bf16 take half the bytes, as planned", "[ranks=2]") {
  on_ranks(2, [&](Session& session) {
    const GridCase c{gpt2(), "data: 2", 1, 2, "bf16"};
    const Config full = session.config(c), half = session.config(with_half_moments(c));
    for (const char* moments : {"first moments", "second moments"}) {
      CHECK(bytes_of(full, moments) > 0);
      CHECK(bytes_of(half, moments) * 2 == bytes_of(full, moments));
    }
    session.with_run(half, [&](Run& run) {
      size_t allocated = 0;
      for (const Allocation& a : run.device().allocations()) allocated += a.place == Place::device ? a.bytes : 0;
      CHECK(plan_rank(half, session.world().rank(), *planning_ops(half)).device_bytes == allocated);
    });
  });
}

}  // namespace trident::testing
