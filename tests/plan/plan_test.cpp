#include "core/plan/plan.h"

#include <numeric>

#include "core/config/load.h"
#include "core/plan/settings.h"
#include "core/train/state.h"
#include "kernels/cpu/cpu_ops.h"
#include "support/catch.h"

using namespace trident;

namespace {

Config shipped(const std::string& name, std::vector<std::string> overrides = {}, int ranks = 0) {
  return load_config(std::string(TRIDENT_SOURCE_DIR) + "/configs/" + name, overrides, ranks);
}

size_t bytes_of(const RankPlan& plan, const std::string& what) {
  for (const PlanRow& row : plan.rows) {
    if (row.what == what) return row.bytes;
  }
  return 0;
}

}  // namespace

TEST_CASE("allocations are summed by the text before the colon, in order of appearance") {
  const auto rows = allocation_rows({{"a: 1", Place::device, 5}, {"b", Place::device, 7}, {"a: 2", Place::device, 6}});
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].what == "a");
  CHECK(rows[0].count == 2);
  CHECK(rows[0].bytes == 11);
  CHECK(rows[1].bytes == 7);
}

TEST_CASE("memory of one name in two places is two rows") {
  const auto rows = allocation_rows({{"a", Place::device, 5}, {"a", Place::pinned, 7}});
  REQUIRE(rows.size() == 2);
  CHECK(rows[1].place == Place::pinned);
  CHECK(rows[1].bytes == 7);
}

TEST_CASE("a plan for GPUs takes the CUDA kernels' scratch, and tells pinned host memory from the device's") {
  const Config gpu = shipped("gpt2_124m.yaml", {"device=cuda"}, 1), cpu = shipped("gpt2_124m.yaml", {}, 1);
  const RankPlan plan = plan_rank(gpu, 0, *planning_ops(gpu)), host = plan_rank(cpu, 0, *planning_ops(cpu));
  // 1024 partial sums in double.
  CHECK(bytes_of(plan, "scratch of sums") == 1024 * 8);
  // Backward of the MLP needs most: dh and dact live, and the product of the weight gradient its workspace, 32 MiB.
  CHECK(bytes_of(plan, "scratch") >= size_t{4096} * 768 * 2 * 5 + (size_t{32} << 20));
  CHECK(bytes_of(plan, "scratch") != bytes_of(host, "scratch"));
  for (const char* what : {"parameters", "gradients", "master weights", "losses"}) {
    CHECK(bytes_of(plan, what) == bytes_of(host, what));
  }
  // A GPU keeps what GELU makes of 12 layers x 4096 tokens x 3072, the CPU makes it again.
  CHECK(bytes_of(plan, "activations") == bytes_of(host, "activations") + size_t{12} * 4096 * 3072 * 2);
  size_t device = 0, pinned = 0;
  for (const PlanRow& row : plan.rows) {
    const bool on_host = row.what.find("on the host") != std::string::npos;
    CHECK((row.place == Place::pinned) == on_host);
    (on_host ? pinned : device) += row.bytes;
  }
  CHECK(plan.device_bytes == device);
  CHECK(plan.pinned_bytes == pinned);
  // One slot's tokens and targets, i32.
  CHECK(bytes_of(plan, "tokens, on the host") == size_t{2} * 4 * 4096);
  const std::string text = describe(plan);
  CHECK(text.find("device, in all") < text.find("tokens, on the host"));
  CHECK(text.find("tokens, on the host") < text.find("host, pinned, in all"));
}

TEST_CASE("host memory that holds state stands in a table of its own, and no byte is counted twice") {
  RankPlan plan{.rows = allocation_rows({{"activations", Place::device, 5 << 20},
                                         {"first moments: block 0", Place::host, 7 << 20},
                                         {"first moments: block 1", Place::host, 1 << 20},
                                         {"staging", Place::pinned, 3 << 20}})};
  CHECK(bytes_at(plan.rows, Place::host) == 8 << 20);
  plan.device_bytes = 5 << 20;
  plan.host_bytes = 8 << 20;
  plan.pinned_bytes = 3 << 20;
  plan.staging_bytes = 2 << 20;
  const std::string text = describe(plan);
  CHECK(text.find("device, in all") < text.find("first moments (2)"));
  CHECK(text.find("first moments (2)") < text.find("host, in all"));
  CHECK(text.find("host, in all") < text.find("host, pinned, in all"));

  Config config;
  config.device = DeviceKind::cuda;
  CHECK(need_of(plan, config).device == 5 << 20);
  CHECK(need_of(plan, config).host == 13 << 20);
  // Where the device is the processor its memory is the host's.
  for (const DeviceKind device : {DeviceKind::cpu, DeviceKind::simt}) {
    config.device = device;
    CHECK(need_of(plan, config).device == 5 << 20);
    CHECK(need_of(plan, config).host == 18 << 20);
  }
}

