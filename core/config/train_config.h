// The sections of a training run: train, optimizer, data, checkpoint, log.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/fields.h"
#include "core/config/enums.h"

namespace trident {

struct TrainConfig {
  int64_t steps = 1000;
  int64_t global_batch = 32;
  int64_t micro_batch = 1;
  Precision precision = Precision::bf16;
  int64_t seed = 1234;
  Recompute recompute = Recompute::none;
  Offload offload_activations = Offload::none;
  AttentionSource attention_kernel = AttentionSource::automatic;
  double grad_clip = 1.0;
  int64_t max_bad_steps = 5;

  bool operator==(const TrainConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit(self.steps, {.name = "steps",
                       .unit = "optimizer steps",
                       .range = between(1, 1e9),
                       .effect = "Where training ends; also the length of the learning-rate schedule unless "
                                 "optimizer.decay_steps says otherwise."});
    visit(self.global_batch, {.name = "global_batch",
                              .unit = "sequences",
                              .range = between(1, 1 << 30),
                              .effect = "Sequences per optimizer step over all ranks. Must be a multiple of "
                                        "micro_batch x parallel.data; the quotient is the micro-batches accumulated."});
    visit(self.micro_batch, {.name = "micro_batch",
                             .unit = "sequences",
                             .range = between(1, 1 << 16),
                             .group = FieldGroup::performance,
                             .effect = "Sequences per forward pass of one replica. Activation memory grows with it."});
    visit(self.precision, {.name = "precision",
                           .effect = "Type of weights and activations in forward and backward. Sums, gradients, master "
                                     "weights and optimizer state are fp32 always."});
    visit(self.seed,
          {.name = "seed",
           .range = between(0, 9007199254740992.0),
           .effect = "Of the initial weights, dropout and the order of the data. Every grid draws the same."});
    visit(self.recompute, {.name = "recompute",
                           .group = FieldGroup::performance,
                           .effect = "Activations dropped in forward and computed again in backward: less memory, more "
                                     "arithmetic, the same result bit for bit. auto: the least that fits "
                                     "memory.device_limit (unset: a GPU's free memory, or the host's where the "
                                     "processor is the device), chosen by the plan."});
    visit(
        self.offload_activations,
        {.name = "offload_activations",
         .group = FieldGroup::performance,
         .effect = "With recompute: full: the inputs of the layers, all that it keeps, wait in host memory; the device "
                   "holds two at a time."});
    visit(self.attention_kernel,
          {.name = "attention_kernel",
           .group = FieldGroup::performance,
           .effect = "Whose attention runs on device: cuda. auto: cuDNN's where it has an "
                     "engine for the shape (16-bit, no dropout) that needs no more than 256 MiB "
                     "of workspace, else our own; the log says which. cudnn: that or an error."});
    visit(
        self.grad_clip,
        {.name = "grad_clip", .range = at_least(0), .effect = "Largest global norm of the gradient; 0 does not clip."});
    visit(self.max_bad_steps, {.name = "max_bad_steps",
                               .unit = "steps in a row",
                               .range = between(1, 1e9),
                               .effect = "Steps whose loss or norm is not finite are not applied; this many in a row "
                                         "end the run with exit code 2."});
  }
};

/// After resolve (core/config/preset.h) decay_steps is not 0.
struct OptimizerConfig {
  OptimizerKind name = OptimizerKind::adamw;
  double lr = 3e-4;
  std::array<double, 2> betas = {0.9, 0.95};
  double eps = 1e-8;
  double weight_decay = 0.1;
  StateDtype state_dtype = StateDtype::fp32;
  LrSchedule schedule = LrSchedule::cosine;
  int64_t warmup_steps = 0;
  int64_t decay_steps = 0;
  double min_lr = 0.0;
  double stable_fraction = 0.8;

