#include "core/checkpoint/hf_config.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>
#include <utility>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/checkpoint/json_text.h"

namespace trident {

using nlohmann::json;

namespace {

struct ActivationName {
  std::string_view name;
  Activation activation;
};
// The first name of an activation is the one written. "gelu" itself is the erf form, which Trident doesn't compute.
constexpr std::array kGpt2Activations = {
    ActivationName{"gelu_new", Activation::gelu}, ActivationName{"gelu_pytorch_tanh", Activation::gelu},
    ActivationName{"relu", Activation::relu}, ActivationName{"silu", Activation::silu},
    ActivationName{"swish", Activation::silu}};

/// Typed access to config.json. A member that is null counts as absent, as it does for transformers.
class HfFields {
 public:
  HfFields(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) throw UserError(build_string(where_, " is not a JSON object"));
  }

  const json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  int64_t size(const char* key, std::optional<int64_t> fallback = {}) const {
    constexpr int64_t kLimit = std::numeric_limits<int32_t>::max();
    const json* value = find(key);
    if (!value && fallback) return *fallback;
    if (!value) throw UserError(build_string(where_, " does not say ", key, ", so the model's size is not known"));
    if (!value->is_number_unsigned() || value->get<uint64_t>() < 1 || value->get<uint64_t>() > kLimit) {
      refuse(key, build_string("must be an integer from 1 to ", kLimit));
    }
    return value->get<int64_t>();
  }

  double number(const char* key, double fallback) const {
    const json* value = find(key);
    if (!value) return fallback;
    if (!value->is_number()) refuse(key, "must be a number");
    return value->get<double>();
  }

  bool flag(const char* key, bool fallback) const {
    const json* value = find(key);
    if (!value) return fallback;
    if (!value->is_boolean()) refuse(key, "must be true or false");
    return value->get<bool>();
  }

  std::string text(const char* key, std::string_view fallback) const {
    const json* value = find(key);
    if (!value) return std::string(fallback);
    if (!value->is_string()) refuse(key, "must be a text");
    return value->get<std::string>();
  }

  /// Throws unless the switch has the one value that Trident computes.
  void require_flag(const char* key, bool fallback, bool wanted, const char* why) const {
    if (flag(key, fallback) != wanted) refuse(key, why);
  }

  [[noreturn]] void refuse(const char* key, const std::string& why) const {
    const json* value = find(key);
    const std::string shown = value ? value->dump(-1, ' ', true, json::error_handler_t::replace) : "absent";
    throw UserError(build_string(where_, ": ", key, " is ", shown.substr(0, 80), ": ", why));
  }

  const std::string& where() const { return where_; }

 private:
  const json& object_;
  std::string where_;
};

/// One dropout probability from HuggingFace's several. It is no property of the weights, so a mixture is no error.
double common_dropout(const HfFields& fields, std::initializer_list<const char*> keys, double fallback) {
  double low = 1, high = 0;
  for (const char* key : keys) {
    const double p = fields.number(key, fallback);
    if (!(p >= 0 && p < 1)) fields.refuse(key, "must be from 0 up to 1");
    low = std::min(low, p);
    high = std::max(high, p);
  }
  if (low == high) return low;
  log::warn(build_string(fields.where(), ": dropout probabilities from ", low, " to ", high,
                         ", where Trident has one: the imported config has none (set model.dropout to train with it)"));
  return 0;
}

ModelConfig parse_gpt2(const HfFields& fields) {
  fields.require_flag("scale_attn_weights", true, true, "Trident always divides scores by sqrt(head size)");
  fields.require_flag("scale_attn_by_inverse_layer_idx", false, false,
                      "Trident does not scale attention by the layer's index");
  fields.require_flag("add_cross_attention", false, false, "Trident has no cross-attention");

  ModelConfig model;
  model.arch = Arch::gpt2;
  model.layers = fields.size("n_layer");
  model.hidden = fields.size("n_embd");
  model.heads = fields.size("n_head");
  if (model.hidden % model.heads != 0) fields.refuse("n_head", build_string("must divide n_embd, ", model.hidden));
  model.kv_heads = model.heads;
  model.head_dim = model.hidden / model.heads;
  model.ffn_hidden = fields.size("n_inner", 4 * model.hidden);
  model.vocab = fields.size("vocab_size");
  model.max_positions = fields.size("n_positions");
  model.context = model.max_positions;
  model.norm = Norm::layer_norm;
  model.norm_eps = fields.number("layer_norm_epsilon", 1e-5);
  model.position = Position::learned;
  model.bias = true;
  model.tie_embeddings = fields.flag("tie_word_embeddings", true);
  model.dropout = common_dropout(fields, {"resid_pdrop", "embd_pdrop", "attn_pdrop"}, 0.1);
  model.init_std = fields.number("initializer_range", 0.02);

  const std::string activation = fields.text("activation_function", "gelu_new");
  const auto known = std::find_if(kGpt2Activations.begin(), kGpt2Activations.end(),
                                  [&](const ActivationName& entry) { return entry.name == activation; });
  if (known == kGpt2Activations.end()) {
    fields.refuse("activation_function", "Trident computes gelu_new (the tanh form), relu and silu");
  }
  model.activation = known->activation;
  return model;
}

/// Version 5 says rope_parameters {rope_theta, rope_type}, version 4 rope_theta beside rope_scaling (null or {type}).
double parse_rope_theta(const HfFields& fields) {
  double theta = fields.number("rope_theta", 10000.0);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const json* found = fields.find(key);
    if (!found) continue;
    const HfFields rope(*found, build_string(fields.where(), ": ", key));
    for (const char* type : {"rope_type", "type"}) {
      if (rope.text(type, "default") != "default") {
        rope.refuse(type, "Trident computes unscaled rotary positions (\"default\") only");
      }
    }
    if (rope.number("partial_rotary_factor", 1.0) != 1.0) {
      rope.refuse("partial_rotary_factor", "Trident rotates whole heads (1.0)");
    }
    theta = rope.number("rope_theta", theta);
  }
  if (fields.number("partial_rotary_factor", 1.0) != 1.0) {
    fields.refuse("partial_rotary_factor", "Trident rotates whole heads (1.0)");
  }
  return theta;
}