TEST_CASE("a host takes what its ranks take together; the fullest is shown") {
  const std::vector<RankNeed> needs = {
      {.device = 0, .host = 1 << 20}, {.device = 0, .host = 2 << 20}, {.device = 0, .host = 4 << 20}};
  CHECK(describe_hosts(needs, DeviceKind::cuda, 0) ==
        "hosts: 7.0 MiB on one host (ranks 0-2; --ranks-per-host N says how many share one)\n");
  // The last host has one rank only, and more than the first.
  CHECK(describe_hosts(needs, DeviceKind::cpu, 2) ==
        "hosts: 4.0 MiB on the fullest of 2 hosts (rank 2), the device's included\n");
  CHECK(describe_hosts({needs[0]}, DeviceKind::cuda, 0) == "hosts: 1.0 MiB on one host (rank 0)\n");
}

TEST_CASE("GPT-2 124M on one rank takes the bytes that can be counted by hand") {
  const auto ops = make_cpu_ops();
  const Plan plan = make_plan(shipped("gpt2_124m.yaml", {}, 1), *ops);
  CHECK(plan.parameters == 124439808);
  REQUIRE(plan.ranks.size() == 1);
  const RankPlan& rank = plan.ranks.front();
  // Padding between parameters is less than 32 elements each, 12 parameters a layer.
  CHECK(rank.parameters >= plan.parameters);
  CHECK(rank.parameters <= plan.parameters + 32 * 12 * 14);
  CHECK(bytes_of(rank, "parameters") == static_cast<size_t>(rank.parameters) * 2);
  CHECK(bytes_of(rank, "gradients") == static_cast<size_t>(rank.parameters) * 4);
  CHECK(bytes_of(rank, "first moments") == static_cast<size_t>(rank.parameters) * 4);
  // Kept per layer and token, bf16: two norm outputs, two residual sums, qkv (3), attention and the MLP inside (4),
  // whose activation is made again: 12 x 768 elements; statistics and the head's share come on top.
  const size_t layers = size_t{12} * 4 * 1024 * 12 * 768 * 2;
  CHECK(bytes_of(rank, "activations") > layers);
  CHECK(bytes_of(rank, "activations") < layers + layers / 10);
}

TEST_CASE("each ZeRO stage shards more over the data ranks, and nothing else") {
  const auto ops = make_cpu_ops();
  const auto plan_at = [&](int stage) {
    return plan_rank(shipped("gpt2_124m.yaml",
                             {"train.global_batch=16", "parallel.data=4", "zero.stage=" + std::to_string(stage)}, 4),
                     1, *ops);
  };
  const RankPlan whole = plan_at(0), one = plan_at(1), two = plan_at(2), three = plan_at(3);
  for (const RankPlan* sharded : {&one, &two, &three}) {
    for (const char* what : {"master weights", "first moments", "second moments"}) {
      CHECK(bytes_of(whole, what) == 4 * bytes_of(*sharded, what));
    }
    CHECK(bytes_of(whole, "activations") == bytes_of(*sharded, "activations"));
  }
  CHECK(bytes_of(whole, "gradients") == bytes_of(one, "gradients"));
  CHECK(bytes_of(whole, "parameters") == bytes_of(one, "parameters"));
  CHECK(bytes_of(whole, "parameters") == bytes_of(two, "parameters"));
  CHECK(bytes_of(whole, "parameters") == 4 * bytes_of(three, "parameters"));

  // A layer: 12 D^2 of matrices, 9 D of biases, 4 D of norms; all multiples of 128 elements.
  const size_t d = 768, layer = 12 * d * d + 13 * d;
  const auto all = static_cast<size_t>(whole.parameters), layers = 12 * layer;
  for (const RankPlan* sharded : {&two, &three}) {
    CHECK(bytes_of(*sharded, "gradients") == 4 * (all - layers) + 4 * layers / 4);
    CHECK(bytes_of(*sharded, "gradients in use") == 2 * 4 * layer);
  }
  CHECK(bytes_of(two, "parameters in use") == 0);
  CHECK(bytes_of(three, "parameters in use") == 2 * 2 * layer + 2 * (all - layers));
}

