// What must hold of every declaration.
#include "core/config/catalog.h"

#include <cmath>
#include <set>

#include "core/config/field_text.h"
#include "core/config/load.h"
#include "support/catch.h"

namespace trident {

TEST_CASE("every key is declared once, explained, and bounded when it counts") {
  const std::vector<CatalogEntry> catalog = config_catalog();
  CHECK(catalog.size() > 70);
  std::set<std::string> keys;
  for (const CatalogEntry& e : catalog) {
    INFO(e.key);
    CHECK(keys.insert(e.key).second);
    CHECK(e.info.effect.size() >= 8);
    CHECK(e.info.effect.back() == '.');
    CHECK((e.section || !e.default_text.empty()));
    // Sizes are multiplied with one another: without a bound they overflow.
    if (e.whole) CHECK((std::isfinite(e.info.range.min) && std::isfinite(e.info.range.max)));
    // 0 can't be both a value and "derive it".
    if (e.info.zero_is_auto) CHECK_FALSE(e.info.range.contains(0));
    if (e.info.zero_is_auto) CHECK_FALSE(e.info.derived.empty());
  }
}

TEST_CASE("every default is legal by its own range") {
  // parse_config checks ranges of what is set, so set every key to its default.
  for (const CatalogEntry& e : config_catalog()) {
    if (e.section || !e.info.derived.empty() || e.key.find("data.train.") == 0 || e.key.find("data.valid.") == 0)
      continue;
    const std::vector<std::string> overrides = {e.key + "=" + e.default_text};
    const LoadedConfig loaded = parse_config("", "", overrides);
    INFO(overrides[0]);
    CHECK(loaded.diagnostics.empty());
    CHECK(loaded.config == Config{});
  }
}

TEST_CASE("the keys of the contract are there") {
  const std::vector<std::string> keys = config_keys();
  const std::set<std::string> have(keys.begin(), keys.end());
  for (const char* key :
       {"name", "device", "model.arch", "model.kv_heads", "model.attention.kind", "parallel.data", "parallel.sequence",
        "zero.offload", "train.max_bad_steps", "optimizer.betas", "data.tokenizer.kind", "data.train.weight",
        "checkpoint.async", "comm.timeout", "comm.shared_memory", "log.every", "out"}) {
    INFO(key);
    CHECK(have.count(key) == 1);
  }
}

}  // namespace trident
