#include "core/train/flops.h"

#include <cmath>

#include "support/catch.h"

using namespace trident;

TEST_CASE("GPT-2 124M has the parameters and operations that the papers give", "[train]") {
  const FlopShape gpt2{.layers = 12,
                       .hidden = 768,
                       .heads = 12,
                       .kv_heads = 12,
                       .head_dim = 64,
                       .ffn_hidden = 3072,
                       .vocab = 50257,
                       .context = 1024};
  // 12 layers * 12 D^2 plus the head V * D. All whole numbers far below 2^53: exact.
  REQUIRE(matmul_parameters(gpt2) == 12.0 * 12 * 768 * 768 + 50257.0 * 768);
  REQUIRE(flops_per_token(gpt2) == 6 * 123532032.0 + 6.0 * 12 * 1024 * 768);
  // Forward of the layers: two operations an element of their matrices, and attention's two products over half the
  // pairs.
  REQUIRE(recompute_flops_per_token(gpt2) == 2 * 12.0 * 12 * 768 * 768 + 2.0 * 12 * 1024 * 768);
}

TEST_CASE("grouped heads and the gate count as they are shaped", "[train]") {
  const FlopShape llama{.layers = 2,
                        .hidden = 8,
                        .heads = 4,
                        .kv_heads = 2,
                        .head_dim = 3,
                        .ffn_hidden = 10,
                        .vocab = 100,
                        .context = 16,
                        .gated = true};
  // q 12x8, k and v 6x8 each, out 8x12, three 10x8, head 100x8.
  REQUIRE(matmul_parameters(llama) == 2 * (96 + 48 + 48 + 96 + 240) + 800);
  REQUIRE(flops_per_token(llama) == 6 * 1856.0 + 6 * 2 * 16 * 12);
}

TEST_CASE("attention is half of the all-pairs count, as pair by pair counting confirms", "[train]") {
  const int64_t context = 64, width = 8;
  double pairs = 0;  // (query, key) with key <= query
  for (int64_t query = 0; query < context; ++query) pairs += static_cast<double>(query + 1);
  const double counted = 12 * static_cast<double>(width) * pairs / context;  // per token, one layer, forward + backward
  FlopShape shape{.layers = 1,
                  .hidden = 1,
                  .heads = 1,
                  .kv_heads = 1,
                  .head_dim = width,
                  .ffn_hidden = 1,
                  .vocab = 1,
                  .context = context};
  const double attention = flops_per_token(shape) - 6 * matmul_parameters(shape);
  // The mean of 1..T is (T + 1) / 2; the formula says T / 2: off by 1 part in T + 1, exactly.
  REQUIRE(counted == attention * (context + 1) / context);
}

TEST_CASE("MFU is the share of all ranks' peak, unknown without one", "[train]") {
  CHECK(model_flops_utilization(2e9, 100, 1e11, 4) == 0.5);
  CHECK(std::isnan(model_flops_utilization(2e9, 100, 0, 4)));
  CHECK(std::isnan(model_flops_utilization(2e9, 100, std::nan(""), 4)));
}
