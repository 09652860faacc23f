// Checkpoint -> HuggingFace. The files are laid out first; then each tensor is read in blocks of rows as they lie on
// disk and appended.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/checkpoint/convert.h"
#include "core/checkpoint/hf_layout.h"
#include "core/checkpoint/huggingface.h"
#include "core/checkpoint/manifest.h"
#include "core/checkpoint/shard_file.h"
#include "core/checkpoint/store.h"
#include "core/config/load.h"
#include "core/config/preset.h"

namespace trident {

namespace fs = std::filesystem;

namespace {

/// The checkpoint that a path means: itself, or the newest in it or in the `checkpoints` folder of a run.
std::string find_checkpoint(const std::string& path) {
  if (is_checkpoint(path)) return path;
  for (const std::string& root : {path, path + "/checkpoints"}) {
    const std::vector<CheckpointPath> found = find_checkpoints(root);
    if (!found.empty()) return found.front().path;
  }
  throw UserError(
      build_string("there is no checkpoint in ", path, ": give a step-* directory, or one that holds them"));
}

/// The model section of the config that the checkpoint carries.
ModelConfig checkpoint_model(const CheckpointReader& reader) {
  LoadedConfig loaded = parse_config(reader.manifest().meta.config, reader.path() + "/manifest.json (config)");
  if (!loaded.diagnostics.empty()) {
    const Diagnostic& first = loaded.diagnostics.front();
    throw UserError(build_string(first.place, ": ", first.key, ": ", first.message,
                                 ": the checkpoint was written by another version"));
  }
  resolve(
      loaded.config, [&](std::string_view key) { return loaded.is_set(key); }, 0);
  return loaded.config.model;
}

/// Throws unless the checkpoint's weights are exactly the parameters of the layout.
void check_weights(const CheckpointReader& reader, const std::vector<HfTensor>& layout) {
  std::set<std::string> exported;
  for (const HfTensor& tensor : layout) {
    for (const HfPart& part : tensor.parts) {
      const std::string name = "model." + part.name;
      const ManifestTensor& found = reader.find(name);
      const std::vector<int64_t> shape = tensor.part_shape(part);
      if (found.shape != shape) {
        throw UserError(build_string(reader.path(), ": ", name, " is ", describe_shape(found.shape), ", expected ",
                                     describe_shape(shape), " from the checkpoint's own config"));
      }
      exported.insert(name);
    }
  }
  for (const auto& entry : reader.manifest().tensors) {
    if (entry.first.starts_with("model.") && exported.count(entry.first) == 0) {
      throw UserError(build_string(reader.path(), ": ", entry.first, " has no place in HuggingFace's layout"));
    }
  }
}

/// Rows [begin, begin + rows) of the tensor as it lies on disk, gathered from its parts into block.
void read_disk_rows(CheckpointReader& reader, const HfTensor& tensor, int64_t begin, int64_t rows,
                    std::vector<float>& block) {
  const int64_t width = tensor.shape.size() == 1 ? 1 : tensor.shape[1];
  block.resize(static_cast<size_t>(rows * width));
  std::vector<float> part_block;
  int64_t offset = 0;  // of the part, in columns of a Conv1D or in rows
  for (const HfPart& part : tensor.parts) {
    const std::string name = "model." + part.name;
    Slice slice = whole(tensor.part_shape(part));
    if (tensor.conv1d) {
      slice.begin[1] = begin;
      slice.size[1] = rows;
      part_block.resize(static_cast<size_t>(part.rows * rows));
      reader.read(name, slice, Tensor(part_block.data(), DType::f32, slice.size));
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t o = 0; o < part.rows; ++o) block[i * width + offset + o] = part_block[o * rows + i];
      }
    } else {
      const int64_t first = std::max(begin, offset), last = std::min(begin + rows, offset + part.rows);
      if (first < last) {
        slice.begin[0] = first - offset;
        slice.size[0] = last - first;
        reader.read(name, slice, Tensor(&block[(first - begin) * width], DType::f32, slice.size));
      }
    }
    offset += part.rows;
  }
}

