// Config: one experiment, as one plain value. Member names are the YAML keys. Only core/run sees the whole of it;
// every other part takes its own section.
//
// A Config is read by load_config (core/config/load.h), which also resolves it: what `arch` presets and what follows
// from other keys is filled in. A Config made in C++ is resolved by `resolve` (core/config/preset.h).
#pragma once

#include <string>

#include "core/base/fields.h"
#include "core/config/enums.h"
#include "core/config/model_config.h"
#include "core/config/parallel_config.h"
#include "core/config/train_config.h"

namespace trident {

struct Config {
  std::string name = "run";
  DeviceKind device = DeviceKind::cpu;
  ModelConfig model;
  ParallelConfig parallel;
  ZeroConfig zero;
  MemoryConfig memory;
  TrainConfig train;
  OptimizerConfig optimizer;
  DataConfig data;
  CheckpointConfig checkpoint;
  CommConfig comm;
  LogConfig log;
  std::string out;

  /// Micro-batches that each replica accumulates in one step. Needs a resolved config.
  int64_t micro_batches() const { return train.global_batch / (train.micro_batch * parallel.data); }
  bool operator==(const Config&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit(self.name, {.name = "name", .group = FieldGroup::bookkeeping, .effect = "Of the experiment, for people."});
    visit(self.device, {.name = "device",
                        .group = FieldGroup::performance,
                        .effect = "What computes: the processor, a CUDA device, or simt, the CUDA kernels emulated on "
                                  "the processor."});
    visit(self.model, {.name = "model", .effect = "The transformer."});
    visit(self.parallel, {.name = "parallel", .effect = "How the model is laid over the ranks."});
    visit(self.zero, {.name = "zero", .effect = "What is sharded over the data ranks."});
    visit(self.memory, {.name = "memory", .effect = "Limits of memory."});
    visit(self.train, {.name = "train", .effect = "The run."});
    visit(self.optimizer, {.name = "optimizer", .effect = "The update rule and the learning rate."});
    visit(self.data, {.name = "data", .effect = "What is read."});
    visit(self.checkpoint, {.name = "checkpoint", .effect = "When the state is written, and how much of it stays."});
    visit(self.comm, {.name = "comm", .effect = "Communication between ranks."});
    visit(self.log, {.name = "log", .effect = "What is shown."});
    visit(self.out, {.name = "out",
                     .derived = "runs/<name>",
                     .group = FieldGroup::bookkeeping,
                     .effect = "Directory of the run: config.yaml, metrics.jsonl, log.txt, checkpoints, report."});
  }
};

}  // namespace trident
