#include "core/checkpoint/hf_layout.h"

#include <map>
#include <set>

#include "checkpoint/hf_support.h"
#include "core/checkpoint/hf_config.h"
#include "core/checkpoint/slice.h"

namespace trident {

using namespace hf_test;

namespace {

ModelConfig fixture_model(const std::string& arch) {
  return parse_hf_config(read_json(fixture(arch) + "/config.json").dump(), "config.json").model;
}

}  // namespace

TEST_CASE("the layout is what save_pretrained wrote, names and shapes") {
  for (const std::string arch : {"gpt2", "llama"}) {
    std::map<std::string, std::vector<int64_t>> ours, theirs;
    for (const HfTensor& tensor : hf_layout(fixture_model(arch))) ours[tensor.name] = tensor.shape;
    const ShardFileReader file(fixture(arch) + "/model.safetensors");
    for (const ShardTensor& tensor : file.tensors()) theirs[tensor.name] = tensor.shape;
    INFO(arch);
    CHECK(ours == theirs);
  }
}

TEST_CASE("the parts of a tensor are its elements, each logical parameter once") {
  for (const std::string arch : {"gpt2", "llama"}) {
    std::set<std::string> seen;
    for (const HfTensor& tensor : hf_layout(fixture_model(arch))) {
      int64_t elements = 0;
      for (const HfPart& part : tensor.parts) {
        INFO(tensor.name << " " << part.name);
        CHECK(seen.insert(part.name).second);
        elements += shape_numel(tensor.part_shape(part));
      }
      INFO(tensor.name);
      CHECK(elements == shape_numel(tensor.shape));
    }
  }
}

TEST_CASE("the options of a model show in its layout") {
  const auto names = [](const ModelConfig& model) {
    std::set<std::string> found;
    for (const HfTensor& tensor : hf_layout(model)) found.insert(tensor.name);
    return found;
  };
  ModelConfig llama = fixture_model("llama");
  CHECK(names(llama).count("lm_head.weight") == 1);
  CHECK(names(llama).count("model.layers.0.self_attn.o_proj.bias") == 0);
  llama.tie_embeddings = true;
  llama.bias = true;
  CHECK(names(llama).count("lm_head.weight") == 0);
  for (const char* name : {"self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
    INFO(name);
    CHECK(names(llama).count(build_string("model.layers.2.", name, ".bias")) == 1);
  }
  ModelConfig gpt2 = fixture_model("gpt2");
  gpt2.tie_embeddings = false;
  CHECK(names(gpt2).count("lm_head.weight") == 1);
  gpt2.arch = Arch::mixtral;
  CHECK_THROWS_AS(hf_layout(gpt2), InternalError);
}

TEST_CASE("masks and rotary tables are buffers, biases are not") {
  for (const char* name :
       {"transformer.h.0.attn.bias", "h.11.attn.masked_bias", "model.layers.3.self_attn.rotary_emb.inv_freq"}) {
    INFO(name);
    CHECK(is_hf_buffer(name));
  }
  for (const ModelConfig& model : {fixture_model("gpt2"), fixture_model("llama")}) {
    for (const HfTensor& tensor : hf_layout(model)) {
      INFO(tensor.name);
      CHECK_FALSE(is_hf_buffer(tensor.name));
    }
  }
}

}  // namespace trident
