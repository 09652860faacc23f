#include "core/checkpoint/hf_weights.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/base/error.h"
#include "core/checkpoint/convert.h"
#include "core/checkpoint/hf_layout.h"
#include "core/checkpoint/json_text.h"
#include "core/checkpoint/slice.h"

namespace trident {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t kMaxIndexBytes = 256'000'000;

bool is_float(DType t) { return t == DType::f32 || t == DType::bf16 || t == DType::f16 || t == DType::f64; }

}  // namespace

HfWeights::HfWeights(const std::string& directory, const std::string& prefix) : directory_(directory) {
  const std::string single = directory + "/model.safetensors", index = single + ".index.json";
  if (fs::exists(index)) {
    open_indexed(directory, index);
  } else if (fs::exists(single)) {
    const ShardFileReader& file = files_.emplace("model.safetensors", single).first->second;
    for (const ShardTensor& tensor : file.tensors()) {
      if (!is_hf_buffer(tensor.name)) places_[tensor.name] = {&file, &tensor};
    }
  } else {
    const bool pickled = fs::exists(directory + "/pytorch_model.bin");
    throw UserError(build_string(directory, " has neither model.safetensors nor model.safetensors.index.json",
                                 pickled ? "; its pytorch_model.bin runs code when opened: load it with transformers "
                                           "and save_pretrained writes safetensors"
                                         : ": give the directory that save_pretrained wrote"));
  }
  add_prefix(prefix);
}

void HfWeights::open_indexed(const std::string& directory, const std::string& index_path) {
  const nlohmann::json index = parse_json(read_text(index_path, kMaxIndexBytes), index_path);
  const nlohmann::json& map = json_member(index, "weight_map", index_path);
  if (!map.is_object()) throw UserError(build_string(index_path, ": weight_map is not an object"));
  for (const auto& [name, file_name] : map.items()) {
    if (is_hf_buffer(name)) continue;
    const std::string base = json_string(map, name.c_str(), index_path + ": weight_map");
    if (base.empty() || base.find('/') != std::string::npos || base[0] == '.') {
      throw UserError(
          build_string(index_path, ": weight_map sends ", name, " to \"", base, "\", which is not a plain file name"));
    }
    auto file = files_.find(base);
    if (file == files_.end()) file = files_.emplace(base, build_string(directory, "/", base)).first;
    places_[name] = {&file->second, &file->second.find(name)};
  }
}

void HfWeights::add_prefix(const std::string& prefix) {
  const bool prefixed =
      std::any_of(places_.begin(), places_.end(), [&](const auto& entry) { return entry.first.starts_with(prefix); });
  if (prefixed) return;
  std::map<std::string, Place, std::less<>> renamed;
  for (const auto& [name, place] : places_) {
    renamed[name.starts_with("lm_head.") ? name : prefix + name] = place;
  }
  places_ = std::move(renamed);
}

std::vector<std::string> HfWeights::names() const {
  std::vector<std::string> names;
  names.reserve(places_.size());
  for (const auto& entry : places_) names.push_back(entry.first);
  return names;
}

const HfWeights::Place& HfWeights::place(std::string_view name) const {
  const auto found = places_.find(name);
  if (found == places_.end()) {
    throw UserError(build_string(directory_, " has no tensor ", name,
                                 " of a float type: its config.json describes another model than its weights, or they "
                                 "are quantized"));
  }
  return found->second;
}

void HfWeights::require(const std::string& name, const std::vector<int64_t>& shape) const {
  const auto& [file, tensor] = place(name);
  if (tensor->shape != shape) {
    throw UserError(build_string(file->path(), ": ", name, " is ", describe_shape(tensor->shape), ", expected ",
                                 describe_shape(shape), " from config.json: the two belong to different models"));
  }
  if (!is_float(tensor->dtype)) {
    throw UserError(build_string(file->path(), ": ", name, " holds ", dtype_name(tensor->dtype),
                                 ", expected f32, f16, bf16 or f64 weights: save a dequantized copy"));
  }
}

void HfWeights::read(const std::string& name, int64_t begin, int64_t count, float* dst) const {
  const auto& [file, tensor] = place(name);
  const size_t element = dtype_bytes(tensor->dtype), bytes = static_cast<size_t>(count) * element;
  const uint64_t offset = static_cast<uint64_t>(begin) * element;
  if (tensor->dtype == DType::f32) {
    file->read_bytes(*tensor, offset, {reinterpret_cast<std::byte*>(dst), bytes});
    return;
  }
  std::vector<std::byte> raw(bytes);
  file->read_bytes(*tensor, offset, raw);
  convert_elements(DType::f32, dst, tensor->dtype, raw.data(), count, name);
}

}  // namespace trident
