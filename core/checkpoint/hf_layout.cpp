#include "core/checkpoint/hf_layout.h"

#include <string_view>
#include <utility>

#include "core/base/error.h"

namespace trident {

namespace {

/// One logical parameter in one tensor of the same shape.
HfTensor plain(std::string name, std::vector<int64_t> shape, std::string logical) {
  const int64_t rows = shape[0];
  return {.name = std::move(name), .shape = std::move(shape), .parts = {{std::move(logical), rows}}};
}

/// weight [in, out] and bias [out] of a Conv1D that computes the given linear layers side by side.
void add_conv1d(std::vector<HfTensor>& tensors, const std::string& name, int64_t in,
                const std::vector<HfPart>& linears) {
  HfTensor weight{.name = name + ".weight", .conv1d = true}, bias{.name = name + ".bias"};
  int64_t out = 0;
  for (const HfPart& linear : linears) {
    weight.parts.push_back({linear.name + ".weight", linear.rows});
    bias.parts.push_back({linear.name + ".bias", linear.rows});
    out += linear.rows;
  }
  weight.shape = {in, out};
  bias.shape = {out};
  tensors.push_back(std::move(weight));
  tensors.push_back(std::move(bias));
}

void add_linear(std::vector<HfTensor>& tensors, const std::string& name, int64_t in, int64_t out,
                const std::string& logical, bool bias) {
  tensors.push_back(plain(name + ".weight", {out, in}, logical + ".weight"));
  if (bias) tensors.push_back(plain(name + ".bias", {out}, logical + ".bias"));
}

void add_layer_norm(std::vector<HfTensor>& tensors, const std::string& name, int64_t hidden,
                    const std::string& logical) {
  tensors.push_back(plain(name + ".weight", {hidden}, logical + ".weight"));
  tensors.push_back(plain(name + ".bias", {hidden}, logical + ".bias"));
}

std::vector<HfTensor> gpt2_layout(const ModelConfig& model) {
  const int64_t hidden = model.hidden;
  std::vector<HfTensor> tensors;
  tensors.push_back(plain("transformer.wte.weight", {model.vocab, hidden}, "embed.token.weight"));
  tensors.push_back(plain("transformer.wpe.weight", {model.max_positions, hidden}, "embed.position.weight"));
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    const std::string hf = build_string("transformer.h.", layer, "."), ours = build_string("layers.", layer, ".");
    add_layer_norm(tensors, hf + "ln_1", hidden, ours + "norm1");
    add_conv1d(tensors, hf + "attn.c_attn", hidden,
               {{ours + "attn.q", hidden}, {ours + "attn.k", hidden}, {ours + "attn.v", hidden}});
    add_conv1d(tensors, hf + "attn.c_proj", hidden, {{ours + "attn.out", hidden}});
    add_layer_norm(tensors, hf + "ln_2", hidden, ours + "norm2");
    add_conv1d(tensors, hf + "mlp.c_fc", hidden, {{ours + "mlp.up", model.ffn_hidden}});
    add_conv1d(tensors, hf + "mlp.c_proj", model.ffn_hidden, {{ours + "mlp.down", hidden}});
  }
  add_layer_norm(tensors, "transformer.ln_f", hidden, "final_norm");
  return tensors;
}

std::vector<HfTensor> llama_layout(const ModelConfig& model) {
  const int64_t hidden = model.hidden, queries = model.heads * model.head_dim, keys = model.kv_heads * model.head_dim;
  std::vector<HfTensor> tensors;
  tensors.push_back(plain("model.embed_tokens.weight", {model.vocab, hidden}, "embed.token.weight"));
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    const std::string hf = build_string("model.layers.", layer, "."), ours = build_string("layers.", layer, ".");
    tensors.push_back(plain(hf + "input_layernorm.weight", {hidden}, ours + "norm1.weight"));
    add_linear(tensors, hf + "self_attn.q_proj", hidden, queries, ours + "attn.q", model.bias);
    add_linear(tensors, hf + "self_attn.k_proj", hidden, keys, ours + "attn.k", model.bias);
    add_linear(tensors, hf + "self_attn.v_proj", hidden, keys, ours + "attn.v", model.bias);
    add_linear(tensors, hf + "self_attn.o_proj", queries, hidden, ours + "attn.out", model.bias);
    tensors.push_back(plain(hf + "post_attention_layernorm.weight", {hidden}, ours + "norm2.weight"));
    add_linear(tensors, hf + "mlp.gate_proj", hidden, model.ffn_hidden, ours + "mlp.gate", model.bias);
    add_linear(tensors, hf + "mlp.up_proj", hidden, model.ffn_hidden, ours + "mlp.up", model.bias);
    add_linear(tensors, hf + "mlp.down_proj", model.ffn_hidden, hidden, ours + "mlp.down", model.bias);
  }
  tensors.push_back(plain("model.norm.weight", {hidden}, "final_norm.weight"));
  return tensors;
}

}  // namespace

std::vector<int64_t> HfTensor::part_shape(const HfPart& part) const {
  if (shape.size() == 1) return {part.rows};
  return {part.rows, conv1d ? shape[0] : shape[1]};
}

std::vector<HfTensor> hf_layout(const ModelConfig& model) {
  ensure(model.arch == Arch::gpt2 || model.arch == Arch::llama, "only gpt2 and llama have a HuggingFace layout");
  std::vector<HfTensor> tensors = model.arch == Arch::gpt2 ? gpt2_layout(model) : llama_layout(model);
  if (!model.tie_embeddings) tensors.push_back(plain("lm_head.weight", {model.vocab, model.hidden}, "head.weight"));
  return tensors;
}

std::string hf_prefix(Arch arch) { return arch == Arch::gpt2 ? "transformer." : "model."; }

bool is_hf_buffer(const std::string& name) {
  const std::string_view text = name;
  // "h.0.attn.bias" is GPT-2's mask; the real biases are attn.c_attn.bias and attn.c_proj.bias.
  return text.ends_with(".attn.bias") || text.ends_with(".attn.masked_bias") || text.ends_with(".rotary_emb.inv_freq");
}

}  // namespace trident