ModelConfig parse_llama(const HfFields& fields) {
  ModelConfig model;
  model.arch = Arch::llama;
  model.layers = fields.size("num_hidden_layers");
  model.hidden = fields.size("hidden_size");
  model.heads = fields.size("num_attention_heads");
  model.kv_heads = fields.size("num_key_value_heads", model.heads);
  if (model.heads % model.kv_heads != 0) {
    fields.refuse("num_key_value_heads", build_string("must divide num_attention_heads, ", model.heads));
  }
  model.head_dim = fields.size("head_dim", std::max<int64_t>(1, model.hidden / model.heads));
  model.ffn_hidden = fields.size("intermediate_size");
  model.vocab = fields.size("vocab_size");
  model.context = fields.size("max_position_embeddings");
  model.max_positions = model.context;
  model.norm = Norm::rms_norm;
  model.norm_eps = fields.number("rms_norm_eps", 1e-6);
  model.activation = Activation::swiglu;
  model.position = Position::rope;
  model.rope_theta = parse_rope_theta(fields);
  model.tie_embeddings = fields.flag("tie_word_embeddings", false);
  model.dropout = common_dropout(fields, {"attention_dropout"}, 0.0);
  model.init_std = fields.number("initializer_range", 0.02);
  if (model.dropout != 0) {
    log::warn(build_string(fields.where(), ": attention_dropout ", model.dropout,
                           " becomes model.dropout, which Trident applies after each block too"));
  }

  const std::string activation = fields.text("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") {
    fields.refuse("hidden_act", "Trident's gated feed-forward computes silu");
  }
  model.bias = fields.flag("attention_bias", false);
  if (fields.flag("mlp_bias", false) != model.bias) {
    fields.refuse("mlp_bias", build_string("attention_bias is ", model.bias ? "true" : "false",
                                           "; Trident's model.bias is one switch for both"));
  }
  return model;
}

/// Refuses what the config's own declarations do not allow, by our name of it.
struct RangeCheck {
  const std::string& path;

  template <class T>
  void operator()(const T& value, const FieldInfo& info) const {
    if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
      if (!info.range.contains(static_cast<double>(value))) {
        throw UserError(build_string(path, ": model.", info.name, " would be ", value,
                                     ", outside what Trident allows, ", info.range.min, " to ", info.range.max));
      }
    }
  }
};

[[noreturn]] void no_such_option(const char* key, std::string_view value, std::string_view arch,
                                 std::string_view wanted) {
  throw UserError(build_string("model.", key, " is ", value, "; HuggingFace's ", arch, " has only ", wanted,
                               ", so this model can't be exported"));
}

/// Throws unless the option has the value that the HuggingFace class has built in.
template <class E>
void require_option(const char* key, E value, E wanted, Arch arch) {
  if (value != wanted) no_such_option(key, enum_name(value), enum_name(arch), enum_name(wanted));
}

