// Export for transformers: what was imported comes back byte for byte, from any cut of the tensors, in any files.
#include <map>

#include "checkpoint/hf_support.h"
#include "core/checkpoint/convert.h"
#include "core/checkpoint/huggingface.h"
#include "core/checkpoint/store.h"
#include "core/comm/communicator.h"

namespace trident {

using namespace hf_test;
using nlohmann::json;

namespace {

struct Expected {
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
  bool operator==(const Expected&) const = default;
};

/// The tensors of a file by name, as `dtype` bytes.
std::map<std::string, Expected> tensors_as(const std::string& path, DType dtype) {
  std::map<std::string, Expected> found;
  for (const NamedTensor& tensor : read_tensors(path)) {
    Expected& entry = found[tensor.record.name];
    entry.shape = tensor.record.shape;
    entry.bytes.resize(static_cast<size_t>(tensor.record.numel()) * dtype_bytes(dtype));
    convert_elements(dtype, entry.bytes.data(), tensor.record.dtype, tensor.bytes.data(), tensor.record.numel(), path);
  }
  return found;
}

void check_equals_fixture(const std::string& arch, const std::string& file, DType dtype) {
  const auto ours = tensors_as(file, dtype), theirs = tensors_as(fixture(arch) + "/model.safetensors", dtype);
  CHECK(ours.size() == theirs.size());
  for (const auto& [name, expected] : theirs) {
    INFO(file << " " << name);
    REQUIRE(ours.count(name) == 1);
    CHECK(ours.at(name) == expected);
  }
}

/// The imported fixture saved again the way a grid would: every tensor cut into `cuts` flat runs, an optimizer beside.
std::string save_as_grid(const std::string& imported, const std::string& root, int64_t cuts,
                         const std::function<void(std::vector<LocalPiece>&, CheckpointMeta&)>& edit = {}) {
  CheckpointReader reader(imported);
  std::map<std::string, std::vector<float>> values;
  std::vector<LocalPiece> pieces;
  for (const auto& [name, tensor] : reader.manifest().tensors) {
    std::vector<float>& data = values[name];
    const int64_t total = shape_numel(tensor.shape);
    data.resize(static_cast<size_t>(total));
    reader.read(name, whole(tensor.shape), Tensor(data.data(), DType::f32, tensor.shape));
    for (int64_t cut = 0; cut < cuts; ++cut) {
      int64_t begin = total * cut / cuts;
      for (const Slice& slice : rectangles(tensor.shape, begin, total * (cut + 1) / cuts)) {
        const Tensor piece(&data[begin], DType::f32, slice.size);
        begin += slice.numel();
        pieces.push_back({.tensor = name, .shape = tensor.shape, .slice = slice, .data = piece});
        pieces.push_back(
            {.tensor = "optimizer.exp_avg." + name.substr(6), .shape = tensor.shape, .slice = slice, .data = piece});
      }
    }
  }
  CheckpointMeta meta = reader.manifest().meta;
  meta.step = 7;
  if (edit) edit(pieces, meta);
  const auto self = make_self_communicator("world");
  CheckpointWriter writer({.root = root}, *self);
  writer.begin_save(pieces, meta);
  return find_checkpoints(root).front().path;
}

bool left_over(const std::string& directory) {
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().filename().string().starts_with(".tmp-")) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("an export of an import is what transformers wrote") {
  for (const std::string arch : {"gpt2", "llama"}) {
    const TempDir scratch;
    import_huggingface(fixture(arch), scratch / "ckpt");
    export_huggingface(scratch / "ckpt", scratch / "hf");
    check_equals_fixture(arch, scratch / "hf/model.safetensors", DType::f32);
    CHECK(read_hf_model(scratch / "hf").model == read_hf_model(fixture(arch)).model);
    CHECK_FALSE(fs::exists(scratch / "hf/model.safetensors.index.json"));
    CHECK_FALSE(left_over(scratch / ""));
  }
}

TEST_CASE("an export reads any cut of the tensors, with an optimizer beside them") {
  for (const std::string arch : {"gpt2", "llama"}) {
    const TempDir scratch;
    const std::string imported = import_huggingface(fixture(arch), scratch / "import");
    save_as_grid(imported, scratch / "run/checkpoints", 5);
    fs::create_directories(scratch / "empty");  // an empty directory is as good as none
    export_huggingface(scratch / "run", scratch / "empty");
    check_equals_fixture(arch, scratch / "empty/model.safetensors", DType::f32);
  }
}

TEST_CASE("the size of the blocks an export works in does not show") {
  const TempDir scratch;
  import_huggingface(fixture("gpt2"), scratch / "ckpt");
  for (const int64_t block : {1, 100, 5000}) {
    const std::string target = scratch / build_string("hf-", block);
    export_huggingface(scratch / "ckpt", target, {.block_elements = block});
    check_equals_fixture("gpt2", target + "/model.safetensors", DType::f32);
  }
}

TEST_CASE("a bf16 export is the rounded weights and says so") {
  for (const std::string arch : {"gpt2", "llama"}) {
    const TempDir scratch;
    import_huggingface(fixture(arch), scratch / "ckpt");
    export_huggingface(scratch / "ckpt", scratch / "hf", {.dtype = DType::bf16});
    const ShardFileReader file(scratch / "hf/model.safetensors");
    for (const ShardTensor& tensor : file.tensors()) CHECK(tensor.dtype == DType::bf16);
    check_equals_fixture(arch, scratch / "hf/model.safetensors", DType::bf16);
    CHECK(read_hf_model(scratch / "hf").precision == Precision::bf16);
  }
}

TEST_CASE("a sharded export keeps to its limit, has an index, and comes back") {
  const TempDir scratch;
  import_huggingface(fixture("llama"), scratch / "ckpt");
  constexpr uint64_t kLimit = 40'000;  // the embedding and the head, 37,056 bytes each, fill a file
  export_huggingface(scratch / "ckpt", scratch / "hf", {.max_shard_bytes = kLimit});

  const json index = read_json(scratch / "hf/model.safetensors.index.json");
  uint64_t total = 0;
  std::map<std::string, std::string> places;
  for (const auto& entry : fs::directory_iterator(scratch / "hf")) {
    if (entry.path().extension() != ".safetensors") continue;
    uint64_t bytes = 0;
    const ShardFileReader file(entry.path().string());
    for (const ShardTensor& tensor : file.tensors()) {
      bytes += tensor.bytes();
      places[tensor.name] = entry.path().filename().string();
    }
    INFO(entry.path());
    CHECK(bytes <= kLimit);
    total += bytes;
  }
  CHECK(index["weight_map"].get<std::map<std::string, std::string>>() == places);
  CHECK(index["metadata"]["total_size"] == total);
  CHECK(places.at("model.embed_tokens.weight").starts_with("model-00001-of-000"));

  export_huggingface(import_huggingface(scratch / "hf", scratch / "again"), scratch / "single");
  check_equals_fixture("llama", scratch / "single/model.safetensors", DType::f32);

  // A tensor larger than the limit has a file of its own.
  export_huggingface(scratch / "ckpt", scratch / "tiny", {.max_shard_bytes = 1});
  CHECK(read_json(scratch / "tiny/model.safetensors.index.json")["weight_map"].size() == 30);
  CHECK(fs::exists(scratch / "tiny/model-00030-of-00030.safetensors"));
}

TEST_CASE("an export never overwrites, and refuses what it can't write, before it writes") {
  const TempDir scratch;
  import_huggingface(fixture("gpt2"), scratch / "ckpt");
  const auto refused = [&](const std::string& from, const std::string& to, const HfExportOptions& options = {}) {
    return user_error([&] { export_huggingface(scratch / from, scratch / to, options); });
  };
  fs::create_directories(scratch / "full");
  std::ofstream(scratch / "full/notes.txt") << "mine";
  check_says(refused("ckpt", "full"), {"full is not empty", "new directory"});
  check_says(refused("ckpt", "full/notes.txt"), {"notes.txt is a file"});
  check_says(refused("ckpt", "hf", {.dtype = DType::f16}), {"f16", "f32 or bf16"});
  check_says(refused("ckpt", "hf", {.max_shard_bytes = 0}), {"max_shard_bytes is 0"});
  check_says(refused("nowhere", "hf"), {"no checkpoint in", "nowhere"});
  CHECK_FALSE(fs::exists(scratch / "hf"));

  std::ofstream(scratch / "file") << "mine";
  CHECK_THROWS_AS(export_huggingface(scratch / "ckpt", scratch / "file/below/hf"), RunError);
}

TEST_CASE("a checkpoint that is not a whole GPT-2 or Llama is refused by tensor or key") {
  const TempDir scratch;
  const std::string imported = import_huggingface(fixture("gpt2"), scratch / "import");
  int number = 0;
  const auto refused = [&](const std::function<void(std::vector<LocalPiece>&, CheckpointMeta&)>& edit) {
    const std::string root = scratch / build_string("ckpt-", number++);
    save_as_grid(imported, root, 1, edit);
    return user_error([&] { export_huggingface(root, scratch / "hf"); });
  };
  const auto replace = [](std::string& text, const std::string& from, const std::string& to) {
    REQUIRE(text.find(from) != std::string::npos);
    text.replace(text.find(from), from.size(), to);
  };
  check_says(refused([](std::vector<LocalPiece>& pieces, CheckpointMeta&) {
               std::erase_if(pieces, [](const LocalPiece& p) { return p.tensor == "model.layers.1.attn.k.bias"; });
             }),
             {"model.layers.1.attn.k.bias"});
  check_says(refused([](std::vector<LocalPiece>& pieces, CheckpointMeta&) {
               for (LocalPiece& piece : pieces) {
                 if (piece.tensor == "model.final_norm.bias") piece.tensor = "model.final_norm.scale";
               }
               pieces.push_back(pieces.front());
               pieces.back().tensor = "model.final_norm.bias";
               pieces.back().shape = pieces.back().slice.size;
               pieces.back().slice = whole(pieces.back().shape);
             }),
             {"model.final_norm.bias is [", "expected [48]"});
  check_says(refused([](std::vector<LocalPiece>& pieces, CheckpointMeta&) {
               pieces.push_back(pieces.front());
               pieces.back().tensor = "model.layers.0.router.weight";
               pieces.back().shape = pieces.back().slice.size;
               pieces.back().slice = whole(pieces.back().shape);
             }),
             {"model.layers.0.router.weight has no place"});
  check_says(refused([&](std::vector<LocalPiece>&, CheckpointMeta& meta) {
               replace(meta.config, "position: learned", "position: none");
             }),
             {"model.position is none"});
  check_says(refused([&](std::vector<LocalPiece>&, CheckpointMeta& meta) { meta.config = "model: {layrs: 3}"; }),
             {"manifest.json (config)", "layrs"});
  CHECK_FALSE(fs::exists(scratch / "hf"));
}

TEST_CASE("a checkpoint damaged while it is exported leaves no half-written directory") {
  const TempDir scratch;
  const std::string path = import_huggingface(fixture("llama"), scratch / "ckpt");
  for (const auto& entry : fs::directory_iterator(path)) {
    if (entry.path().extension() != ".safetensors") continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-5, std::ios::end);
    file.put('\x55');
  }
  CHECK_THROWS_AS(export_huggingface(scratch / "ckpt", scratch / "hf"), UserError);
  CHECK_FALSE(fs::exists(scratch / "hf"));
  CHECK_FALSE(left_over(scratch / ""));
}

}  // namespace trident
