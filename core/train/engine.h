// Engine: stage, store, optimizer and executor of one rank, built in the order that fixes every buffer. The run builds
// it on a real device, the planner on a dry one: the plan is the program.
#pragma once

#include "core/train/executor.h"
#include "core/train/optimizer.h"
#include "core/train/stage.h"
#include "core/train/state.h"
#include "core/train/zero_store.h"

namespace trident {

struct EngineOptions {
  ModelShape shape;
  int chunks = 1;  ///< model chunks per pipeline rank
  ExecutorOptions executor;
  ZeroOptions zero;
  StateOptions state;
  AdamWOptions adamw;
};

/// Members reference each other and what is passed in: not movable.
struct Engine {
  Engine(const EngineOptions& options, Device& device, Grid& grid, Ledger& ledger)
      : stage(options.shape, grid.topology.pipeline, grid.at.pipeline, options.chunks),
        store(options.zero, stage.layouts(grid.topology.shards()), device, grid),
        state(options.state, store, device),
        optimizer(options.adamw, options.shape.layers + 2, store, state, device),
        executor(options.executor, stage, store, device, grid, ledger) {}
  /// Of the files in which state or weights live.
  size_t file_bytes() const {
    const ParameterFile* const weights = store.parameter_file();
    return (state.file() != nullptr ? state.file()->file_bytes() : 0) +
           (weights != nullptr ? weights->file_bytes() : 0);
  }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  Stage stage;
  ZeroStore store;
  OptimizerState state;
  Optimizer optimizer;
  Executor executor;
};

}  // namespace trident
