// The shipped experiments load, on the ranks they are written for.
#include <filesystem>

#include "config/helpers.h"
#include "core/config/dump.h"
#include "support/catch.h"

namespace trident {
namespace {

Config shipped(const std::string& name, int ranks) {
  return load_config(std::string(TRIDENT_SOURCE_DIR) + "/configs/" + name + ".yaml", {}, ranks);
}

}  // namespace

TEST_CASE("every shipped config is legal, and so is its dump") {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(TRIDENT_SOURCE_DIR) + "/configs")) {
    if (entry.path().extension() != ".yaml") continue;
    INFO(entry.path().string());
    const Config c = load_config(entry.path().string(), {}, 0);
    CHECK(load_text(dump_config(c)) == c);
    ++count;
  }
  CHECK(count >= 7);
}

TEST_CASE("the shipped configs are what their comments say") {
  const Config quickstart = shipped("quickstart", 8);
  CHECK(quickstart.parallel.data == 2);
  CHECK(quickstart.micro_batches() >= 2);
  CHECK(quickstart.zero.stage == 1);
  CHECK(shipped("gpt2_124m", 1).train.precision == Precision::bf16);
  CHECK(shipped("llama_125m", 1).model.ffn_hidden == 2048);
  CHECK(shipped("gpt2_32ranks", 32).micro_batches() == 16);
  const Config trillion = shipped("trillion", 800);
  CHECK(trillion.model.layers == 298);
  CHECK(trillion.model.hidden == 17408);
  CHECK(trillion.model.head_dim == 136);
  // Twelve h^2 a layer: 1.08e12 parameters.
  const double parameters = 12.0 * 298 * 17408.0 * 17408.0;
  CHECK(parameters > 1e12);
  CHECK(shipped("tiny_llama", 1).model.kv_heads == 2);
  CHECK(shipped("tiny_gpt2", 4).parallel.data == 4);
}

}  // namespace trident
