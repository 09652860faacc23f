// Which checkpoints can be trusted.
#pragma once

#include <string>
#include <vector>

#include "core/checkpoint/directory.h"
#include "core/comm/communicator.h"

namespace trident {

/// Every problem of one checkpoint, one line each, naming file, tensor and slice; empty when every byte of every file
/// is as it was written. Reads all of it. Never throws for what it finds.
std::vector<std::string> verify_checkpoint(const std::string& path);

/// The same without reading the tensors: manifest, coverage of every tensor, presence and size of every file.
std::vector<std::string> check_structure(const std::string& path);

struct SkippedCheckpoint {
  std::string path, reason;
};

/// The answer of pick_newest_valid; `path` is empty when there is no valid checkpoint.
struct Resume {
  std::string path;
  int64_t step = 0;
  std::vector<SkippedCheckpoint> skipped;  ///< newer ones, newest first

  bool found() const { return !path.empty(); }
};

/// The newest valid checkpoint under root. Collective over `world`: the same answer on every rank, the reading divided
/// among them by files. `deep` checks every byte, otherwise only what check_structure does.
Resume pick_newest_valid(const std::string& root, Communicator& world, bool deep);

/// The one checkpoint that a user's path means: the path itself when it holds a manifest, else the newest one of sound
/// structure in it or in its `checkpoints` folder (a run directory). Throws UserError when there is none.
std::string resolve_checkpoint(const std::string& path);

}  // namespace trident
