// What ZeRO sends: the ledger's bytes of one step against the paper's volumes (Rajbhandari et al., ZeRO, arXiv
// 1910.02054, section 7).
#include <map>

#include "core/comm/ledger.h"
#include "grid/session.h"
#include "support/catch.h"

namespace trident::testing {
namespace {

/// Bytes that this rank sends over the data axis in the second step.
int64_t data_bytes_of_a_step(Run& run, Ledger& ledger) {
  const auto sent = [&] {
    run.device().synchronize(run.device().stream(Role::comm));  // the weights of the step are still on their way
    int64_t bytes = 0;
    for (const auto& [key, volume] : ledger.volumes()) {
      if (key.rfind("data.", 0) == 0) bytes += volume.bytes;
    }
    return bytes;
  };
  run.initialize();
  run.train_step(false);
  const int64_t before = sent();
  run.train_step(false);
  return sent() - before;
}

}  // namespace

TEST_CASE("a step sends twice the parameters with ZeRO 0 to 2 and three times with ZeRO 3", "[ranks=2]") {
  on_ranks(2, [&](Session& session) {
    for (const TestModel* model : {&dropout5(), &llama()}) {
      for (int stage = 0; stage <= 3; ++stage) {
        const GridCase c{*model, "data: 2", stage, model->global_batch / 2};
        session.with_run(session.config(c), [&](Run& run) {
          const ZeroStore& store = run.engine().store;
          int64_t all = 0, layers = 0, layer = 0;
          const std::vector<int64_t> blocks = store.blocks();
          for (const int64_t block : blocks) {
            layer = store.layout(block).numel;
            all += layer;
            if (block != blocks.front() && block != blocks.back()) layers += layer;
          }
          layer = store.layout(1).numel;
          // Of two ranks each sends half of a tensor, in f32. Backward does not gather again what is still there: the
          // two ends, and the last two layers.
          const int64_t psi = all * 4 / 2, again = (layers - 2 * layer) * 4 / 2;
          INFO(c.name() << ": parameters " << all << ", of layers " << layers << ", of one " << layer);
          CHECK(data_bytes_of_a_step(run, session.world().ledger()) == 2 * psi + (stage == 3 ? again : 0));
        });
      }
    }
  });
}

TEST_CASE("with kept weights a step gathers each layer once, whatever its micro-batches, and computes the same",
          "[ranks=2]") {
  on_ranks(2, [&](Session& session) {
    const GridCase c{llama(), "data: 2", 3, 2};
    Config often = session.config(c), once = session.config(c);
    once.zero.keep_gathered = true;
    session.with_run(once, [&](Run& run) {
      const ZeroStore& store = run.engine().store;
      const int64_t micros = once.micro_batches();
      CHECK(micros == 3);
      int64_t all = 0, layers = 0;
      const std::vector<int64_t> blocks = store.blocks();
      for (const int64_t block : blocks) {
        all += store.layout(block).numel;
        if (block != blocks.front() && block != blocks.back()) layers += store.layout(block).numel;
      }
      // Gradients of layers are summed after every micro-batch, those of the two ends once.
      const int64_t gathered = all * 4 / 2, reduced = (micros * layers + all - layers) * 4 / 2;
      CHECK(data_bytes_of_a_step(run, session.world().ledger()) == gathered + reduced);
    });
    const Curve want = session.train(often, 3, "", true);
    check_same(session, "kept", session.train(once, 3, "", true), want, save_path(once, 3), save_path(often, 3));
    Config from_file = session.config({llama(), "data: 2", 3, 2, "fp32", "none", "host, offload_parameters: nvme"});
    from_file.zero.keep_gathered = true;
    check_same(session, "kept, from a file", session.train(from_file, 3, "", true), want, save_path(from_file, 3),
               save_path(often, 3));
  });
}

}  // namespace trident::testing
