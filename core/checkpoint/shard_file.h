// safetensors files: u64 little-endian n, n bytes of JSON (padded with spaces to a multiple of 8), then the tensors'
// bytes back to back. Trident's own shards and HuggingFace's weights are the same format, read and written here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/tensor.h"
#include "core/checkpoint/posix_file.h"

namespace trident {

/// One tensor of a shard file. `begin` and `end` are byte offsets in the data section, which starts at
/// `data_begin()` of the file. A scalar has an empty shape.
struct ShardTensor {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;

  int64_t numel() const;
  uint64_t bytes() const { return end - begin; }
};

using ShardMetadata = std::map<std::string, std::string>;

/// The bytes in front of the data section (length word, JSON, padding) for these tensors in this order. Fills every
/// `begin` and `end` back to back. u8, i32, i64, f16, bf16, f32, f64, u16.
std::string shard_header(std::vector<ShardTensor>& tensors, const ShardMetadata& metadata);

/// Writes one shard file front to back. The layout is known from the start, so memory is constant and nothing is
/// rewritten. Throws RunError with path and errno text when the disk refuses.
class ShardFileWriter {
 public:
  /// Creates (or truncates) `path` and writes the header. Tensors follow in the order given here.
  ShardFileWriter(const std::string& path, std::vector<ShardTensor> tensors, const ShardMetadata& metadata);

  /// The next bytes of the data section, in any portions.
  void append(std::span<const std::byte> bytes);

  /// The whole next tensor; throws InternalError unless dtype and number of elements are those of the layout.
  void append(const Tensor& host_contiguous);

  /// Makes the file durable (fsync) and closes it. Throws InternalError when bytes are missing.
  void finish();

  const std::vector<ShardTensor>& tensors() const { return tensors_; }
  std::string_view header() const { return header_; }
  uint64_t data_begin() const { return header_.size(); }
  uint64_t file_bytes() const;

 private:
  std::string path_;
  std::vector<ShardTensor> tensors_;
  std::string header_;
  PosixFile file_;
  uint64_t written_ = 0;  // bytes of the data section
  size_t next_ = 0;       // tensor that append(Tensor) expects
};

/// Reads a shard file. The constructor checks everything the header claims against the file (lengths, types, offsets
/// inside, no overlap, no hole, shape x dtype = bytes, JSON size and depth) and throws UserError with path and reason.
class ShardFileReader {
 public:
  static constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit

  explicit ShardFileReader(const std::string& path);

  const std::string& path() const { return file_.path(); }
  /// In order of their place in the file. Tensors of element types Trident lacks (BOOL, F8, ...) are not listed.
  const std::vector<ShardTensor>& tensors() const { return tensors_; }
  const ShardMetadata& metadata() const { return metadata_; }
  bool has(std::string_view name) const;
  /// Throws UserError naming the file when the tensor is absent or of an element type Trident lacks.
  const ShardTensor& find(std::string_view name) const;

  /// dst = bytes [offset, offset + dst.size()) of the tensor. Throws InternalError when outside.
  void read_bytes(const ShardTensor&, uint64_t offset, std::span<std::byte> dst) const;
  /// dst = the whole tensor, converted to dst's dtype (see convert_elements). dst: host, as many elements.
  void read(const ShardTensor&, Tensor dst) const;

  uint64_t data_begin() const { return data_begin_; }

 private:
  PosixFile file_;
  uint64_t data_begin_ = 0;
  std::vector<ShardTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;             // name -> tensors_
  std::map<std::string, std::string, std::less<>> unsupported_;  // name -> element type
  ShardMetadata metadata_;
};

/// The header of a shard file parsed from memory: what ShardFileReader does, for tests and fuzzing.
/// `text` is the JSON, `data_bytes` the length of the data section.
struct ShardHeader {
  std::vector<ShardTensor> tensors;
  std::map<std::string, std::string, std::less<>> unsupported;
  ShardMetadata metadata;
};
ShardHeader parse_shard_header(std::string_view text, uint64_t data_bytes, const std::string& path);

}  // namespace trident
