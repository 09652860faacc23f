// The directory of a run's checkpoints: ROOT/step-00000200/, temporaries ROOT/.tmp-*, and ROOT/latest, which names the
// newest for people and scripts (nothing here relies on it).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace trident {

struct CheckpointPath {
  int64_t step = 0;
  std::string path;
};

/// "step-00000200"
std::string checkpoint_name(int64_t step);
/// "ROOT/.tmp-step-00000200"
std::string temporary_path(const std::string& root, int64_t step);

/// The checkpoints of a root by step, newest first; temporaries and other names are left out. Empty when the root does
/// not exist. Says nothing about validity.
std::vector<CheckpointPath> find_checkpoints(const std::string& root);

/// The one checkpoint that a user's path means: the path itself when it holds a manifest, else the newest checkpoint in
/// it or in its `checkpoints` folder (a run directory). Throws UserError when there is none.
std::string resolve_checkpoint(const std::string& path);

/// Removes ROOT/.tmp-*: what killed saves left behind. Failures are warnings.
void remove_temporaries(const std::string& root);

/// Makes a finished temporary directory the checkpoint of `step`: fsync, rename (an existing one of the same step is
/// replaced without a moment when neither is there, where the file system can), `latest`. Returns its path.
/// Throws RunError.
std::string commit_directory(const std::string& root, int64_t step);

/// Removes the oldest checkpoints up to `step` until `keep` complete ones remain. The one of `step` stays, always.
/// Broken ones do not count, and go only when older than everything kept. Failures are warnings.
void prune_checkpoints(const std::string& root, int64_t step, int keep);

}  // namespace trident
