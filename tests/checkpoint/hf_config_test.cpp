#include "core/checkpoint/hf_config.h"

#include "checkpoint/hf_support.h"

namespace trident {

using namespace hf_test;
using nlohmann::json;

namespace {

json fixture_config(const std::string& arch) { return read_json(fixture(arch) + "/config.json"); }

ModelConfig parse(const json& config) { return parse_hf_config(config.dump(), "config.json").model; }

/// The refusal of the fixture's config with one member replaced.
std::string refusal(const std::string& arch, const std::string& key, const json& value) {
  json config = fixture_config(arch);
  config[key] = value;
  return user_error([&] { parse(config); });
}

}  // namespace

TEST_CASE("config.json of GPT-2 becomes our model section") {
  const HfModel hf = parse_hf_config(fixture_config("gpt2").dump(), "config.json");
  const ModelConfig& model = hf.model;
  CHECK(model.arch == Arch::gpt2);
  CHECK(model.layers == 3);
  CHECK(model.hidden == 48);
  CHECK(model.heads == 4);
  CHECK(model.kv_heads == 4);
  CHECK(model.head_dim == 12);
  CHECK(model.ffn_hidden == 192);
  CHECK(model.vocab == 193);
  CHECK(model.max_positions == 40);
  CHECK(model.context == 40);
  CHECK(model.norm == Norm::layer_norm);
  CHECK(model.norm_eps == 1e-5);
  CHECK(model.activation == Activation::gelu);
  CHECK(model.position == Position::learned);
  CHECK(model.bias);
  CHECK(model.tie_embeddings);
  CHECK(model.dropout == 0.0);
  CHECK(hf.precision == Precision::fp32);
}

TEST_CASE("config.json of Llama becomes our model section") {
  const ModelConfig model = parse(fixture_config("llama"));
  CHECK(model.arch == Arch::llama);
  CHECK(model.layers == 3);
  CHECK(model.hidden == 48);
  CHECK(model.heads == 6);
  CHECK(model.kv_heads == 2);
  CHECK(model.head_dim == 8);
  CHECK(model.ffn_hidden == 80);
  CHECK(model.vocab == 193);
  CHECK(model.context == 32);
  CHECK(model.norm == Norm::rms_norm);
  CHECK(model.activation == Activation::swiglu);
  CHECK(model.position == Position::rope);
  CHECK(model.rope_theta == 10000.0);
  CHECK_FALSE(model.bias);
  CHECK_FALSE(model.tie_embeddings);
}

TEST_CASE("versions 4 and 5 spell rotary positions and the dtype differently") {
  json five = fixture_config("llama");
  five["rope_parameters"]["rope_theta"] = 250000;
  CHECK(parse(five).rope_theta == 250000.0);

  json four = fixture_config("llama");
  four.erase("rope_parameters");
  four.erase("dtype");
  four["rope_theta"] = 500000.0;
  four["rope_scaling"] = nullptr;
  four["torch_dtype"] = "bfloat16";
  const HfModel hf = parse_hf_config(four.dump(), "config.json");
  CHECK(hf.model.rope_theta == 500000.0);
  CHECK(hf.precision == Precision::bf16);

  four.erase("rope_theta");
  CHECK(parse(four).rope_theta == 10000.0);
  four["rope_scaling"] = {{"type", "default"}};
  CHECK(parse(four).rope_theta == 10000.0);
}

TEST_CASE("absent keys have the defaults of transformers") {
  const json gpt2 = {{"model_type", "gpt2"}, {"vocab_size", 100}, {"n_positions", 64}, {"n_embd", 32},
                     {"n_layer", 2},         {"n_head", 2},       {"n_inner", nullptr}};
  const ModelConfig a = parse(gpt2);
  CHECK(a.ffn_hidden == 128);
  CHECK(a.tie_embeddings);
  CHECK(a.norm_eps == 1e-5);
  CHECK(a.dropout == 0.1);

  const json llama = {{"model_type", "llama"},  {"vocab_size", 100},      {"max_position_embeddings", 64},
                      {"hidden_size", 32},      {"num_hidden_layers", 2}, {"num_attention_heads", 2},
                      {"intermediate_size", 90}};
  const ModelConfig b = parse(llama);
  CHECK(b.kv_heads == 2);
  CHECK(b.head_dim == 16);
  CHECK(b.norm_eps == 1e-6);
  CHECK_FALSE(b.tie_embeddings);
}

TEST_CASE("several dropout probabilities become none") {
  json config = fixture_config("gpt2");
  config["embd_pdrop"] = 0.2;
  CHECK(parse(config).dropout == 0.0);
  config["resid_pdrop"] = config["attn_pdrop"] = 0.2;
  CHECK(parse(config).dropout == 0.2);
}

TEST_CASE("what Trident does not compute is refused by name") {
  check_says(refusal("gpt2", "scale_attn_by_inverse_layer_idx", true),
             {"config.json", "scale_attn_by_inverse_layer_idx is true"});
  check_says(refusal("gpt2", "scale_attn_weights", false), {"scale_attn_weights is false"});
  check_says(refusal("gpt2", "add_cross_attention", true), {"add_cross_attention is true"});
  check_says(refusal("gpt2", "activation_function", "gelu"), {"activation_function is \"gelu\"", "gelu_new"});
  check_says(refusal("llama", "hidden_act", "gelu"), {"hidden_act is \"gelu\"", "silu"});
  check_says(refusal("llama", "attention_bias", true), {"mlp_bias is false", "attention_bias is true"});
  check_says(refusal("llama", "rope_parameters", {{"rope_type", "llama3"}, {"rope_theta", 5e5}, {"factor", 8.0}}),
             {"rope_parameters: rope_type is \"llama3\"", "default"});
  check_says(refusal("llama", "rope_scaling", {{"type", "linear"}, {"factor", 2.0}}),
             {"rope_scaling: type is \"linear\""});
  check_says(refusal("llama", "rope_parameters", {{"rope_theta", 1e4}, {"partial_rotary_factor", 0.5}}),
             {"partial_rotary_factor is 0.5"});
  check_says(refusal("llama", "partial_rotary_factor", 0.25), {"partial_rotary_factor is 0.25"});
  check_says(refusal("llama", "quantization_config", {{"quant_method", "fp8"}}),
             {"quantization_config", "dequantized"});
  check_says(refusal("llama", "model_type", "mistral"), {"model_type is \"mistral\"", "gpt2 and llama"});
  check_says(refusal("llama", "model_type", nullptr), {"model_type is absent"});
}

TEST_CASE("a damaged config.json is refused with the key and its value") {
  check_says(refusal("gpt2", "n_layer", nullptr), {"does not say n_layer"});
  check_says(refusal("gpt2", "n_layer", "three"), {"n_layer is \"three\"", "integer"});
  check_says(refusal("gpt2", "n_layer", -3), {"n_layer is -3"});
  check_says(refusal("gpt2", "n_layer", 0), {"n_layer is 0"});
  check_says(refusal("gpt2", "n_layer", 3.5), {"n_layer is 3.5"});
  check_says(refusal("gpt2", "n_layer", 70000), {"model.layers would be 70000", "allows"});
  check_says(refusal("gpt2", "n_head", 7), {"n_head is 7", "48"});
  check_says(refusal("gpt2", "layer_norm_epsilon", "small"), {"layer_norm_epsilon is \"small\"", "number"});
  check_says(refusal("gpt2", "layer_norm_epsilon", 0.0), {"model.norm_eps would be 0"});
  check_says(refusal("gpt2", "tie_word_embeddings", 1), {"tie_word_embeddings is 1", "true or false"});
  check_says(refusal("gpt2", "activation_function", 4), {"activation_function is 4", "text"});
  check_says(refusal("gpt2", "attn_pdrop", 1.5), {"attn_pdrop is 1.5"});
  check_says(refusal("llama", "num_key_value_heads", 4), {"num_key_value_heads is 4", "6"});
  check_says(refusal("llama", "rope_parameters", "default"), {"rope_parameters is not a JSON object"});
  check_says(user_error([] { parse_hf_config("[1]", "config.json"); }), {"config.json is not a JSON object"});
  check_says(user_error([] { parse_hf_config("{\"n_layer\": ", "config.json"); }), {"config.json", "JSON"});
}

TEST_CASE("an exported config reads back as the same model, in both spellings") {
  ModelConfig llama = parse(fixture_config("llama"));
  llama.rope_theta = 123456.5;
  llama.norm_eps = 3e-6;
  llama.bias = true;
  const json text = json::parse(hf_config_text(llama, DType::bf16));
  CHECK(parse(text) == llama);
  CHECK(text["rope_theta"] == 123456.5);
  CHECK(text["rope_parameters"]["rope_theta"] == 123456.5);
  CHECK(text["dtype"] == "bfloat16");
  CHECK(text["torch_dtype"] == "bfloat16");
  CHECK(text["architectures"] == json::array({"LlamaForCausalLM"}));

  ModelConfig gpt2 = parse(fixture_config("gpt2"));
  gpt2.tie_embeddings = false;
  gpt2.activation = Activation::relu;
  gpt2.dropout = 0.1;
  CHECK(parse(json::parse(hf_config_text(gpt2, DType::f32))) == gpt2);
}

TEST_CASE("an option that HuggingFace's class lacks stops the export by name") {
  const ModelConfig gpt2 = parse(fixture_config("gpt2")), llama = parse(fixture_config("llama"));
  const auto refused = [](ModelConfig model, const std::function<void(ModelConfig&)>& edit) {
    edit(model);
    return user_error([&] { hf_config_text(model, DType::f32); });
  };
  check_says(refused(gpt2, [](ModelConfig& m) { m.norm = Norm::rms_norm; }), {"model.norm is rms_norm", "layer_norm"});
  check_says(refused(gpt2, [](ModelConfig& m) { m.position = Position::rope; }), {"model.position is rope", "learned"});
  check_says(refused(gpt2, [](ModelConfig& m) { m.bias = false; }), {"model.bias is false"});
  check_says(refused(gpt2, [](ModelConfig& m) { m.kv_heads = 2; }), {"model.kv_heads is 2", "heads, 4"});
  check_says(refused(gpt2, [](ModelConfig& m) { m.head_dim = 16; }), {"model.head_dim is 16"});
  check_says(refused(gpt2, [](ModelConfig& m) { m.activation = Activation::swiglu; }), {"model.activation is swiglu"});
  check_says(refused(gpt2, [](ModelConfig& m) { m.attention.kind = AttentionKind::sliding; }),
             {"model.attention.kind is sliding"});
  check_says(refused(llama, [](ModelConfig& m) { m.norm = Norm::layer_norm; }), {"model.norm is layer_norm"});
  check_says(refused(llama, [](ModelConfig& m) { m.position = Position::none; }), {"model.position is none"});
  check_says(refused(llama, [](ModelConfig& m) { m.activation = Activation::gelu; }), {"model.activation is gelu"});
  check_says(refused(llama, [](ModelConfig& m) { m.heads = 5; }), {"model.heads is 5", "48"});
  check_says(refused(llama, [](ModelConfig& m) { m.arch = Arch::phi3; }), {"model.arch is phi3"});
}

}  // namespace trident
