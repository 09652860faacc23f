// Which checkpoint a command that reads one means.
#pragma once

#include <string>

#include "core/run/run.h"

namespace trident {

/// One warning for each checkpoint that was passed over, on rank 0.
void warn_of_skipped(const Resume&, int rank);

/// `given`: a checkpoint, a directory of checkpoints (its newest valid one), or "" for the newest valid one of the
/// run's own directory. Collective. Throws UserError when there is none.
std::string locate_checkpoint(Run&, const std::string& given);

}  // namespace trident
