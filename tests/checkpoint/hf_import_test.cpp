// Import of what transformers wrote, against the files themselves; and every way in which a directory can be wrong.
#include <cstring>
#include <map>

#include "checkpoint/hf_support.h"
#include "core/checkpoint/convert.h"
#include "core/checkpoint/hf_weights.h"
#include "core/checkpoint/huggingface.h"
#include "core/checkpoint/store.h"
#include "core/config/load.h"
#include "core/config/preset.h"

namespace trident {

using namespace hf_test;
using nlohmann::json;

namespace {

using Weights = std::vector<NamedTensor>;

/// A tensor of the fixture as float, by its HuggingFace name.
std::vector<float> hf_values(const Weights& weights, const std::string& name) {
  for (const NamedTensor& tensor : weights) {
    if (tensor.record.name != name) continue;
    std::vector<float> values(static_cast<size_t>(tensor.record.numel()));
    convert_elements(DType::f32, values.data(), tensor.record.dtype, tensor.bytes.data(), tensor.record.numel(), name);
    return values;
  }
  FAIL("no tensor " << name);
  return {};
}

std::vector<float> our_values(CheckpointReader& reader, const std::string& name) {
  const std::vector<int64_t> shape = reader.find("model." + name).shape;
  std::vector<float> values(static_cast<size_t>(shape_numel(shape)));
  reader.read("model." + name, whole(shape), Tensor(values.data(), DType::f32, shape));
  return values;
}

/// Rows [begin, begin + rows) of the transpose of a [in, out] matrix.
std::vector<float> transposed_rows(const std::vector<float>& matrix, int64_t in, int64_t out, int64_t begin,
                                   int64_t rows) {
  std::vector<float> result;
  for (int64_t row = begin; row < begin + rows; ++row) {
    for (int64_t i = 0; i < in; ++i) result.push_back(matrix[i * out + row]);
  }
  return result;
}

void check_gpt2(const Weights& hf, CheckpointReader& ours, int layers) {
  constexpr int64_t kHidden = 48, kFfn = 192;
  CHECK(our_values(ours, "embed.token.weight") == hf_values(hf, "transformer.wte.weight"));
  CHECK(our_values(ours, "embed.position.weight") == hf_values(hf, "transformer.wpe.weight"));
  CHECK(our_values(ours, "final_norm.weight") == hf_values(hf, "transformer.ln_f.weight"));
  CHECK(our_values(ours, "final_norm.bias") == hf_values(hf, "transformer.ln_f.bias"));
  for (int layer = 0; layer < layers; ++layer) {
    const std::string theirs = build_string("transformer.h.", layer, "."), mine = build_string("layers.", layer, ".");
    const std::vector<float> attention = hf_values(hf, theirs + "attn.c_attn.weight");
    const std::vector<float> attention_bias = hf_values(hf, theirs + "attn.c_attn.bias");
    int64_t column = 0;
    for (const char* part : {"q", "k", "v"}) {
      INFO(mine << part);
      CHECK(our_values(ours, mine + "attn." + part + ".weight") ==
            transposed_rows(attention, kHidden, 3 * kHidden, column, kHidden));
      CHECK(our_values(ours, mine + "attn." + part + ".bias") ==
            std::vector<float>(attention_bias.begin() + column, attention_bias.begin() + column + kHidden));
      column += kHidden;
    }
    struct Linear {
      const char *theirs, *mine;
      int64_t in, out;
    };
    for (const Linear& linear :
         {Linear{"attn.c_proj", "attn.out", kHidden, kHidden}, Linear{"mlp.c_fc", "mlp.up", kHidden, kFfn},
          Linear{"mlp.c_proj", "mlp.down", kFfn, kHidden}}) {
      INFO(mine << linear.mine);
      CHECK(our_values(ours, mine + linear.mine + ".weight") ==
            transposed_rows(hf_values(hf, theirs + linear.theirs + ".weight"), linear.in, linear.out, 0, linear.out));
      CHECK(our_values(ours, mine + linear.mine + ".bias") == hf_values(hf, theirs + linear.theirs + ".bias"));
    }
    for (const char* part : {"weight", "bias"}) {
      CHECK(our_values(ours, mine + "norm1." + part) == hf_values(hf, theirs + "ln_1." + part));
      CHECK(our_values(ours, mine + "norm2." + part) == hf_values(hf, theirs + "ln_2." + part));
    }
  }
  CHECK(ours.manifest().tensors.size() == 4 + 16 * static_cast<size_t>(layers));
}

void check_llama(const Weights& hf, CheckpointReader& ours, int layers) {
  CHECK(our_values(ours, "embed.token.weight") == hf_values(hf, "model.embed_tokens.weight"));
  CHECK(our_values(ours, "final_norm.weight") == hf_values(hf, "model.norm.weight"));
  CHECK(our_values(ours, "head.weight") == hf_values(hf, "lm_head.weight"));
  const std::map<std::string, std::string> names = {
      {"norm1", "input_layernorm"},   {"attn.q", "self_attn.q_proj"},   {"attn.k", "self_attn.k_proj"},
      {"attn.v", "self_attn.v_proj"}, {"attn.out", "self_attn.o_proj"}, {"norm2", "post_attention_layernorm"},
      {"mlp.gate", "mlp.gate_proj"},  {"mlp.up", "mlp.up_proj"},        {"mlp.down", "mlp.down_proj"}};
  for (int layer = 0; layer < layers; ++layer) {
    for (const auto& [mine, theirs] : names) {
      const std::string name = build_string("layers.", layer, ".", mine, ".weight");
      INFO(name);
      CHECK(our_values(ours, name) == hf_values(hf, build_string("model.layers.", layer, ".", theirs, ".weight")));
    }
  }
  CHECK(ours.manifest().tensors.size() == 3 + 9 * static_cast<size_t>(layers));
}

void check_import(const std::string& arch, const Weights& hf, const std::string& checkpoint) {
  CheckpointReader reader(checkpoint);
  if (arch == "gpt2") check_gpt2(hf, reader, 3);
  if (arch == "llama") check_llama(hf, reader, 3);
}

/// The message with which an edited copy of the fixture is refused.
std::string refusal(const std::string& arch, const std::function<void(Weights&)>& edit_weights,
                    const std::function<void(json&)>& edit_config = {}) {
  const TempDir scratch;
  copy_model(arch, scratch / "hf", edit_weights, edit_config);
  const std::string message = user_error([&] { import_huggingface(scratch / "hf", scratch / "ckpt"); });
  CHECK(find_checkpoints(scratch / "ckpt").empty());
  return message;
}

void rename(Weights& weights, const std::string& from, const std::string& to) {
  find_tensor(weights, from).record.name = to;
}

void convert(NamedTensor& tensor, DType dtype) {
  std::vector<std::byte> converted(static_cast<size_t>(tensor.record.numel()) * dtype_bytes(dtype));
  convert_elements(dtype, converted.data(), tensor.record.dtype, tensor.bytes.data(), tensor.record.numel(),
                   "a tensor");
  tensor.bytes = converted;
  tensor.record.dtype = dtype;
}

}  // namespace

TEST_CASE("an imported checkpoint holds HuggingFace's weights, un-transposed and un-fused") {
  for (const std::string arch : {"gpt2", "llama"}) {
    const TempDir scratch;
    const std::string path = import_huggingface(fixture(arch), scratch / "ckpt");
    CHECK(path == scratch / "ckpt/step-00000000");
    check_import(arch, read_tensors(fixture(arch) + "/model.safetensors"), path);
    CHECK(verify_checkpoint(path).empty());
  }
}

TEST_CASE("an imported checkpoint carries a resolved config and step 0") {
  const TempDir scratch;
  const Manifest manifest = read_manifest(import_huggingface(fixture("llama"), scratch / "ckpt"));
  CHECK(manifest.meta.step == 0);
  CHECK_FALSE(manifest.meta.probe.has_value());
  CHECK(manifest.meta.labels.at("imported_from") == fixture("llama"));
  const LoadedConfig loaded = parse_config(manifest.meta.config, "manifest");
  CHECK(loaded.diagnostics.empty());
  CHECK(loaded.config.model == read_hf_model(fixture("llama")).model);
  CHECK(loaded.config.name == "llama");
  CHECK(loaded.config.data.tokenizer.kind == TokenizerKind::none);
  CHECK(loaded.config.train.precision == Precision::fp32);
}

TEST_CASE("the size of the blocks an import works in does not show") {
  // 1: row by row. 100: odd cuts inside q, k and v. 5000: some tensors whole, others in pieces.
  for (const int64_t block : {1, 100, 5000}) {
    for (const std::string arch : {"gpt2", "llama"}) {
      const TempDir scratch;
      INFO(arch << " in blocks of " << block);
      const std::string path = import_huggingface(fixture(arch), scratch / "ckpt", block);
      check_import(arch, read_tensors(fixture(arch) + "/model.safetensors"), path);
    }
  }
}

TEST_CASE("half-precision and double weights are widened or rounded to f32") {
  for (const DType dtype : {DType::bf16, DType::f16, DType::f64}) {
    const TempDir scratch;
    Weights narrowed;
    copy_model("gpt2", scratch / "hf", [&](Weights& weights) {
      for (NamedTensor& tensor : weights) convert(tensor, dtype);
      narrowed = weights;
    });
    INFO(dtype_name(dtype));
    check_import("gpt2", narrowed, import_huggingface(scratch / "hf", scratch / "ckpt"));
  }
}

TEST_CASE("names without the full model's prefix, masks and rotary tables are understood") {
  const TempDir scratch;
  const Weights original = read_tensors(fixture("gpt2") + "/model.safetensors");
  copy_model("gpt2", scratch / "hf", [](Weights& weights) {
    for (NamedTensor& tensor : weights) tensor.record.name.erase(0, std::strlen("transformer."));
    NamedTensor mask;
    mask.record = {.name = "h.0.attn.bias", .dtype = DType::u8, .shape = {1, 1, 40, 40}};
    mask.bytes.resize(1600);
    weights.push_back(mask);
  });
  check_import("gpt2", original, import_huggingface(scratch / "hf", scratch / "ckpt"));

  copy_model("llama", scratch / "hf2", [](Weights& weights) {
    for (NamedTensor& tensor : weights) {
      if (tensor.record.name.starts_with("model.")) tensor.record.name.erase(0, std::strlen("model."));
    }
    NamedTensor table;
    table.record = {.name = "layers.1.self_attn.rotary_emb.inv_freq", .dtype = DType::f32, .shape = {4}};
    table.bytes.resize(16);
    weights.push_back(table);
  });
  check_import("llama", read_tensors(fixture("llama") + "/model.safetensors"),
               import_huggingface(scratch / "hf2", scratch / "ckpt2"));
}

TEST_CASE("a tied head may be stored twice, or in the embedding's place, but not differ") {
  const std::string embedding = "transformer.wte.weight", head = "lm_head.weight";
  const Weights original = read_tensors(fixture("gpt2") + "/model.safetensors");
  const auto add_copy = [&](Weights& weights) {
    NamedTensor copy = find_tensor(weights, embedding);
    copy.record.name = head;
    weights.push_back(copy);
  };
  const TempDir scratch;
  copy_model("gpt2", scratch / "twice", add_copy);
  check_import("gpt2", original, import_huggingface(scratch / "twice", scratch / "a", 1000));

  copy_model("gpt2", scratch / "head", [&](Weights& weights) { rename(weights, embedding, head); });
  check_import("gpt2", original, import_huggingface(scratch / "head", scratch / "b"));

  check_says(refusal("gpt2",
                     [&](Weights& weights) {
                       add_copy(weights);
                       weights.back().bytes.back() ^= std::byte{1};
                     }),
             {"lm_head.weight differs from transformer.wte.weight", "tie_word_embeddings"});
  check_says(refusal("llama", [&](Weights& weights) { rename(weights, head, "model.extra"); }),
             {"no lm_head.weight", "tie_word_embeddings: false"});
}

TEST_CASE("weights that are not those of config.json are refused by tensor, shapes and remedy") {
  const std::string norm = "transformer.h.1.ln_2.weight";
  check_says(refusal("gpt2", [&](Weights& weights) { rename(weights, norm, "transformer.h.1.ln_3.weight"); }),
             {"no tensor", norm});
  check_says(refusal("gpt2", {}, [](json& config) { config["n_layer"] = 2; }),
             {"transformer.h.2.", "none of the", "gpt2 with 2 layers"});
  check_says(refusal("gpt2", {}, [](json& config) { config["n_layer"] = 4; }),
             {"no tensor transformer.h.3.ln_1.weight"});
  check_says(refusal("gpt2", {}, [](json& config) { config["vocab_size"] = 200; }),
             {"transformer.wte.weight is [193,48]", "expected [200,48]", "config.json"});
  check_says(refusal("llama", {}, [](json& config) { config["num_key_value_heads"] = 3; }),
             {"model.layers.0.self_attn.k_proj.weight is [16,48]", "expected [24,48]"});
  check_says(refusal("llama",
                     [](Weights& weights) {
                       NamedTensor& tensor = find_tensor(weights, "model.norm.weight");
                       tensor.record.dtype = DType::i32;
                     }),
             {"model.norm.weight holds i32", "bf16"});
  // Queries are [heads * head_dim, hidden] = [48, 48]; rotary positions turn pairs.
  check_says(refusal("llama", {}, [](json& config) { config["head_dim"] = 7; }), {"model.head_dim", "7 is odd"});
}

TEST_CASE("a directory that is no HuggingFace model is refused with what to give instead") {
  const TempDir scratch;
  const auto refused = [&](const std::string& name) {
    return user_error([&] { import_huggingface(scratch / name, scratch / "ckpt"); });
  };
  check_says(refused("absent"), {"absent has no config.json", "save_pretrained"});
  copy_config("llama", scratch / "no-weights");
  check_says(refused("no-weights"), {"neither model.safetensors nor model.safetensors.index.json"});
  std::ofstream(scratch / "no-weights/pytorch_model.bin") << "pickle";
  check_says(refused("no-weights"), {"pytorch_model.bin", "save_pretrained"});
  copy_config("llama", scratch / "cut");
  std::ofstream(scratch / "cut/model.safetensors") << "cut";
  check_says(refused("cut"), {"cut/model.safetensors"});

  import_huggingface(fixture("gpt2"), scratch / "ckpt");
  check_says(user_error([&] { import_huggingface(fixture("gpt2"), scratch / "ckpt"); }),
             {"ckpt holds checkpoints already", "another directory"});
  check_says(user_error([&] { import_huggingface(fixture("gpt2"), scratch / "ckpt/step-00000000"); }),
             {"holds checkpoints already"});
}

TEST_CASE("a damaged index is refused with file and reason") {
  const TempDir scratch;
  copy_model("gpt2", scratch / "hf");
  fs::rename(scratch / "hf/model.safetensors", scratch / "hf/model-00001-of-00001.safetensors");
  json map = json::object();
  for (const NamedTensor& tensor : read_tensors(fixture("gpt2") + "/model.safetensors")) {
    map[tensor.record.name] = "model-00001-of-00001.safetensors";
  }
  const auto refused = [&](const json& index) {
    write_json(scratch / "hf/model.safetensors.index.json", index);
    return user_error([&] { HfWeights(scratch / "hf", "transformer."); });
  };
  const auto refused_place = [&](const std::string& name, const json& place) {
    json edited = map;
    edited[name] = place;
    return refused({{"weight_map", edited}});
  };
  const std::string norm = "transformer.ln_f.weight";
  check_says(refused_place(norm, "model-00002-of-00002.safetensors"), {"model-00002-of-00002.safetensors"});
  check_says(refused_place(norm, "../model.safetensors"), {norm, "\"../model.safetensors\"", "plain file name"});
  check_says(refused_place(norm, ".."), {norm, "plain file name"});
  check_says(refused_place(norm, 3), {norm, "not a string"});
  check_says(refused_place("transformer.h.9.ln_1.weight", map[norm]),
             {"transformer.h.9.ln_1.weight", "model-00001-of-00001.safetensors"});
  check_says(refused({{"metadata", {}}}), {"index.json", "weight_map"});
  check_says(refused({{"weight_map", {1, 2}}}), {"weight_map is not an object"});

  write_json(scratch / "hf/model.safetensors.index.json", {{"weight_map", map}});
  check_import("gpt2", read_tensors(fixture("gpt2") + "/model.safetensors"),
               import_huggingface(scratch / "hf", scratch / "ckpt"));
}

}  // namespace trident