TEST_CASE("recomputation keeps ten of twelve tensors of a layer, or its input alone") {
  const auto ops = make_cpu_ops();
  const auto plan_with = [&](const std::string& recompute) {
    return plan_rank(shipped("gpt2_124m.yaml", {"train.recompute=" + recompute}, 1), 0, *ops);
  };
  const RankPlan none = plan_with("none"), selective = plan_with("selective"), full = plan_with("full");
  const size_t row = size_t{4} * 1024 * 768 * 2, layers = 12;
  // Two norms' outputs, 2 D a token.
  CHECK(bytes_of(none, "activations") - bytes_of(selective, "activations") == layers * 2 * row);
  CHECK(bytes_of(none, "recomputed activations") == 0);
  // A layer's output, which is the next one's input; and one layer at a time as without.
  const size_t layer = bytes_of(none, "activations") - bytes_of(full, "activations") + layers * row;
  CHECK(layer % layers == 0);
  CHECK(bytes_of(full, "recomputed activations") >= layer / layers);
  CHECK(bytes_of(full, "recomputed activations") < layer / layers + 1024);
  // Tensor ranks that hold the same rows keep a part each: the last layer's output, which the head keeps, is whole.
  const auto split = [&](const std::string& recompute) {
    return plan_rank(shipped("gpt2_124m.yaml", {"parallel.tensor=2", "train.recompute=" + recompute}, 2), 0, *ops);
  };
  CHECK(bytes_of(split("full"), "activations") == bytes_of(full, "activations") - (layers - 2) * row / 2);
}

TEST_CASE("the first stage of 1F1B holds a slot for every stage behind it, GPipe one for every micro-batch") {
  const auto ops = make_cpu_ops();
  const auto slots = [&](const std::string& schedule, int rank) {
    const RankPlan plan = plan_rank(
        shipped("gpt2_124m.yaml", {"train.global_batch=32", "parallel.pipeline=4", "parallel.schedule=" + schedule}, 4),
        rank, *ops);
    for (const PlanRow& row : plan.rows) {
      if (row.what == "activations") return row.count;
    }
    return int64_t{0};
  };
  CHECK(slots("1f1b", 0) == 4);
  CHECK(slots("1f1b", 3) == 1);
  CHECK(slots("gpipe", 0) == 8);
}

TEST_CASE("a trillion parameters on 800 ranks: every rank is planned, the state adds up") {
  const auto ops = make_cpu_ops();
  const Config config = shipped("trillion.yaml");
  const Plan plan = make_plan(config, *ops);
  REQUIRE(plan.ranks.size() == 800);
  // The announcement's model: 298 layers of 17,408. 12 L D^2 plus embeddings and biases.
  CHECK(static_cast<double>(plan.parameters) > 12.0 * 298 * 17408 * 17408);
  // Everything that a checkpoint holds, over all ranks, is each parameter's master weight and two moments, once.
  size_t state = 0;
  for (const RankPlan& rank : plan.ranks) state += rank.staging_bytes;
  CHECK(state == static_cast<size_t>(plan.parameters) * 12);
  const std::string text = describe(plan, config);
  CHECK(text.find("stage 49: layers") != std::string::npos);
  CHECK(text.find("head") != std::string::npos);
}

TEST_CASE("13 billion parameters fit one device of 32 GB with offload, and not without") {
  const Config config = shipped("offload_13b.yaml");
  const RankPlan plan = plan_rank(config, 0, *planning_ops(config));
  const auto parameters = static_cast<size_t>(plan.parameters);
  CHECK(parameters > 12'800'000'000);
  CHECK(config.memory.device_limit.bytes == 32'000'000'000);
  CHECK(plan.device_bytes <= static_cast<size_t>(config.memory.device_limit.bytes));
  // Gradients, master weights and two moments in f32.
  CHECK(plan.host_bytes >= 16 * parameters);
  CHECK(plan.host_bytes + plan.pinned_bytes <= 17 * parameters);
  const Config whole = shipped("offload_13b.yaml", {"zero.offload=none"});
  CHECK(plan_rank(whole, 0, *planning_ops(whole)).device_bytes > 18 * parameters);
}
