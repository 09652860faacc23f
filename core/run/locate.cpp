#include "core/run/locate.h"

#include <filesystem>

#include "core/base/error.h"
#include "core/base/log.h"

namespace trident {

std::string locate_checkpoint(Run& run, const std::string& given) {
  if (std::filesystem::exists(given + "/manifest.json")) return given;
  const std::string root = given.empty() ? run.config().out + "/checkpoints" : given;
  const Resume found = pick_newest_valid(root, *run.grid().world, false);
  for (const SkippedCheckpoint& skipped : found.skipped) {
    if (run.grid().world->rank() == 0) log::warn(build_string("skipped ", skipped.path, ": ", skipped.reason));
  }
  if (!found.found()) {
    throw UserError(
        build_string("there is no valid checkpoint in ", root, ": train first, or name one with --checkpoint"));
  }
  return found.path;
}

}  // namespace trident
