// Where the arithmetic is the same, two grids do the same bit for bit: ZeRO stages, schedules, and the pipeline split
// of a model whose embeddings are not tied.
#include "grid/session.h"
#include "support/catch.h"

namespace trident::testing {
namespace {

constexpr int64_t kSteps = 5;

struct Trained {
  Curve curve;
  std::string checkpoint;
};

Trained train(Session& session, const GridCase& c) {
  const Config config = session.config(c);
  return {session.train(config, kSteps, "", true), save_path(config, kSteps)};
}

// All of these do what the first does.
void check_all_same(Session& session, const std::vector<GridCase>& cases) {
  const Trained first = train(session, cases.front());
  for (size_t i = 1; i < cases.size(); ++i) {
    const Trained other = train(session, cases[i]);
    check_same(session, cases[i].name() + " and " + cases.front().name(), other.curve, first.curve, other.checkpoint,
               first.checkpoint);
  }
}

GridCase at_stage(GridCase c, int stage) {
  c.zero = stage;
  return c;
}

// 0 and 1, and 2 and 3, which sum over the data ranks after every micro-batch.
void check_zero_stages(int ranks, const std::vector<GridCase>& cases) {
  on_ranks(ranks, [&](Session& session) {
    for (const GridCase& c : cases) {
      check_all_same(session, {c, at_stage(c, 1)});
      check_all_same(session, {at_stage(c, 2), at_stage(c, 3)});
    }
  });
}

void check_recomputation(int ranks, const std::vector<GridCase>& cases) {
  on_ranks(ranks, [&](Session& session) {
    for (const GridCase& c : cases) {
      GridCase selective = c, full = c;
      selective.recompute = "selective";
      full.recompute = "full";
      check_all_same(session, {c, selective, full});
    }
  });
}

}  // namespace

TEST_CASE("ZeRO stages are the same bit for bit on 2 ranks", "[ranks=2]") {
  check_zero_stages(2, {{dropout5(), "data: 2"}, {uneven(), "data: 2", 0, 2, "bf16"}});
}

TEST_CASE("ZeRO stages are the same bit for bit on 3 ranks", "[ranks=3]") {
  check_zero_stages(3, {{uneven(), "data: 3"}, {llama(), "data: 3"}});
}

TEST_CASE("ZeRO stages are the same bit for bit on 4 ranks", "[ranks=4]") {
  check_zero_stages(4, {{dropout5(), "pipeline: 2, data: 2"},
                        {dropout5(), "pipeline: 2, data: 2", 0, 3, "bf16"},
                        {llama(), "pipeline: 2, data: 2, schedule: interleaved, virtual_stages: 2", 0, 3},
                        {uneven(), "tensor: 2, data: 2"}});
}

TEST_CASE("with one micro-batch a step all ZeRO stages are the same bit for bit", "[ranks=2]") {
  on_ranks(2, [&](Session& session) {
    for (const GridCase& c : {GridCase{dropout5(), "data: 2", 0, 6}, GridCase{llama(), "data: 2", 0, 6, "bf16"}}) {
      check_all_same(session, {c, at_stage(c, 1), at_stage(c, 2), at_stage(c, 3)});
    }
  });
}

TEST_CASE("recomputation changes no bit on 2 ranks", "[ranks=2]") {
  check_recomputation(2, {{dropout5(), "tensor: 2", 0, 2, "bf16"},
                          {dropout5(), "tensor: 2, sequence: true", 0, 4},
                          {llama(), "pipeline: 2, schedule: interleaved, virtual_stages: 2", 0, 1},
                          {dropout5(), "data: 2", 3, 3}});
}

TEST_CASE("recomputation changes no bit on 4 ranks", "[ranks=4]") {
  check_recomputation(4, {{dropout5(), "pipeline: 2, tensor: 2, schedule: gpipe", 0, 1},
                          {uneven(), "tensor: 2, data: 2", 2, 3},
                          {llama(), "pipeline: 2, data: 2", 3, 1, "bf16"}});
}

TEST_CASE("the schedules are the same bit for bit", "[ranks=2]") {
  on_ranks(2, [&](Session& session) {
    for (const TestModel* model : {&dropout5(), &llama()}) {
      check_all_same(session, {{*model, "pipeline: 2, schedule: 1f1b"},
                               {*model, "pipeline: 2, schedule: gpipe"},
                               {*model, "pipeline: 2, schedule: interleaved, virtual_stages: 2"}});
    }
  });
}

TEST_CASE("1, 2 and 3 stages of an untied model are the same bit for bit", "[ranks=3]") {
  on_ranks(3, [&](Session& session) {
    check_all_same(session, {{llama(), "pipeline: 1"}, {llama(), "pipeline: 2"}, {llama(), "pipeline: 3"}});
  });
}

TEST_CASE("a run repeated is the same bit for bit", "[ranks=8]") {
  on_ranks(8, [&](Session& session) {
    const GridCase c{dropout5(), "pipeline: 2, tensor: 2, data: 2, sequence: true", 1, 1};
    check_all_same(session, {c, c});
  });
}

}  // namespace trident::testing
