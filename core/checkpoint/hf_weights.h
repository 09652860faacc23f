// The weight files of a HuggingFace directory: model.safetensors, or several behind model.safetensors.index.json.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/checkpoint/shard_file.h"

namespace trident {

/// Reads tensors from whichever file holds them. Files stay open; memory is that of their headers.
class HfWeights {
 public:
  /// Throws UserError when the directory has no safetensors weights, or a file that the index names is missing,
  /// damaged, or lacks its tensors. `prefix` is what base-model tensors begin with; where the files omit it, it is
  /// added, so that every file speaks the names of the full model.
  HfWeights(const std::string& directory, const std::string& prefix);

  bool has(std::string_view name) const { return places_.find(name) != places_.end(); }
  /// All names in order. Buffers (is_hf_buffer) are left out.
  std::vector<std::string> names() const;

  /// Throws UserError unless the tensor is there as a float type with this shape.
  void require(const std::string& name, const std::vector<int64_t>& shape) const;

  /// dst = `count` elements from element `begin` of the tensor, converted to float.
  void read(const std::string& name, int64_t begin, int64_t count, float* dst) const;

 private:
  struct Place {
    const ShardFileReader* file = nullptr;
    const ShardTensor* tensor = nullptr;
  };

  void open_indexed(const std::string& directory, const std::string& index_path);
  void add_prefix(const std::string& prefix);
  const Place& place(std::string_view name) const;

  std::string directory_;
  std::map<std::string, ShardFileReader> files_;  // by file name; its nodes never move
  std::map<std::string, Place, std::less<>> places_;
};

}  // namespace trident
