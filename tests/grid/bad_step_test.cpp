// A weight that is not a number, or so large that an activation overflows: the step is not applied, nothing changes,
// and a run of such steps ends with a message that says where it began.
#include <algorithm>
#include <limits>

#include "core/base/error.h"
#include "grid/session.h"
#include "support/catch.h"

namespace trident::testing {
namespace {

// Everything a step may change on this rank.
std::vector<std::byte> state_of(Run& run) {
  std::vector<std::byte> bytes;
  for (const Segment& s : run.engine().store.segments()) {
    const auto add = [&](const void* data, size_t size) {
      bytes.insert(bytes.end(), static_cast<const std::byte*>(data), static_cast<const std::byte*>(data) + size);
    };
    add(s.weight.data, s.weight.bytes());
    for (const StatePart part : {StatePart::master, StatePart::first_moment, StatePart::second_moment}) {
      std::vector<float> values(static_cast<size_t>(s.end - s.begin));
      run.engine().state.read(s, part, 0, s.end - s.begin, values.data());
      add(values.data(), values.size() * sizeof(float));
    }
  }
  return bytes;
}

// The first segment of a parameter on this rank; nullptr when it is elsewhere.
const Segment* find_segment(Run& run, const std::string& name) {
  for (const Segment& s : run.engine().store.segments()) {
    if (s.param->spec.name == name && !s.param->spec.tied_copy) return &s;
  }
  return nullptr;
}

struct Poison {
  GridCase where;
  int rank;  ///< where the values of a weight, as far as this rank updates it, are replaced
  std::string weight;
  float value;
  bool all;          ///< or only the first of them
  std::string says;  ///< what the message names
};

// Sets the poisoned values; returns those that were there.
std::vector<float> poison(const Segment* segment, const Poison& p) {
  if (segment == nullptr) return {};
  float* values = segment->weight.as<float>();
  const std::vector<float> good(values, values + (p.all ? segment->weight.numel() : 1));
  std::fill_n(values, good.size(), p.value);
  return good;
}

void check_poison(Session& session, const Poison& p) {
  Config config = session.config(p.where);
  config.train.max_bad_steps = 2;
  session.with_run(config, [&](Run& run) {
    INFO(p.where.name() << ", " << p.weight << ", rank " << session.world().rank());
    run.initialize();
    CHECK(run.train_step(false).applied);
    // Under ZeRO 1 the update's gather is still reading the weights.
    run.device().synchronize(run.device().stream(Role::comm));
    const bool here = run.grid().world->rank() == p.rank;
    const Segment* segment = here ? find_segment(run, p.weight) : nullptr;
    CHECK((segment != nullptr) == here);
    const std::vector<float> good = poison(segment, p);

    const std::vector<std::byte> before = state_of(run);
    const StepReport first = run.train_step(false);
    CHECK_FALSE(first.applied);
    CHECK(first.step == 2);
    CHECK(state_of(run) == before);
    const std::string message = test::message_of<RunError>([&] { run.train_step(false); });
    INFO(message);
    CHECK(test::contains(message, build_string("first bad tensor: ", p.says)));
    CHECK(test::contains(message, "step 3"));
    CHECK_FALSE(test::contains(message, "run again"));
    CHECK(state_of(run) == before);

    // Healed, the run goes on: the row is broken by a good step.
    if (here) std::copy(good.begin(), good.end(), segment->weight.as<float>());
    ZeroStore& store = run.engine().store;
    for (const int64_t block : store.blocks()) {
      store.publish_weights(block, run.device().record(run.device().stream(Role::compute)));
    }
    CHECK(run.train_step(false).applied);
    run.device().synchronize(run.device().stream(Role::comm));
    poison(segment, p);
    CHECK_FALSE(run.train_step(false).applied);
  });
}

}  // namespace

TEST_CASE("a step that is not finite is not applied, and the weight at fault is named", "[ranks=4]") {
  on_ranks(4, [&](Session& session) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const std::string down = "layers.3.mlp.down.weight", q = "layers.1.attn.q.weight";
    const GridCase stages{gpt2(), "pipeline: 2, tensor: 2"}, data{gpt2(), "tensor: 2, data: 2", 1};
    check_poison(session, {stages, 3, down, nan, false, "weight " + down + " (layer 3) on rank 3"});
    check_poison(session, {stages, 1, q, nan, false, "weight " + q + " (layer 1) on rank 1"});
    // The weights are gathered after every step, applied or not: the replica of lower rank has the value, too.
    check_poison(session, {data, 3, down, nan, false, "weight " + down + " (layer 3) on rank 1"});
    check_poison(session, {{llama_upper(), "pipeline: 2, tensor: 2"},
                           3,
                           "head.weight",
                           nan,
                           false,
                           "weight head.weight (head) on rank 3"});
  });
}

// Weights of 1e38 are finite, sums over 32 of their products with normalised activations are not. What overflows lies
// between the two matrices of the block, f32[tokens, ffn / tensor], on the poisoned tensor rank alone; from the sum
// over ranks on, everything is bad everywhere.
TEST_CASE("an activation that overflows is named, with its layer, rank and sequence", "[ranks=4]") {
  on_ranks(4, [&](Session& session) {
    const std::string up = "layers.1.mlp.up.weight", inside = "activation f32[64,64] (layer 1) on rank ";
    check_poison(session, {{gpt2(), "pipeline: 2, tensor: 2"},
                           1,
                           up,
                           1e38f,
                           true,
                           inside + "1, sequence 0 of the batch, " + session.directory() + "/narrow: token "});
    // The micro-batches of the second data rank are the odd ones; sequences of two.
    check_poison(session, {{gpt2(), "tensor: 2, data: 2"},
                           3,
                           up,
                           1e38f,
                           true,
                           inside + "3, sequence 2 of the batch, " + session.directory() + "/narrow: token "});
  });
}

}  // namespace trident::testing