json gpt2_json(const ModelConfig& model) {
  require_option("norm", model.norm, Norm::layer_norm, model.arch);
  require_option("position", model.position, Position::learned, model.arch);
  if (!model.bias) no_such_option("bias", "false", "gpt2", "true");
  if (model.kv_heads != model.heads) {
    no_such_option("kv_heads", std::to_string(model.kv_heads), "gpt2", build_string("heads, ", model.heads));
  }
  if (model.head_dim * model.heads != model.hidden) {
    no_such_option("head_dim", std::to_string(model.head_dim), "gpt2", "hidden / heads");
  }
  const auto activation = std::find_if(kGpt2Activations.begin(), kGpt2Activations.end(),
                                       [&](const ActivationName& e) { return e.activation == model.activation; });
  if (activation == kGpt2Activations.end()) {
    no_such_option("activation", enum_name(model.activation), "gpt2", "gelu, relu and silu");
  }
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"n_layer", model.layers},
          {"n_embd", model.hidden},
          {"n_head", model.heads},
          {"n_inner", model.ffn_hidden},
          {"n_positions", model.max_positions},
          {"activation_function", activation->name},
          {"layer_norm_epsilon", model.norm_eps},
          {"resid_pdrop", model.dropout},
          {"embd_pdrop", model.dropout},
          {"attn_pdrop", model.dropout},
          {"scale_attn_weights", true},
          {"scale_attn_by_inverse_layer_idx", false}};
}

json llama_json(const ModelConfig& model) {
  require_option("norm", model.norm, Norm::rms_norm, model.arch);
  require_option("position", model.position, Position::rope, model.arch);
  require_option("activation", model.activation, Activation::swiglu, model.arch);
  if (model.hidden % model.heads != 0) {
    no_such_option("heads", std::to_string(model.heads), "llama", build_string("divisors of hidden, ", model.hidden));
  }
  return {{"architectures", {"LlamaForCausalLM"}},
          {"num_hidden_layers", model.layers},
          {"hidden_size", model.hidden},
          {"num_attention_heads", model.heads},
          {"num_key_value_heads", model.kv_heads},
          {"head_dim", model.head_dim},
          {"intermediate_size", model.ffn_hidden},
          {"max_position_embeddings", std::max(model.context, model.max_positions)},
          {"hidden_act", "silu"},
          {"rms_norm_eps", model.norm_eps},
          {"rope_theta", model.rope_theta},
          {"rope_parameters", {{"rope_theta", model.rope_theta}, {"rope_type", "default"}}},
          {"attention_bias", model.bias},
          {"mlp_bias", model.bias},
          {"attention_dropout", model.dropout}};
}

}  // namespace

HfModel parse_hf_config(std::string_view text, const std::string& path) {
  const json object = parse_json(text, path);
  const HfFields fields(object, path);
  if (fields.find("quantization_config")) {
    fields.refuse("quantization_config",
                  "Trident reads float32, float16 and bfloat16 weights; save a dequantized copy");
  }
  HfModel hf;
  const std::string type = fields.text("model_type", "");
  if (type == "gpt2") {
    hf.model = parse_gpt2(fields);
  } else if (type == "llama") {
    hf.model = parse_llama(fields);
  } else {
    fields.refuse("model_type", "Trident imports gpt2 and llama");
  }
  const RangeCheck in_range{path};
  ModelConfig::fields(std::as_const(hf.model), in_range);
  const std::string dtype = fields.text("dtype", fields.text("torch_dtype", "float32"));
  hf.precision = dtype == "float32" ? Precision::fp32 : Precision::bf16;
  return hf;
}

std::string hf_config_text(const ModelConfig& model, DType weights) {
  ensure(weights == DType::f32 || weights == DType::bf16, "an export is f32 or bf16");
  require_option("attention.kind", model.attention.kind, AttentionKind::dense, model.arch);
  json config;
  switch (model.arch) {
    case Arch::gpt2: config = gpt2_json(model); break;
    case Arch::llama: config = llama_json(model); break;
    case Arch::phi3:
    case Arch::mixtral:
      throw UserError(build_string("model.arch is ", enum_name(model.arch), "; Trident exports gpt2 and llama"));
  }
  const char* dtype = weights == DType::f32 ? "float32" : "bfloat16";
  config["model_type"] = enum_name(model.arch);
  config["vocab_size"] = model.vocab;
  config["initializer_range"] = model.init_std;
  config["tie_word_embeddings"] = model.tie_embeddings;
  config["dtype"] = dtype;
  config["torch_dtype"] = dtype;
  // The classes' defaults are ids of the original vocabularies, which this model need not have.
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) config[key] = nullptr;
  return config.dump(2) + "\n";
}

}  // namespace trident
