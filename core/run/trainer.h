// The training loop around a Run: where to start, progress, validation, checkpoints, stopping.
#pragma once

#include <string>

#include "core/comm/grid.h"
#include "core/config/config.h"

namespace trident {

struct TrainOptions {
  std::string resume = "auto";  ///< auto: newest valid checkpoint of config.out, else a fresh start; none; or a path
};

/// Trains to config.train.steps. Collective over the world. Returns the exit code: 0 done, 75 stopped on request after
/// a checkpoint. Throws UserError and RunError.
int train(const Config&, World&, const TrainOptions&);

}  // namespace trident
