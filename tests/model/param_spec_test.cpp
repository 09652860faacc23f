#include "core/model/param_spec.h"

#include "core/model/module.h"
#include "support/catch.h"

using namespace trident;

TEST_CASE("a vocabulary that does not divide is padded on the last rank only") {
  const ParamSpec table{.name = "t", .shape = {50257, 8}, .split = Split::rows};
  CHECK(local_shape(table, 4) == std::vector<int64_t>{12565, 8});
  int64_t rows = 0;
  for (int rank = 0; rank < 4; ++rank) {
    const LocalSlice slice = local_slice(table, 4, rank);
    CHECK(slice.begin[0] == rows);
    rows += slice.size[0];
  }
  CHECK(rows == 50257);
  CHECK(local_slice(table, 4, 3).size[0] == 12562);
}

TEST_CASE("a rank may hold nothing but padding") {
  const ParamSpec table{.name = "t", .shape = {5, 2}, .split = Split::rows};
  CHECK(local_shape(table, 4) == std::vector<int64_t>{2, 2});
  CHECK(local_slice(table, 4, 2).size[0] == 1);
  CHECK(local_slice(table, 4, 3).size[0] == 0);
}

TEST_CASE("row-parallel weights split the second dimension, copies split nothing") {
  const ParamSpec cols{.name = "c", .shape = {6, 8}, .split = Split::cols}, copy{.name = "n", .shape = {6}};
  CHECK(local_shape(cols, 2) == std::vector<int64_t>{6, 4});
  CHECK(local_slice(cols, 2, 1).begin == std::vector<int64_t>{0, 4});
  CHECK(local_shape(copy, 2) == std::vector<int64_t>{6});
}

TEST_CASE("the model has the published number of parameters") {
  // GPT-2 small: 124,439,808 parameters with tied embeddings (Radford et al. 2019, as counted by every implementation).
  const ModelShape gpt2{.layers = 12,
                        .hidden = 768,
                        .heads = 12,
                        .kv_heads = 12,
                        .head_size = 64,
                        .ffn = 3072,
                        .vocab = 50257,
                        .context = 1024,
                        .max_positions = 1024};
  int64_t total = 0;
  for (const auto& block : make_model(gpt2)) {
    for (const ParamSpec& spec : block->params()) {
      int64_t n = spec.tied_copy ? 0 : 1;
      for (const int64_t extent : spec.shape) n *= extent;
      total += n;
    }
  }
  CHECK(total == 124439808);
}
