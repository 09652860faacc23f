#include "core/config/preset.h"

#include "config/helpers.h"
#include "support/catch.h"

namespace trident {

TEST_CASE("gpt2 presets its options") {
  const ModelConfig m = load_text("model: {arch: gpt2, hidden: 96, heads: 6, context: 40}\n").model;
  CHECK(m.norm == Norm::layer_norm);
  CHECK(m.activation == Activation::gelu);
  CHECK(m.position == Position::learned);
  CHECK(m.bias);
  CHECK(m.tie_embeddings);
  CHECK(m.kv_heads == 6);
  CHECK(m.head_dim == 16);
  CHECK(m.ffn_hidden == 384);
  CHECK(m.max_positions == 40);
  CHECK(m.norm_eps == 1e-5);
  CHECK(m.dropout == 0.0);
}

TEST_CASE("llama presets its options") {
  const ModelConfig m = load_text("model: {arch: llama, hidden: 96, heads: 6}\n").model;
  CHECK(m.norm == Norm::rms_norm);
  CHECK(m.activation == Activation::swiglu);
  CHECK(m.position == Position::rope);
  CHECK_FALSE(m.bias);
  CHECK_FALSE(m.tie_embeddings);
  CHECK(m.ffn_hidden == 256);  // 8/3 x 96 = 256 already
}

TEST_CASE("the gated width is rounded up to a multiple of 64") {
  CHECK(load_text("model: {arch: llama, hidden: 768}\n").model.ffn_hidden == 2048);
  CHECK(load_text("model: {arch: llama, hidden: 4096, heads: 32}\n").model.ffn_hidden == 10944);  // 10922.67
  CHECK(load_text("model: {arch: gpt2, activation: swiglu, hidden: 4, heads: 1}\n").model.ffn_hidden == 64);
  CHECK(load_text("model: {arch: llama, activation: relu, hidden: 64, heads: 1}\n").model.ffn_hidden == 256);
}

TEST_CASE("what is set is kept, whatever the arch") {
  const ModelConfig m = load_text(
                            "model: {arch: llama, norm: layer_norm, activation: gelu, position: learned, bias: true, "
                            "tie_embeddings: true, kv_heads: 4, head_dim: 80, ffn_hidden: 100, max_positions: 5000}\n")
                            .model;
  CHECK(m.norm == Norm::layer_norm);
  CHECK(m.activation == Activation::gelu);
  CHECK(m.position == Position::learned);
  CHECK(m.bias);
  CHECK(m.tie_embeddings);
  CHECK(m.kv_heads == 4);
  CHECK(m.head_dim == 80);
  CHECK(m.ffn_hidden == 100);
  CHECK(m.max_positions == 5000);
}

TEST_CASE("data takes what the other axes leave of the ranks") {
  CHECK(load_text(kLegal, 8).parallel.data == 2);
  CHECK(load_text(kLegal, 32).parallel.data == 8);
  CHECK(load_text(kLegal, 0).parallel.data == 1);
  CHECK(load_text(kLegal, 8, {"parallel.data=2"}).parallel.data == 2);
  CHECK(load_text(kLegal, 8).micro_batches() == 4);
  CHECK(load_text(kLegal, 8).parallel.ranks() == 8);
}

TEST_CASE("the decay ends with the run, and a constant rate has none") {
  CHECK(load_text("train: {steps: 77}\n").optimizer.decay_steps == 77);
  CHECK(load_text("train: {steps: 77}\noptimizer: {decay_steps: 50}\n").optimizer.decay_steps == 50);
  CHECK(load_text("optimizer: {schedule: constant}\n").optimizer.decay_steps == 0);
}

TEST_CASE("the run directory follows from the name") {
  CHECK(load_text("name: abc\n").out == "runs/abc");
  CHECK(load_text("name: abc\nout: /x/y\n").out == "/x/y");
}

TEST_CASE("a config made in C++ keeps its options and has its zeros derived") {
  Config c;
  c.model.norm = Norm::rms_norm;
  c.parallel.tensor = 2;
  resolve(c, 8);
  CHECK(c.model.norm == Norm::rms_norm);
  CHECK(c.model.activation == Activation::gelu);
  CHECK(c.model.head_dim == 64);
  CHECK(c.parallel.data == 4);
}

TEST_CASE("an illegal config is resolved without a fault and left for validate") {
  Config c;
  c.model.heads = 0;
  c.parallel.tensor = 0;
  resolve(c, 8);
  CHECK(c.model.head_dim == 0);
  CHECK(c.parallel.data == 1);
  Config uneven;
  uneven.model.hidden = 100;
  resolve(uneven, 0);
  CHECK(uneven.model.head_dim == 0);
}

}  // namespace trident
