// The dump reads back as an equal config, whatever the config.
#include "core/config/dump.h"

#include <random>

#include "config/helpers.h"
#include "core/config/field_text.h"
#include "support/catch.h"

namespace trident {
namespace {

/// Gives every field a random legal value of its own; combinations are not legal, so the text is only parsed.
class Randomizer {
 public:
  explicit Randomizer(uint64_t seed) : random_(seed) {}

  template <class T>
  void operator()(T& value, const FieldInfo& info) {
    if constexpr (std::same_as<T, bool>) {
      value = below(2) == 1;
    } else if constexpr (WholeNumber<T>) {
      const auto min = static_cast<int64_t>(info.range.min), max = static_cast<int64_t>(info.range.max);
      const auto span = static_cast<uint64_t>(max - min);
      value = static_cast<T>(info.zero_is_auto && below(4) == 0 ? 0 : min + static_cast<int64_t>(below(span + 1)));
    } else if constexpr (std::same_as<T, double>) {
      value = number(info);
    } else if constexpr (std::same_as<T, std::string>) {
      value = text();
    } else if constexpr (std::same_as<T, ByteSize>) {
      value.bytes = static_cast<int64_t>(below(3) == 0 ? below(1000) << 20 : below(uint64_t{1} << 53));
    } else if constexpr (NamedEnum<T>) {
      value = static_cast<T>(below(enum_names<T>().size()));
    } else if constexpr (kArraySize<T> > 0) {
      for (double& x : value) x = number(info);
    } else if constexpr (Section<T>) {
      T::fields(value, *this);
    } else {
      value.resize(below(4));
      for (auto& element : value) T::value_type::fields(element, *this);
    }
  }

 private:
  uint64_t below(uint64_t n) { return random_() % n; }

  double number(const FieldInfo& info) {
    const double min = std::isfinite(info.range.min) ? info.range.min : -1e6;
    const double max = std::isfinite(info.range.max) ? info.range.max : 1e6;
    const double u = static_cast<double>(random_() >> 11) * 0x1p-53;
    const double x = below(3) == 0 ? min + (max - min) * u * u * u * u * 1e-9 : min + (max - min) * u;
    return info.range.contains(x) ? x : min + (max - min) / 2;
  }

  std::string text() {
    static const std::vector<std::string> kPieces = {
        "a", "Z", "0", " ", "'",  "\"",       "\\",           "#",    ": ",   "- ", "{",   "]",
        "&", "*", "!", "%", "@",  "`",        "\xe2\x82\xac", "null", "true", "~",  "1e3", ",",
        "|", ">", "=", "/", "..", "\xc2\x85", "\xe2\x80\xa8"};
    std::string out;
    for (uint64_t i = below(8); i > 0; --i) out += kPieces[below(kPieces.size())];
    return out;
  }

  std::mt19937_64 random_;
};

}  // namespace

TEST_CASE("the dump of a loaded config loads as an equal config") {
  const Config c = load_text(kLegal, 8, {"name=\"x y\"", "model.arch=llama", "optimizer.schedule=constant"});
  CHECK(load_text(dump_config(c), 8) == c);
  CHECK(dump_config(load_text(dump_config(c), 8)) == dump_config(c));
}

TEST_CASE("any legal value of any field survives the dump") {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    Config c;
    Randomizer randomizer(seed);
    Config::fields(c, randomizer);
    const std::string text = dump_config(c);
    const LoadedConfig loaded = parse_config(text, "dump");
    INFO(text);
    INFO((loaded.diagnostics.empty() ? "" : loaded.diagnostics[0].place + " " + loaded.diagnostics[0].message));
    REQUIRE(loaded.diagnostics.empty());
    REQUIRE(loaded.config == c);
  }
}

TEST_CASE("the dump has every key in the order of declaration") {
  Config c;
  c.data.train = {{"a", 1}, {"b c", 0.25}};
  const std::string text = dump_config(c);
  CHECK(text.find("name: run\ndevice: cpu\nmodel:\n  arch: gpt2\n  layers: 12\n") == 0);
  CHECK(text.find("  kv_heads: auto\n") != std::string::npos);
  CHECK(text.find("  attention:\n    kind: dense\n") != std::string::npos);
  CHECK(text.find("  betas: [0.9, 0.95]\n") != std::string::npos);
  CHECK(text.find("  train:\n    - path: a\n      weight: 1\n    - path: \"b c\"\n      weight: 0.25\n  valid: []\n") !=
        std::string::npos);
}

}  // namespace trident