  bool operator==(const OptimizerConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit(self.name, {.name = "name", .effect = "The update rule. AdamW: Adam with decoupled weight decay."});
    visit(self.lr, {.name = "lr", .range = between(0, 1e3), .effect = "Learning rate after warm-up."});
    visit(self.betas, {.name = "betas",
                       .range = from_up_to(0, 1),
                       .effect = "Decay of the running mean of the gradient and of its square."});
    visit(self.eps, {.name = "eps", .range = above(0), .effect = "Added to the root of the second moment."});
    visit(self.weight_decay, {.name = "weight_decay",
                              .range = between(0, 1e3),
                              .effect = "Decoupled decay per unit of learning rate; biases and norms have none."});
    visit(
        self.state_dtype,
        {.name = "state_dtype",
         .effect = "Of the two moments: 8 bytes a parameter, or 4 in bf16, rounded at random (in the mean they are "
                   "right) with numbers that depend on the step and the element alone. Checkpoints hold fp32 and load "
                   "into either."});
    visit(self.schedule, {.name = "schedule",
                          .effect = "Learning rate after warm-up: constant, or down to min_lr along a line or a half "
                                    "cosine; wsd stays at lr for stable_fraction of the way, then falls linearly."});
    visit(self.warmup_steps, {.name = "warmup_steps",
                              .unit = "optimizer steps",
                              .range = between(0, 1e9),
                              .effect = "The learning rate rises linearly from 0 over these steps."});
    visit(self.decay_steps,
          {.name = "decay_steps",
           .unit = "optimizer steps",
           .range = between(1, 1e9),
           .zero_is_auto = true,
           .derived = "train.steps",
           .effect = "The step, counted from 0 and warm-up included, from which the rate is min_lr."});
    visit(self.min_lr,
          {.name = "min_lr", .range = between(0, 1e3), .effect = "Learning rate at the end of the decay."});
    visit(self.stable_fraction, {.name = "stable_fraction",
                                 .range = between(0, 1),
                                 .effect = "Share of the steps between warm-up and decay_steps at full rate. Only "
                                           "with schedule: wsd."});
  }
};

struct TokenizerConfig {
  TokenizerKind kind = TokenizerKind::byte;
  std::string path;

  bool operator==(const TokenizerConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit(self.kind, {.name = "kind",
                      .effect = "byte: ids 0-255 are bytes, 256 ends a document. none: the data is tokens already and "
                                "samples are printed as numbers."});
    visit(self.path, {.name = "path", .effect = "The tokenizer's model file. byte and none have none."});
  }
};

struct DataSourceConfig {
  std::string path;
  double weight = 1.0;

  bool operator==(const DataSourceConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit(self.path, {.name = "path", .effect = "Prefix of a .bin/.idx pair, as `trident data prepare` writes."});
    visit(self.weight, {.name = "weight",
                        .range = between(0, 1e12),
                        .effect = "Share of the samples, relative to the other sources of the list."});
  }
};

struct DataConfig {
  TokenizerConfig tokenizer;
  std::vector<DataSourceConfig> train;
  std::vector<DataSourceConfig> valid;
  int64_t eval_every = 0;
  int64_t eval_batches = 8;

  bool operator==(const DataConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit(self.tokenizer, {.name = "tokenizer", .effect = "Between text and token ids."});
    visit(self.train, {.name = "train", .effect = "Sources of training samples, blended by weight."});
    visit(self.valid, {.name = "valid", .effect = "Sources of the validation loss."});
    visit(self.eval_every, {.name = "eval_every",
                            .unit = "optimizer steps",
                            .range = between(0, 1e9),
                            .group = FieldGroup::bookkeeping,
                            .effect = "Steps between two validations; 0 never validates."});
    visit(self.eval_batches, {.name = "eval_batches",
                              .unit = "global batches",
                              .range = between(1, 1e9),
                              .group = FieldGroup::bookkeeping,
                              .effect = "Length of a validation."});
  }
};

struct CheckpointConfig {
  int64_t every = 0;
  int64_t keep = 3;
  bool async = true;

  bool operator==(const CheckpointConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    constexpr FieldGroup kFiles = FieldGroup::bookkeeping;
    visit(self.every, {.name = "every",
                       .unit = "optimizer steps",
                       .range = between(0, 1e9),
                       .group = kFiles,
                       .effect = "Steps between two checkpoints; 0 writes only at the end and on a stop signal."});
    visit(self.keep, {.name = "keep",
                      .unit = "checkpoints",
                      .range = between(0, 1e9),
                      .group = kFiles,
                      .effect = "The newest ones that stay on disk; 0 keeps all."});
    visit(self.async, {.name = "async",
                       .group = kFiles,
                       .effect = "Training goes on while a checkpoint is written from a copy in host memory."});
  }
};

struct LogConfig {
  int64_t every = 1;
  log::Level level = log::Level::info;
  bool profile = false;

  bool operator==(const LogConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    constexpr FieldGroup kFiles = FieldGroup::bookkeeping;
    visit(self.every, {.name = "every",
                       .unit = "optimizer steps",
                       .range = between(1, 1e9),
                       .group = kFiles,
                       .effect = "Steps between two progress lines. metrics.jsonl has every step."});
    visit(self.level, {.name = "level", .group = kFiles, .effect = "The least important lines that are shown."});
    visit(self.profile,
          {.name = "profile",
           .group = kFiles,
           .effect = "Shows with every progress line where the time of the steps since the last one went: each family "
                     "of operations with its rate, waiting for other ranks, reading data; in metrics.jsonl under "
                     "`profile`. On device: cpu; a GPU's steps are seen with `nsys profile`, their parts are named "
                     "there."});
  }
};

}  // namespace trident