void write_file(CheckpointReader& reader, const std::string& path, const std::vector<const HfTensor*>& tensors,
                const HfExportOptions& options) {
  std::vector<ShardTensor> records;
  for (const HfTensor* tensor : tensors) {
    ShardTensor& record = records.emplace_back();
    record.name = tensor->name;
    record.dtype = options.dtype;
    record.shape = tensor->shape;
  }
  ShardFileWriter file(path, std::move(records), {{"format", "pt"}});
  std::vector<float> block;
  std::vector<std::byte> converted;
  for (const HfTensor* tensor : tensors) {
    const int64_t width = tensor->shape.size() == 1 ? 1 : tensor->shape[1];
    const int64_t step = std::max<int64_t>(1, options.block_elements / width);
    for (int64_t begin = 0; begin < tensor->shape[0]; begin += step) {
      read_disk_rows(reader, *tensor, begin, std::min(step, tensor->shape[0] - begin), block);
      const int64_t count = static_cast<int64_t>(block.size());
      converted.resize(block.size() * dtype_bytes(options.dtype));
      convert_elements(options.dtype, converted.data(), DType::f32, block.data(), count, tensor->name);
      file.append(converted);
    }
  }
  file.finish();
}

/// Tensors in order, into as few files as max_shard_bytes allows.
std::vector<std::vector<const HfTensor*>> assign_files(const std::vector<HfTensor>& layout,
                                                       const HfExportOptions& options) {
  std::vector<std::vector<const HfTensor*>> files(1);
  uint64_t used = 0;
  for (const HfTensor& tensor : layout) {
    const uint64_t bytes = static_cast<uint64_t>(shape_numel(tensor.shape)) * dtype_bytes(options.dtype);
    if (used > 0 && used + bytes > options.max_shard_bytes) {
      files.emplace_back();
      used = 0;
    }
    files.back().push_back(&tensor);
    used += bytes;
  }
  return files;
}

void write_weights(CheckpointReader& reader, const std::vector<HfTensor>& layout, const std::string& directory,
                   const HfExportOptions& options) {
  const std::vector<std::vector<const HfTensor*>> files = assign_files(layout, options);
  if (files.size() == 1) {
    write_file(reader, directory + "/model.safetensors", files[0], options);
    return;
  }
  uint64_t total = 0;
  nlohmann::json weight_map = nlohmann::json::object();
  for (size_t i = 0; i < files.size(); ++i) {
    char name[64];
    std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", i + 1, files.size());
    write_file(reader, directory + "/" + name, files[i], options);
    for (const HfTensor* tensor : files[i]) {
      weight_map[tensor->name] = name;
      total += static_cast<uint64_t>(shape_numel(tensor->shape)) * dtype_bytes(options.dtype);
    }
  }
  const nlohmann::json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  write_text_atomically(directory + "/model.safetensors.index.json", index.dump(2) + "\n");
}

/// Throws when the export can't be published as `hf_dir` at the end.
void check_target(const std::string& hf_dir) {
  if (!fs::exists(hf_dir)) return;
  if (!fs::is_directory(hf_dir)) throw UserError(build_string(hf_dir, " is a file: give a new directory"));
  if (!fs::is_empty(hf_dir)) {
    throw UserError(build_string(hf_dir, " is not empty: give a new directory, nothing is overwritten"));
  }
}

}  // namespace

void export_huggingface(const std::string& checkpoint, const std::string& hf_dir, const HfExportOptions& options) {
  if (options.dtype != DType::f32 && options.dtype != DType::bf16) {
    throw UserError(build_string("can't export as ", dtype_name(options.dtype), ": choose f32 or bf16"));
  }
  if (options.max_shard_bytes == 0) throw UserError("max_shard_bytes is 0: a file must hold at least one byte");
  ensure(options.block_elements > 0, "a block has elements");
  check_target(hf_dir);
  CheckpointReader reader(find_checkpoint(checkpoint));
  const ModelConfig model = checkpoint_model(reader);
  const std::string config = hf_config_text(model, options.dtype);  // first: it knows what can't be exported
  const std::vector<HfTensor> layout = hf_layout(model);
  check_weights(reader, layout);

  // All of it beside the target, then one rename: a reader never meets half a model.
  const fs::path target = fs::absolute(hf_dir).lexically_normal();
  const fs::path clean = target.has_filename() ? target : target.parent_path();
  const std::string temporary = (clean.parent_path() / (".tmp-" + clean.filename().string())).string();
  std::error_code ignored;
  try {
    fs::remove_all(temporary);
    fs::create_directories(temporary);
    write_weights(reader, layout, temporary, options);
    write_text_atomically(temporary + "/config.json", config);
    fs::rename(temporary, clean);
    sync_directory(clean.parent_path().string());
  } catch (const fs::filesystem_error& error) {
    fs::remove_all(temporary, ignored);
    throw RunError(build_string("can't write ", hf_dir, ": ", error.what()));
  } catch (...) {
    fs::remove_all(temporary, ignored);
    throw;
  }
}

}  // namespace trident
