// ModelShape: what a transformer is, in numbers. Run maps the config onto it; modules know nothing else of the config.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace trident {

enum class PositionKind : uint8_t { learned, rope, none };

struct ModelShape {
  int64_t layers = 0, hidden = 0, heads = 0, kv_heads = 0, head_size = 0, ffn = 0;
  int64_t vocab = 0;          ///< logical rows; padded to a multiple of `tensor` inside
  int64_t context = 0;        ///< tokens per sequence in a batch
  int64_t max_positions = 0;  ///< rows of the learned position table, >= context
  NormKind norm = NormKind::layer_norm;
  ActivationKind activation = ActivationKind::gelu_tanh;
  PositionKind position = PositionKind::learned;
  bool bias = true;  ///< of all linear layers (norm biases follow the norm: LayerNorm has one)
  bool tied = true;  ///< the head reuses the token embedding
  float dropout = 0;
  float norm_eps = 1e-5f;
  double rope_theta = 10000.0;
  float init_std = 0.02f;
  bool scale_residual_init = true;  ///< GPT-2: residual projections start with std / sqrt(2 L)

  int tensor = 1;                  ///< tensor-parallel ranks
  bool sequence_parallel = false;  ///< activations between tensor-parallel regions are split by rows

  int64_t local_heads() const { return heads / tensor; }
  int64_t local_kv_heads() const { return kv_heads / tensor; }
  /// Width of a row of q | k | v.
  int64_t local_qkv() const { return (local_heads() + 2 * local_kv_heads()) * head_size; }
  int64_t local_vocab() const { return (vocab + tensor - 1) / tensor; }
  /// Ways a [T, D] activation is split by rows outside tensor-parallel regions.
  int64_t row_split() const { return sequence_parallel ? tensor : 1; }
};

}  // namespace trident
