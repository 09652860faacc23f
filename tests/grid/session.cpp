#include "grid/session.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/config/load.h"
#include "core/data/indexed_writer.h"
#include "core/plan/settings.h"
#include "support/catch.h"

namespace trident::testing {
namespace {

// The first `size` ranks of a world as a world of their own. The others stand in for further such worlds, so that
// everybody takes part in the splits.
class FirstRanks final : public World {
 public:
  FirstRanks(World& parent, int size) : parent_(parent), size_(size) {}
  bool member() const { return parent_.rank() < size_; }
  int rank() const override { return parent_.rank() % size_; }
  int size() const override { return size_; }
  std::string host() const override { return parent_.host(); }
  int local_rank() const override { return rank(); }
  int local_size() const override { return size_; }
  Ledger& ledger() override { return parent_.ledger(); }
  std::unique_ptr<Communicator> split(int color, std::string_view axis) override {
    return parent_.split(parent_.rank() / size_ * size_ + color, axis);
  }
  void abort(int code, std::string_view message) override { parent_.abort(code, message); }

 private:
  World& parent_;
  int size_;
};

// Text that a model can learn a little: each token follows from the one before, with a random term. Of `vocab` tokens
// from `first` on.
void write_dataset(const std::string& prefix, int32_t first, int32_t vocab, uint32_t seed) {
  constexpr int kDocuments = 7, kTokens = 431;
  IndexedDatasetWriter writer(prefix, first + vocab);
  std::mt19937 random(seed);
  for (int d = 0; d < kDocuments; ++d) {
    std::vector<int32_t> tokens{static_cast<int32_t>(random() % static_cast<uint32_t>(vocab))};
    while (tokens.size() < kTokens)
      tokens.push_back(static_cast<int32_t>((int64_t{tokens.back()} * 5 + random() % 16) % vocab));
    for (int32_t& token : tokens) token += first;
    writer.append(tokens);
    writer.end_document();
  }
  writer.finish();
}

}  // namespace

const TestModel& gpt2() {
  static const TestModel model{"gpt2", "arch: gpt2, layers: 4, hidden: 32, heads: 4, vocab: 257, context: 32"};
  return model;
}

const TestModel& dropout5() {
  static const TestModel model{
      "gpt2, 5 layers, dropout",
      "arch: gpt2, layers: 5, hidden: 32, heads: 4, vocab: 257, context: 32, dropout: 0.1, max_positions: 40"};
  return model;
}

const TestModel& uneven() {
  static const TestModel model{
      "gpt2 of odd sizes",
      "arch: gpt2, layers: 5, hidden: 36, heads: 4, ffn_hidden: 100, vocab: 263, context: 24, max_positions: 25"};
  return model;
}

const TestModel& llama() {
  static const TestModel model{
      "llama", "arch: llama, layers: 6, hidden: 64, heads: 8, kv_heads: 4, ffn_hidden: 96, vocab: 259, context: 32"};
  return model;
}

const TestModel& llama_upper() {
  static const TestModel model{"llama on upper tokens", llama().yaml, "upper"};
  return model;
}

const TestModel& wide_vocabulary() {
  static const TestModel model{"gpt2 with 50,257 tokens",
                               "arch: gpt2, layers: 2, hidden: 32, heads: 4, vocab: 50257, context: 16", "wide", 4};
  return model;
}

std::string GridCase::name() const {
  return build_string(model.name, ", ", parallel, ", ZeRO ", zero, ", micro-batches of ", micro_batch,
                      precision == "fp32" ? "" : ", " + precision,
                      recompute == "none" ? "" : ", recompute: " + recompute,
                      offload == "none" ? "" : ", offload: " + offload, state == "fp32" ? "" : ", moments in " + state);
}

Session::Session(int ranks, World& world) : world_(&world), all_(world.split(0, "session")) {
  if (world.size() != ranks) throw UserError(build_string("this case needs mpirun -n ", ranks));
  if (root()) {
    owned_ = std::make_unique<test::TempDir>(test::Medium::memory);
    directory_ = owned_->path();
    for (const uint32_t part : {0, 1}) {
      const std::string suffix = part == 0 ? "" : "-valid";
      write_dataset(directory_ + "/narrow" + suffix, 0, 257, 1 + part);
      write_dataset(directory_ + "/upper" + suffix, 200, 57, 3 + part);
      write_dataset(directory_ + "/wide" + suffix, 0, 50257, 5 + part);
    }
  }
  const auto name = all_->all_gather_bytes(std::as_bytes(std::span(directory_))).front();
  directory_.assign(reinterpret_cast<const char*>(name.data()), name.size());
}

std::string Session::fresh_directory() { return build_string(directory_, "/", directories_++); }

Config Session::config(const GridCase& c) {
  const std::string data = directory_ + "/" + c.model.data;
  const std::string yaml =
      build_string("model: {init_std: 0.08, ", c.model.yaml, "}\nparallel: {", c.parallel, "}\nzero: {stage: ", c.zero,
                   ", offload: ", c.offload,
                   c.offload.find("nvme") != std::string::npos ? ", nvme_path: " + directory_ + "/nvme" : "",
                   "}\ntrain: {steps: 10, precision: ", c.precision, ", global_batch: ", c.model.global_batch,
                   ", micro_batch: ", c.micro_batch, ", grad_clip: 1.0, recompute: ", c.recompute, "}\n",
                   "optimizer: {lr: 3e-3, min_lr: 3e-4, warmup_steps: 4, state_dtype: ", c.state, "}\n",
                   "data: {tokenizer: {kind: none}, train: [{path: ", data, "}], valid: [{path: ", data,
                   "-valid}], eval_batches: 2}\n", "checkpoint: {async: false}\nout: ", fresh_directory(), "\n");
  return load_config_text(yaml, c.name(), {}, 0);
}

Config Session::reference_config(const GridCase& c) {
  return config({.model = c.model, .parallel = "", .micro_batch = 4, .precision = c.precision, .state = c.state});
}

void Session::with_run(const Config& config, const std::function<void(Run&)>& body) {
  barrier();
  FirstRanks some(*world_, config.parallel.ranks());
  if (some.member()) {
    Run run(config, some);
    body(run);
  } else {
    const Grid unused = make_grid(some, topology_of(config.parallel, config.zero));
  }
  barrier();
}

Curve Session::train(const Config& config, int64_t steps, const std::string& from, bool save) {
  Curve curve;
  with_run(config, [&](Run& run) {
    if (from.empty()) {
      run.initialize();
    } else {
      run.load(from);
    }
    for (int64_t i = 0; i < steps; ++i) {
      const StepReport report = run.train_step(false);
      curve.loss.push_back(report.loss);
      curve.norm.push_back(report.grad_norm);
    }
    if (!save) return;
    run.save();
    run.finish_save();
  });
  return curve;
}

void on_ranks(int ranks, const std::function<void(Session&)>& body) {
  constexpr double kTimeoutSeconds = 240;  // cores are shared
  const std::unique_ptr<World> world = make_mpi_world(std::chrono::duration<double>(kTimeoutSeconds));
  // What a test provokes is no news.
  log::configure(world->rank(), log::Level::error);
  try {
    Session session(ranks, *world);
    body(session);
    session.barrier();  // rank 0 removes the files
  } catch (const std::exception& error) {
    world->abort(1, build_string("rank ", world->rank(), ": ", error.what()));
  }
}

double relative(double a, double b) {
  if (a == b) return 0;
  const double difference = std::abs(a - b) / std::abs(b);
  return std::isfinite(difference) ? difference : std::numeric_limits<double>::infinity();
}

void check_follows(Session& session, const std::string& what, const Curve& got, const Curve& want,
                   const CurveBounds& bounds) {
  if (!session.root()) return;
  CHECK(got.loss.size() == want.loss.size());
  CHECK(got.norm.size() == want.norm.size());
  const auto worst = [](const std::vector<double>& a, const std::vector<double>& b) {
    size_t at = 0;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      if (relative(a[i], b[i]) > relative(a[at], b[at])) at = i;
    }
    return at;
  };
  const size_t loss = worst(got.loss, want.loss), norm = worst(got.norm, want.norm);
  const double loss_difference = relative(got.loss.at(loss), want.loss.at(loss));
  const double norm_difference = relative(got.norm.at(norm), want.norm.at(norm));
  std::printf("%s\n    loss %.9f, one rank %.9f at step %zu: %.1e; norm %.1e\n", what.c_str(), got.loss[loss],
              want.loss[loss], loss + 1, loss_difference, norm_difference);
  INFO(what << ": loss of step " << loss + 1 << ": " << got.loss[loss] << ", one rank " << want.loss[loss]);
  INFO("norm of step " << norm + 1 << ": " << got.norm[norm] << ", one rank " << want.norm[norm]);
  CHECK(loss_difference <= bounds.loss);
  CHECK(norm_difference <= bounds.norm);
}

void check_same(Session& session, const std::string& what, const Curve& a, const Curve& b,
                const std::string& checkpoint_a, const std::string& checkpoint_b) {
  if (!session.root()) return;
  INFO(what);
  CHECK_FALSE(a.loss.empty());
  CHECK(a.loss == b.loss);
  CHECK(a.norm == b.norm);
  const std::vector<TensorDifference> differences = diff_checkpoints(checkpoint_a, checkpoint_b);
  for (const TensorDifference& d : differences) UNSCOPED_INFO(d.tensor << ": " << d.detail);
  CHECK(differences.empty());
}

}  // namespace trident::testing
