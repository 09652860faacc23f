#include "core/run/locate.h"

#include "core/base/error.h"
#include "core/base/log.h"

namespace trident {

void warn_of_skipped(const Resume& found, int rank) {
  if (rank != 0) return;
  for (const SkippedCheckpoint& skipped : found.skipped) {
    log::warn(build_string("skipped ", skipped.path, ": ", skipped.reason));
  }
}

std::string locate_checkpoint(Run& run, const std::string& given) {
  if (is_checkpoint(given)) return given;
  const std::string root = given.empty() ? run.config().out + "/checkpoints" : given;
  const Resume found = pick_newest_valid(root, *run.grid().world, false);
  warn_of_skipped(found, run.grid().world->rank());
  if (!found.found()) {
    throw UserError(
        build_string("there is no valid checkpoint in ", root, ": train first, or name one with --checkpoint"));
  }
  return found.path;
}

}  // namespace trident
