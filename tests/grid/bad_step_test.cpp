// A weight that is not a number: the step is not applied, nothing changes, and a run of such steps ends with a message
// that says where it began.
#include <cstring>
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
    for (const Tensor& t : {s.weight, s.master, s.m, s.v}) {
      const auto* data = static_cast<const std::byte*>(t.data);
      bytes.insert(bytes.end(), data, data + t.bytes());
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
  std::string weight;  ///< one element becomes NaN on its last rank
  std::string tensor, layer;
  int rank;  ///< what the message names
};

void check_poison(Session& session, const Poison& p) {
  Config config = session.config(p.where);
  config.train.max_bad_steps = 2;
  session.with_run(config, [&](Run& run) {
    INFO(p.where.name() << ", " << p.weight << ", rank " << session.world().rank());
    run.initialize();
    CHECK(run.train_step(false).applied);
    // Under ZeRO 1 the update's gather is still reading the weights.
    run.device().synchronize(run.device().stream(Role::comm));
    const bool here = run.grid().world->rank() + 1 == run.grid().world->size();
    const Segment* segment = here ? find_segment(run, p.weight) : nullptr;
    CHECK((segment != nullptr) == here);
    float* element = segment == nullptr ? nullptr : segment->weight.as<float>();
    const float good = element == nullptr ? 0 : *element;
    if (element != nullptr) *element = std::numeric_limits<float>::quiet_NaN();

    const std::vector<std::byte> before = state_of(run);
    const StepReport first = run.train_step(false);
    CHECK_FALSE(first.applied);
    CHECK(first.step == 2);
    CHECK(state_of(run) == before);
    const std::string message = test::message_of<RunError>([&] { run.train_step(false); });
    INFO(message);
    CHECK(test::contains(message, build_string(p.tensor, " (", p.layer, ") on rank ", p.rank)));
    CHECK(test::contains(message, "step 3"));
    CHECK(state_of(run) == before);

    // Healed, the run goes on: the row is broken by a good step.
    if (element != nullptr) *element = good;
    CHECK(run.train_step(false).applied);
    run.device().synchronize(run.device().stream(Role::comm));
    if (element != nullptr) *element = std::numeric_limits<float>::quiet_NaN();
    CHECK_FALSE(run.train_step(false).applied);
  });
}

}  // namespace

TEST_CASE("a step that is not finite is not applied", "[ranks=4]") {
  on_ranks(4, [&](Session& session) {
    // Every gradient behind the poisoned weight is NaN: the first tensor of the first block is named.
    const std::string table = "embed.token.weight", block = "embedding";
    check_poison(session, {{gpt2(), "pipeline: 2, tensor: 2"}, "layers.3.mlp.down.weight", table, block, 0});
    check_poison(session, {{gpt2(), "tensor: 2, data: 2", 1}, "layers.3.mlp.down.weight", table, block, 0});
    // The rows of the table on tensor rank 0 stand for tokens that do not occur: their gradient is 0.
    check_poison(session, {{llama_upper(), "pipeline: 2, tensor: 2"}, "head.weight", table, block, 1});
  });
}

}  // namespace trident::testing
