// The directory of a run's checkpoints: ROOT/step-00000200/, temporaries ROOT/.tmp-*, and ROOT/latest, which names the
// newest for people and scripts (nothing here relies on it).
#pragma once

#include <cstdint>
#include <functional>
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

/// Creates the directory and its parents; one that exists is fine. Throws RunError.
void make_directories(const std::string& path);

/// Removes ROOT/.tmp-*: what killed saves left behind. Failures are warnings.
void remove_temporaries(const std::string& root);

/// Makes the finished temporary directory of `step` its checkpoint: fsync, one rename, fsync, `latest`. An existing
/// checkpoint of the same step is replaced, where the file system can exchange two names without a moment in which
/// neither is there. Returns the checkpoint's path. Throws RunError; a `latest` that cannot be written is a warning.
std::string commit_directory(const std::string& root, int64_t step);

/// Removes the oldest checkpoints before `step` until `keep` complete ones remain, that of `step` included, which
/// always stays. Later ones (of a run that went back) are left alone. Ones that `complete` refuses do not count, and go
/// only when older than all that is kept. Failures are warnings.
void prune_checkpoints(const std::string& root, int64_t step, int keep,
                       const std::function<bool(const std::string& path)>& complete);

}  // namespace trident
