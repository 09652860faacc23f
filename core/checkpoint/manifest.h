// manifest.json: what a checkpoint holds and where. Written last; a directory without one is not a checkpoint.
//
// The text is {"xxh3":"<16 hex digits>","manifest":BODY} and a line feed, where the checksum covers every byte of BODY.
// BODY holds checksums of everything else, so that one changed byte in any file of the checkpoint is found.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/dtype.h"
#include "core/checkpoint/slice.h"

namespace trident {

/// A batch whose loss was taken when the checkpoint was written, to be taken again after it is read.
/// tokens and targets: [sequences, context], row-major; a negative target is not counted.
struct ProbeBatch {
  int64_t sequences = 0, context = 0;
  std::vector<int32_t> tokens, targets;
  double loss = 0;  ///< mean over the counted targets

  bool operator==(const ProbeBatch&) const = default;
};

/// What the trainer says about a checkpoint. An import of weights has step 0 and no probe.
struct CheckpointMeta {
  int64_t step = 0;                           ///< optimizer steps done
  std::string config;                         ///< the resolved config, YAML
  std::string grid;                           ///< for people: "pp2 x dp2 x tp2, zero 1"
  int ranks = 1;                              ///< of the job that wrote it
  std::map<std::string, int64_t> counters;    ///< "tokens", "samples", "skipped_steps", ...
  std::map<std::string, std::string> labels;  ///< "dataset", "version", ...: short facts for checks and people
  std::optional<ProbeBatch> probe;

  bool operator==(const CheckpointMeta&) const = default;
};

/// A box of a logical tensor: `bytes` row-major bytes at `offset` of file number `file`.
struct ManifestPiece {
  int file = 0;
  uint64_t offset = 0, bytes = 0;  ///< from the start of the file
  uint64_t checksum = 0;           ///< xxh3-64 of those bytes
  Slice slice;

  bool operator==(const ManifestPiece&) const = default;
};

struct ManifestTensor {
  std::vector<int64_t> shape;
  DType dtype = DType::f32;
  std::vector<ManifestPiece> pieces;

  bool operator==(const ManifestTensor&) const = default;
};

struct ManifestFile {
  std::string name;  ///< inside the checkpoint's directory
  uint64_t bytes = 0;
  uint64_t header_bytes = 0;     ///< everything before the first piece
  uint64_t header_checksum = 0;  ///< xxh3-64 of those

  bool operator==(const ManifestFile&) const = default;
};

struct Manifest {
  static constexpr int kVersion = 1;

  CheckpointMeta meta;
  std::vector<ManifestFile> files;
  std::map<std::string, ManifestTensor, std::less<>> tensors;

  bool operator==(const Manifest&) const = default;
  uint64_t bytes() const;  ///< of all shard files
};

/// The text of manifest.json.
std::string manifest_text(const Manifest&);

/// Parses and checks the text: checksum, version, types, bounds, file names without a path, slices inside their
/// tensors, bytes that fit slices and files. Throws UserError with `path` and the reason.
Manifest parse_manifest(std::string_view text, const std::string& path);

/// Whether the directory holds a manifest: it may still be damaged.
bool is_checkpoint(const std::string& directory);

/// Reads DIRECTORY/manifest.json.
Manifest read_manifest(const std::string& directory);

/// One rank's files and tensors as text and back, for the gathering at the end of a save; no meta.
std::string manifest_records(const Manifest&);
/// Adds the records of one rank: its file numbers are shifted behind those already there. Throws InternalError when a
/// tensor's shape or dtype disagrees.
void merge_records(Manifest& into, std::string_view records);

/// xxh3-64 as 16 lower-case hex digits.
std::string checksum_text(uint64_t checksum);

}  // namespace trident
