// Executor: walks the schedule of one training step, and the simpler lists of evaluation and generation. It owns the
// activation buffers; their sizes are learnt by running the stage dry, once, when it is made.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/comm/grid.h"
#include "core/comm/ledger.h"
#include "core/data/batch.h"
#include "core/device/device.h"
#include "core/train/schedule.h"
#include "core/train/stage.h"

namespace trident {

struct ExecutorOptions {
  Sched schedule = Sched::one_f_one_b;
  int micros = 1;           ///< micro-batches per step and data rank
  int64_t micro_batch = 1;  ///< sequences
  DType dtype = DType::f32;
  uint64_t seed = 0;
  bool recompute = false;       ///< layers keep their inputs only
  bool offload_inputs = false;  ///< in host memory; with recompute
  bool redo_cheap = false;      ///< Exec::redo_cheap
};

/// This rank's part of a pass over a global batch: zero on ranks that do not hold the loss (all stages but the last,
/// all tensor ranks but the first), so that a sum over the job counts each token once.
struct LossSum {
  double loss = 0;
  int64_t tokens = 0;
};

/// The same of a training step, still on the device.
struct StepLoss {
  Tensor loss_L;  ///< f64, partial sums; absent on ranks that do not hold the loss. Overwritten by the next pass
  int64_t tokens = 0;
};

class Executor {
 public:
  /// Allocates the slots and the scratch under names. Everything passed outlives the executor.
  Executor(const ExecutorOptions&, const Stage&, BlockStore&, Device&, Grid&, Ledger&);

  /// Forward and backward of global batch `step` (from 0): gradients accumulate in the store, each block's grads_ready
  /// is called once.
  StepLoss train(const DataSource&, int64_t step);
  /// The same, with the inspector looking at every block.
  StepLoss inspect(const DataSource&, int64_t step, Inspector&);
  /// Loss of global batch `step` without gradients or dropout.
  LossSum evaluate(const DataSource&, int64_t step);
  /// Loss of one given batch of at most micro_batch sequences, the same on every data rank (each computes it).
  LossSum evaluate(const Batch&);

  /// Logits of the tokens `rows` of a batch of micro_batch sequences, [rows, vocab] row-major, on every rank of the
  /// last stage; empty elsewhere. Every data rank computes the same.
  std::vector<float> logits(const Batch&, std::span<const int64_t> rows);

  /// The longest `rows` that logits() takes.
  int64_t max_logit_rows() const { return options_.micro_batch; }

 private:
  struct Slot {
    Memory memory;
    Saved saved{Arena{}};
    Memory host_memory;
    Arena host;  ///< inputs of layers that are in host memory
    Tensor input_RD, output_RD;
    Memory ids_memory, ids_staging;
    Tensor tokens_T, targets_T;
    Tensor staged_2T;  ///< both on the host, pinned: what the copy to the device reads
    Event staged;      ///< behind that copy
    int64_t first_sequence = 0;
    Event sent;
    bool sending = false;
  };

  void allocate();
  void allocate_redo(size_t saved_bytes);
  struct Sizes {
    size_t saved = 0, scratch = 0, redo = 0, host = 0;  ///< bytes
  };
  Sizes measure() const;
  Redo* redo() { return options_.recompute ? &redo_ : nullptr; }
  Exec exec(HeadMode, int64_t step, const Slot&);
  void run(const Instr&, const DataSource&, int64_t step, int64_t& tokens);
  /// Submits the batch's ids to the slot; returns the tokens of it that this rank counts, when it holds the loss.
  int64_t load(Slot&, const Batch&, bool holds_loss);
  void receive(Slot&, const Instr&);
  void send(Slot&, const Instr&);
  /// Makes the slot ready for the next forward: what it sent has left, what it saved is dropped.
  void take(Slot&);
  void backward(Slot&, const Instr&, int64_t step);
  Event send_tensor(Tensor, const Instr&);
  /// Runs one micro-batch through the whole pipeline, forward only.
  void forward_only(const Batch&, HeadMode, int micro, LossSum&, std::span<const int64_t> rows);
  double read_losses(int64_t count);
  /// Buffers in turn; without a pipeline there is only the first.
  size_t gradient_buffer(size_t backward) const { return grid_.topology.pipeline > 1 ? backward % 2 : 0; }
  bool counts_loss() const { return grid_.at.tensor == 0; }

  ExecutorOptions options_;
  const Stage& stage_;
  BlockStore& store_;
  Device& device_;
  Grid& grid_;
  Ledger& ledger_;
  std::vector<Instr> schedule_;
  int64_t tokens_ = 0, rows_ = 0, loss_chunks_ = 0;
  std::vector<Slot> slots_;
  Memory scratch_memory_, gradient_memory_[2], loss_memory_, logits_memory_, redo_memory_;
  Redo redo_;
  std::unique_ptr<InputOffload> inputs_;
  Arena scratch_;
  Tensor gradient_RD_[2];  // received gradients, in turn; backward works in place and sends from here
  Event gradient_sent_[2];
  bool gradient_sending_[2] = {false, false};
  size_t backwards_ = 0;  // of this step: the buffer in turn
  Tensor loss_N_;         // f64 [micros * loss chunks]
  std::vector<double> loss_host_;
  Tensor logits_PNV_;
  Inspector* inspector_ = nullptr;  // set while inspect() runs
};

}  // namespace trident
