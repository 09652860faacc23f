// Run: one training run. Builds and owns everything a rank needs and offers it by the step. The only class that sees
// the whole Config.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/checkpoint/store.h"
#include "core/comm/grid.h"
#include "core/config/config.h"
#include "core/data/batch.h"
#include "core/device/device.h"
#include "core/train/engine.h"
#include "core/train/policy.h"
#include "core/train/profile.h"

namespace trident {

/// What one training step did; the same on every rank.
struct StepReport {
  int64_t step = 0;      ///< 1 for the first
  double loss = 0;       ///< mean over the valid tokens of the global batch
  double grad_norm = 0;  ///< global, before clipping
  float lr = 0;
  int64_t valid_tokens = 0;
  bool applied = true;  ///< false: loss or norm was not finite, nothing changed
  bool stop = false;    ///< some rank was asked to stop
};

/// Where a run started from.
struct StartReport {
  std::string checkpoint;                             ///< "" for a fresh start
  bool weights_only = false;                          ///< an import: fresh optimizer, step 0
  std::vector<SkippedCheckpoint> skipped;             ///< newer ones that are not valid, with the reason
  std::optional<double> probe_expected, probe_found;  ///< loss of the stored batch
};

class Run {
 public:
  /// Builds grid, engine and data. `config` is resolved and fits the world. A config without data.train serves
  /// generation and planning only. Collective over the world, which outlives the run.
  Run(const Config& config, World& world);
  ~Run();

  /// Fresh weights, keyed by the seed: step 0.
  void initialize();
  /// Loads weights, moments and counters. Re-evaluates the stored probe batch; throws RunError when its loss differs
  /// from the manifest's by more than the bound of the precisions at hand.
  StartReport load(const std::string& checkpoint, Checksums = Checksums::verify);

  /// Steps submitted so far.
  int64_t step() const { return step_; }
  int64_t tokens() const { return tokens_; }

  /// Submits one step of training. `stop`: this rank was asked to stop. The device decides how the step is applied, so
  /// that nothing here waits for it; at most Optimizer::kInFlight steps may be unfinished.
  void submit_step(bool stop);
  /// Steps submitted and not finished.
  size_t in_flight() const { return in_flight_.size(); }
  /// What the oldest unfinished step did; waits until it is known. Throws RunError after train.max_bad_steps non-finite
  /// steps in a row, naming the first bad tensor and rank.
  StepReport finish_step();
  /// Both, one after the other.
  StepReport train_step(bool stop);
  /// Forward and backward of the next batch without an update: gradients stay in the store. For verification.
  StepSums gradients();
  /// Mean loss over data.eval_batches global batches of data.valid.
  double evaluate();
  /// Logits of the tokens `rows` for a batch of train.micro_batch sequences, [rows, vocab], on every rank.
  std::vector<float> logits(const Batch&, std::span<const int64_t> rows);

  /// Saves a checkpoint of the present step, a delayed update included; asynchronous when the config says so. See
  /// CheckpointWriter.
  void save();
  std::optional<std::string> poll_save() { return writer_->poll(); }
  std::optional<std::string> finish_save() { return writer_->finish(); }

  /// What computes attention, and why, for the log; empty where there is no choice.
  std::string describe_attention() const;
  /// This rank's files under zero.nvme_path and what reads them, for the log.
  std::vector<std::string> describe_files() const;

  const Config& config() const { return config_; }
  Grid& grid() { return grid_; }
  Device& device() { return *device_; }
  Engine& engine() { return *engine_; }

 private:
  double mean_loss(const LossSum&);
  double probe_loss(const ProbeBatch&);
  void check_probe(const Manifest&, StartReport&);
  void submit_gradients(bool stop);
  void explain_bad_step(const StepReport&);

  struct Submitted {
    int64_t step;
    float lr;
    std::optional<StepSums> sums;  ///< when they had to be read early
  };

  Config config_;
  World& world_;
  OpTracer tracer_;  ///< with log.profile
  std::unique_ptr<Device> device_;
  std::unique_ptr<World> device_world_;  ///< groups over NCCL; nullptr on the CPU, whose groups are the world's own
  Grid grid_;
  std::unique_ptr<DataSource> train_data_, valid_data_;
  std::unique_ptr<Engine> engine_;
  LrPolicy lr_policy_;
  BadStepGuard guard_;
  std::unique_ptr<StatePieces> state_;
  std::unique_ptr<CheckpointWriter> writer_;
  std::deque<Submitted> in_flight_;
  int64_t step_ = 0, updates_ = 0, skipped_ = 0, tokens_ = 0;
};

/// The device of the config on this rank. `observer`: of the CPU's operations, or nullptr; outlives the device. Throws
/// UserError when this binary or this machine has none.
std::unique_ptr<Device> make_device(DeviceKind, const World&, AttentionSource, ByteSize device_limit = {},
                                    OpObserver* observer = nullptr);

}  // namespace trident
