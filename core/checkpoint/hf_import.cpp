// HuggingFace -> checkpoint. Every logical parameter becomes pieces of at most block_elements, each made when the
// writer asks for it.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/checkpoint/hf_layout.h"
#include "core/checkpoint/hf_weights.h"
#include "core/checkpoint/huggingface.h"
#include "core/checkpoint/manifest.h"
#include "core/checkpoint/store.h"
#include "core/comm/communicator.h"
#include "core/config/dump.h"
#include "core/config/preset.h"
#include "core/config/validate.h"

namespace trident {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t kMaxConfigBytes = 16'000'000;

/// Everything that the pieces of one import share. `block` is what the writer sees until it asks for the next piece.
struct Import {
  const HfWeights& weights;
  int64_t block_elements;
  std::vector<float> block, panel;
};

/// Rows [begin, begin + rows) of a linear weight, from the columns of a Conv1D that start at `column`.
void read_transposed(Import& import, const HfTensor& tensor, int64_t column, int64_t rows) {
  // A few input rows at a time: every output row then receives a short contiguous run.
  constexpr int64_t kPanelRows = 16;
  const int64_t in = tensor.shape[0], out = tensor.shape[1];
  import.panel.resize(static_cast<size_t>(kPanelRows * rows));
  for (int64_t first = 0; first < in; first += kPanelRows) {
    const int64_t count = std::min(kPanelRows, in - first);
    for (int64_t i = 0; i < count; ++i) {
      import.weights.read(tensor.name, (first + i) * out + column, rows, &import.panel[i * rows]);
    }
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = 0; i < count; ++i) import.block[row * in + first + i] = import.panel[i * rows + row];
    }
  }
}

/// Appends the pieces of one part, whose rows start at `row` of the tensor (as [out, in]).
void add_pieces(std::vector<LocalPiece>& pieces, Import& import, const HfTensor& tensor, const HfPart& part,
                int64_t row) {
  const std::vector<int64_t> shape = tensor.part_shape(part);
  const int64_t width = shape.size() == 1 ? 1 : shape[1];
  const int64_t step = std::max<int64_t>(1, import.block_elements / width);
  for (int64_t begin = 0; begin < part.rows; begin += step) {
    const int64_t rows = std::min(step, part.rows - begin);
    Slice slice = whole(shape);
    slice.begin[0] = begin;
    slice.size[0] = rows;
    const std::vector<int64_t> size = slice.size;
    const auto produce = [&import, &tensor, size, row, begin, rows, width] {
      import.block.resize(static_cast<size_t>(rows * width));
      if (tensor.conv1d) {
        read_transposed(import, tensor, row + begin, rows);
      } else {
        import.weights.read(tensor.name, (row + begin) * width, rows * width, import.block.data());
      }
      return Tensor(import.block.data(), DType::f32, size);
    };
    pieces.push_back({.tensor = "model." + part.name,
                      .shape = shape,
                      .slice = std::move(slice),
                      .data = Tensor(nullptr, DType::f32, size),
                      .produce = produce});
  }
}

/// A tied model's files may hold the head too, or only the head. Decides which tensor is the embedding.
void settle_tied_head(std::vector<HfTensor>& layout, const HfWeights& weights, int64_t block_elements) {
  HfTensor& embedding = layout.front();
  const std::string head = "lm_head.weight";
  if (!weights.has(head)) return;
  if (!weights.has(embedding.name)) {
    embedding.name = head;
    return;
  }
  weights.require(embedding.name, embedding.shape);
  weights.require(head, embedding.shape);
  const int64_t total = shape_numel(embedding.shape);
  std::vector<float> ours, theirs;
  for (int64_t begin = 0; begin < total; begin += block_elements) {
    const int64_t count = std::min(block_elements, total - begin);
    ours.resize(static_cast<size_t>(count));
    theirs.resize(static_cast<size_t>(count));
    weights.read(embedding.name, begin, count, ours.data());
    weights.read(head, begin, count, theirs.data());
    if (ours != theirs) {
      throw UserError(build_string(head, " differs from ", embedding.name,
                                   ", but config.json ties them: set "
                                   "tie_word_embeddings to false in config.json to keep both"));
    }
  }
}

