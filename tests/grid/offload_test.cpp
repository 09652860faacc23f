// Offloaded state: checkpoints do not show where it lived, and a delayed update is one step late, no more.
#include "grid/session.h"
#include "support/catch.h"

namespace trident::testing {
namespace {

constexpr int64_t kSteps = 4;

GridCase offloaded(const std::string& parallel, int zero, const std::string& offload) {
  return {.model = dropout5(),
          .parallel = parallel,
          .zero = zero,
          .micro_batch = 2,
          .precision = "bf16",
          .offload = offload};
}

}  // namespace

TEST_CASE("a checkpoint is the same wherever the state lives, and goes on anywhere", "[ranks=4]") {
  on_ranks(4, [&](Session& session) {
    const std::string parallel = "pipeline: 2, data: 2";
    const auto config = [&](const std::string& offload) { return session.config(offloaded(parallel, 3, offload)); };
    const Config plain = config("none");
    const Curve want = session.train(plain, kSteps, "", true);
    std::vector<Config> configs;
    for (const char* offload : {"host", "nvme", "nvme, offload_parameters: host", "host, offload_parameters: nvme"}) {
      configs.push_back(config(offload));
      const Curve got = session.train(configs.back(), kSteps, "", true);
      check_same(session, offload, got, want, save_path(configs.back(), kSteps), save_path(plain, kSteps));
    }
    // From memory to the file, from the file to the device, ...
    const Config further = config("none");
    const Curve after = session.train(further, kSteps, save_path(plain, kSteps), true);
    configs.push_back(plain);
    for (size_t i = 0; i + 1 < configs.size(); ++i) {
      Config next = configs[i + 1];
      next.out = session.fresh_directory();
      const Curve got = session.train(next, kSteps, save_path(configs[i], kSteps), true);
      check_same(session, build_string("handover ", i), got, after, save_path(next, 2 * kSteps),
                 save_path(further, 2 * kSteps));
    }
  });
}

TEST_CASE("tables and layers of several chunks pass through the file as through memory", "[ranks=2]") {
  on_ranks(2, [&](Session& session) {
    const TestModel wide_layers{"gpt2 with wide layers",
                                "arch: gpt2, layers: 3, hidden: 512, heads: 4, vocab: 257, context: 16", "narrow", 4};
    struct {
      const TestModel& model;
      int64_t block, chunks;
    } const cases[] = {{wide_vocabulary(), 0, 21}, {wide_layers, 1, 2}};
    for (const auto& [model, block, chunks] : cases) {
      const auto train = [&, &model = model, block = block, chunks = chunks](const std::string& offload) {
        const Config config =
            session.config({.model = model, .parallel = "data: 2", .zero = 3, .micro_batch = 1, .offload = offload});
        session.with_run(config, [&](Run& run) {
          const ParameterFile* const file = run.engine().store.parameter_file();
          if (file != nullptr) CHECK(run.engine().store.owned(block) > (chunks - 1) * file->elements());
        });
        return session.train(config, kSteps);
      };
      const Curve want = train("none");
      for (const char* offload :
           {"host, offload_parameters: host", "host, offload_parameters: nvme", "nvme, offload_parameters: nvme"}) {
        const Curve got = train(offload);
        INFO(model.name << ": " << offload);
        CHECK(got.loss == want.loss);
        CHECK(got.norm == want.norm);
      }
    }
  });
}

TEST_CASE("a delayed update is seen one step late, and by a checkpoint at once", "[ranks=2]") {
  on_ranks(2, [&](Session& session) {
    for (const char* offload : {"host", "nvme", "host, offload_parameters: host", "nvme, offload_parameters: nvme"}) {
      INFO(offload);
      const auto config = [&](bool delayed, double lr) {
        Config c = session.config(offloaded("data: 2", 3, offload));
        c.zero.delayed_update = delayed;
        c.optimizer.lr = lr;
        c.optimizer.min_lr = 0;
        c.optimizer.warmup_steps = 0;
        return c;
      };
      const double lr = 3e-3;
      const Config late = config(true, lr);
      const Curve delayed = session.train(late, 3);
      // The first two steps see the initial weights, the third those of the first update.
      const Curve still = session.train(config(false, 0), 2);
      const Config one = config(false, lr);
      const Curve first = session.train(one, 1, "", true);
      const Curve second = session.train(config(false, 0), 2, save_path(one, 1));
      if (session.root()) {
        CHECK(delayed.loss[0] == first.loss[0]);
        CHECK(delayed.loss[1] == still.loss[1]);
        CHECK(delayed.loss[2] == second.loss[1]);
        CHECK(delayed.loss[2] != still.loss[1]);
      }
      // One step and its checkpoint: nothing is late. A run that is saved goes on as one that is resumed.
      const Config saved = config(true, lr);
      check_same(session, "one step", session.train(saved, 1, "", true), first, save_path(saved, 1), save_path(one, 1));
      const Config resumed = config(true, lr), whole = config(true, lr);
      const Curve tail = session.train(resumed, 3, save_path(saved, 1), true);
      Curve run;
      session.with_run(whole, [&](Run& r) {
        r.initialize();
        for (int64_t step = 0; step < 4; ++step) {
          const StepReport report = r.train_step(false);
          if (step > 0) run.loss.push_back(report.loss), run.norm.push_back(report.grad_norm);
          if (step == 0 || step == 3) r.save();
        }
        r.finish_save();
      });
      check_same(session, "saved on the way", run, tail, save_path(whole, 4), save_path(resumed, 4));
    }
  });
}

}  // namespace trident::testing
