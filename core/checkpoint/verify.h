// Which checkpoints can be trusted, and how two of them differ.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/checkpoint/directory.h"
#include "core/comm/communicator.h"

namespace trident {

/// Every problem of one checkpoint, one line each, naming file, tensor and slice; empty when every byte is as written.
/// Reads all of it. Never throws for what it finds.
std::vector<std::string> verify_checkpoint(const std::string& path);

/// The same without reading the tensors: manifest, coverage, presence and size of every file.
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
/// among them. `deep` checks every byte, otherwise only what check_structure does.
Resume pick_newest_valid(const std::string& root, Communicator& world, bool deep);

enum class DifferenceKind : uint8_t { values, only_in_a, only_in_b, shape };

/// One tensor that two checkpoints do not agree on.
struct TensorDifference {
  std::string tensor;
  DifferenceKind kind = DifferenceKind::values;
  std::string detail;  ///< for people: the shapes, or the place of the largest difference
  double max_abs = 0;  ///< largest |a - b|; infinite when only one is NaN
  double max_rel = 0;  ///< largest |a - b| / max(|a|, |b|)
};

/// Every difference, by name. Dtypes may differ. Throws UserError when a checkpoint cannot be read.
std::vector<TensorDifference> diff_checkpoints(const std::string& a, const std::string& b);

}  // namespace trident