void check_complete(const std::vector<HfTensor>& layout, const HfWeights& weights, const ModelConfig& model) {
  std::set<std::string> expected;
  for (const HfTensor& tensor : layout) {
    if (tensor.name == "lm_head.weight" && !weights.has(tensor.name) && !model.tie_embeddings) {
      throw UserError(
          "there is no lm_head.weight, and config.json says tie_word_embeddings: false: the files are those "
          "of a model saved without its head, or the setting is wrong");
    }
    weights.require(tensor.name, tensor.shape);
    expected.insert(tensor.name);
  }
  if (model.tie_embeddings) expected.insert("lm_head.weight");
  for (const std::string& name : weights.names()) {
    if (expected.count(name) == 0) {
      throw UserError(build_string("the tensor ", name, " is none of the ", expected.size(), " of a ",
                                   enum_name(model.arch), " with ", model.layers, " layers",
                                   model.bias ? "" : " without biases",
                                   ": this is another model, or config.json does not describe it"));
    }
  }
}

std::string imported_config(const HfModel& hf, const std::string& hf_dir) {
  Config config;
  const std::string name = fs::weakly_canonical(hf_dir).filename().string();
  if (!name.empty()) config.name = name;
  config.model = hf.model;
  config.train.precision = hf.precision;
  // HuggingFace's tokenizer files are not read: text stays tokens until the user names a tokenizer.
  config.data.tokenizer.kind = TokenizerKind::none;
  resolve(config, 1);
  for (const Problem& problem : validate(config, 1)) {
    if (problem.keys.front().starts_with("model.")) {
      throw UserError(build_string(hf_dir, "/config.json, as ", problem.keys.front(), ": ", problem.message));
    }
  }
  return dump_config(config);
}

}  // namespace

HfModel read_hf_model(const std::string& hf_dir) {
  const std::string path = hf_dir + "/config.json";
  if (!fs::exists(path)) {
    throw UserError(build_string(hf_dir, " has no config.json: give the directory that save_pretrained wrote"));
  }
  return parse_hf_config(read_text(path, kMaxConfigBytes), path);
}

std::string import_huggingface(const std::string& hf_dir, const std::string& checkpoint_dir, int64_t block_elements) {
  ensure(block_elements > 0, "a block has elements");
  if (!find_checkpoints(checkpoint_dir).empty() || is_checkpoint(checkpoint_dir)) {
    throw UserError(build_string(checkpoint_dir, " holds checkpoints already: import into another directory"));
  }
  const HfModel hf = read_hf_model(hf_dir);
  const std::string config = imported_config(hf, hf_dir);
  const HfWeights weights(hf_dir, hf_prefix(hf.model.arch));
  std::vector<HfTensor> layout = hf_layout(hf.model);
  if (hf.model.tie_embeddings) settle_tied_head(layout, weights, block_elements);
  check_complete(layout, weights, hf.model);

  Import import{.weights = weights, .block_elements = block_elements, .block = {}, .panel = {}};
  std::vector<LocalPiece> pieces;
  for (const HfTensor& tensor : layout) {
    int64_t row = 0;
    for (const HfPart& part : tensor.parts) {
      add_pieces(pieces, import, tensor, part, row);
      row += part.rows;
    }
  }

  CheckpointMeta meta;
  meta.config = config;
  meta.grid = "imported weights";
  meta.labels["imported_from"] = hf_dir;
  const std::unique_ptr<Communicator> self = make_self_communicator("import");
  CheckpointWriter writer({.root = checkpoint_dir}, *self);
  writer.begin_save(pieces, meta);
  return find_checkpoints(checkpoint_dir).front().path;
}

}  // namespace trident
