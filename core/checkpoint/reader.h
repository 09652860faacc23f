// Loading: a reader asks for logical slices and gets them from whatever pieces any grid wrote.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
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
  /// Parses and checks the manifest. Throws UserError.
  explicit CheckpointReader(const std::string& path, Checksums = Checksums::verify);

  const std::string& path() const { return path_; }
  const Manifest& manifest() const { return manifest_; }
  bool has(std::string_view tensor) const;
  /// Throws UserError naming the checkpoint when the tensor is absent.
  const ManifestTensor& find(std::string_view tensor) const;

  /// dst = the slice of the tensor, row-major, converted to dst's dtype (see convert_elements). dst: host,
  /// slice.numel() elements. Throws UserError naming tensor, slice and file when the tensor is absent, the slice leaves
  /// it, pieces are missing, or a file is missing, short or changed.
  void read(const std::string& tensor, const Slice& slice, Tensor dst);

 private:
  const PosixFile& file(int number);
  void verify(const std::string& tensor, const ManifestPiece&, const void* key);
  void copy_part(const std::string& tensor, const ManifestTensor&, const ManifestPiece&, const Slice& part,
                 const Slice& slice, Tensor dst);

  std::string path_;
  Manifest manifest_;
  Checksums checksums_;
  std::vector<PosixFile> files_;
  std::vector<const void*> verified_;  // pieces, sorted by address
  std::vector<std::byte> window_;
};

}  // namespace trident
