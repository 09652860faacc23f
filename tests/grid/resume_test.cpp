// A run saved on one grid goes on on another as if nothing had happened; on the same grid, bit for bit.
#include "core/run/verify.h"
#include "grid/session.h"
#include "support/catch.h"

namespace trident::testing {
namespace {

constexpr int64_t kBefore = 5, kSteps = 10;

Curve joined(Curve a, const Curve& b) {
  a.loss.insert(a.loss.end(), b.loss.begin(), b.loss.end());
  a.norm.insert(a.norm.end(), b.norm.begin(), b.norm.end());
  return a;
}

// Five steps on one grid, five on the other.
void check_handover(Session& session, const GridCase& from, const GridCase& to, const Curve& uninterrupted) {
  const Config first = session.config(from), second = session.config(to);
  const Curve before = session.train(first, kBefore, "", true);
  const Curve after = session.train(second, kSteps - kBefore, save_path(first, kBefore));
  check_follows(session,
                "saved on " + from.name() + ", resumed on " + to.parallel + ", ZeRO " + std::to_string(to.zero),
                joined(before, after), uninterrupted);
}

}  // namespace

TEST_CASE("a run goes on on any grid as if nothing had happened", "[ranks=8]") {
  on_ranks(8, [&](Session& session) {
    const auto handovers = [&](const TestModel& model, const std::vector<std::pair<GridCase, GridCase>>& pairs) {
      const Curve curve = session.train(session.reference_config({.model = model, .parallel = ""}), kSteps);
      for (const auto& [from, to] : pairs) check_handover(session, from, to, curve);
    };
    const TestModel &tied = dropout5(), &untied = llama(), &odd = uneven();
    handovers(tied, {{{tied, "pipeline: 1"}, {tied, "pipeline: 2, tensor: 2, data: 2, sequence: true", 1}},
                     {{tied, "pipeline: 2, tensor: 2, data: 2", 1}, {tied, "pipeline: 1", 0, 4}},
                     {{tied, "tensor: 2"}, {tied, "data: 2"}},
                     {{tied, "pipeline: 5"}, {tied, "tensor: 4, data: 2", 1, 3}},
                     {{tied, "data: 2", 1}, {tied, "pipeline: 3"}}});
    handovers(untied, {{{untied, "pipeline: 2"}, {untied, "tensor: 2", 0, 4}},
                       {{untied, "pipeline: 2, schedule: interleaved, virtual_stages: 3"}, {untied, "pipeline: 4"}},
                       {{untied, "tensor: 4, sequence: true"}, {untied, "pipeline: 3, data: 2", 1}}});
    handovers(odd, {{{odd, "data: 4", 1, 3}, {odd, "data: 3", 0}},
                    {{odd, "data: 3", 1, 1}, {odd, "tensor: 4, data: 2", 1, 3}},
                    {{odd, "data: 3", 3, 1}, {odd, "pipeline: 2, data: 2", 2, 3}},
                    {{odd, "data: 4", 2, 3}, {odd, "tensor: 2, data: 3", 3, 1}}});
  });
}

TEST_CASE("a bf16 checkpoint goes on in fp32", "[ranks=4]") {
  on_ranks(4, [&](Session& session) {
    const GridCase rounded{gpt2(), "pipeline: 2, tensor: 2", 0, 2, "bf16"}, exact{gpt2(), "tensor: 2, data: 2", 1, 3};
    const Config first = session.config(rounded);
    const Curve before = session.train(first, kBefore, "", true);
    // As trident verify bounds bf16.
    const double norm = gradient_bound(DType::bf16, first.model.layers, first.train.global_batch * first.model.context);
    check_follows(session, rounded.name(), before, session.train(session.reference_config(rounded), kBefore),
                  {.loss = 0x1p-7, .norm = norm});
    const std::string checkpoint = save_path(first, kBefore);
    check_follows(session, "resumed in fp32 on " + exact.name(),
                  session.train(session.config(exact), kSteps - kBefore, checkpoint),
                  session.train(session.reference_config(exact), kSteps - kBefore, checkpoint));
  });
}

TEST_CASE("on the same grid a run goes on bit for bit", "[ranks=8]") {
  on_ranks(8, [&](Session& session) {
    for (const std::string precision : {"fp32", "bf16"}) {
      const GridCase c{dropout5(), "pipeline: 2, tensor: 2, data: 2, sequence: true", 1, 1, precision};
      Config whole = session.config(c), first = session.config(c), second = session.config(c);
      first.checkpoint.async = true;
      const Curve uninterrupted = session.train(whole, kSteps, "", true);
      const Curve before = session.train(first, kBefore, "", true);
      const Curve after = session.train(second, kSteps - kBefore, save_path(first, kBefore), true);
      check_same(session, c.name(), joined(before, after), uninterrupted, save_path(second, kSteps),
                 save_path(whole, kSteps));
    }
  });
}

}  // namespace trident::testing
