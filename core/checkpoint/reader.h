// Loading: a reader asks for logical slices and gets them from whatever pieces any grid wrote.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "core/base/tensor.h"
#include "core/checkpoint/manifest.h"
#include "core/checkpoint/posix_file.h"
#include "core/checkpoint/slice.h"

namespace trident {

/// Whether read() checks a piece's checksum when it first touches it. `trust` is for a checkpoint that
/// pick_newest_valid(deep) has just checked.
enum class Checksums : uint8_t { verify, trust };

/// One checkpoint. Not collective, not thread-safe: every rank opens its own. Memory beyond the manifest is constant.
class CheckpointReader {
 public:
  /// Parses and checks the manifest of this directory (see resolve_checkpoint for what users give). Throws UserError.
  explicit CheckpointReader(const std::string& path, Checksums = Checksums::verify);
  CheckpointReader(const CheckpointReader&) = delete;
  CheckpointReader& operator=(const CheckpointReader&) = delete;

  const std::string& path() const { return path_; }
  const Manifest& manifest() const { return manifest_; }
  bool has(std::string_view tensor) const;
  /// Throws UserError naming the checkpoint when the tensor is absent.
  const ManifestTensor& find(std::string_view tensor) const;

  /// dst = the slice of the tensor, row-major, converted to dst's dtype (see convert_elements). dst: host,
  /// slice.numel() elements; undefined after a throw. Throws UserError naming tensor and slice when the tensor is
  /// absent, the slice leaves it, pieces are missing, or a file is missing, of another size or changed.
  void read(const std::string& tensor, const Slice& slice, Tensor dst);
  /// The whole tensor.
  void read(const std::string& tensor, Tensor dst) { read(tensor, whole(find(tensor).shape), dst); }

 private:
  const PosixFile& file(int number);
  void verify(const ManifestPiece&, const std::string& what);
  void copy_part(const ManifestPiece&, DType, const Slice& part, const Slice& slice, Tensor dst,
                 const std::string& what);

  std::string path_;
  Manifest manifest_;
  Checksums checksums_;
  std::vector<PosixFile> files_;  // by number; opened on first use
  size_t open_files_ = 0;
  std::unordered_set<const ManifestPiece*> verified_;
  std::vector<std::byte> window_;
};

/// xxh3-64 of `bytes` bytes of a file, read in portions through `window`. Throws UserError as PosixFile::read_at.
uint64_t file_checksum(const PosixFile&, uint64_t offset, uint64_t bytes, std::vector<std::byte>& window);

}  // namespace trident
