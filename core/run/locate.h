// Which checkpoint a command that reads one means.
#pragma once

#include <string>

#include "core/run/run.h"

namespace trident {

/// `given`: a checkpoint, a directory of checkpoints (its newest valid one), or "" for the newest valid one of the
/// run's own directory. Collective. Throws UserError when there is none.
std::string locate_checkpoint(Run&, const std::string& given);

}  // namespace trident
