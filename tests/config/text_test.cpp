#include "core/config/text.h"

#include <cstring>
#include <random>

#include "support/catch.h"

namespace trident {

TEST_CASE("numbers are written short and read back to the same bits") {
  CHECK(format_number(6e-4) == "6e-4");
  CHECK(format_number(0.1) == "0.1");
  CHECK(format_number(1e6) == "1e6");
  CHECK(format_number(10000) == "10000");
  CHECK(format_number(0) == "0");
  CHECK(format_number(-2.5e-300) == "-2.5e-300");
  std::mt19937_64 random(7);
  for (int i = 0; i < 20000; ++i) {
    const uint64_t bits = random();
    double x = 0;
    std::memcpy(&x, &bits, sizeof x);
    if (!std::isfinite(x)) continue;
    const std::string text = format_number(x);
    INFO(text);
    REQUIRE(parse_number(text).has_value());
    REQUIRE(*parse_number(text) == x);
  }
}

TEST_CASE("only whole texts are numbers") {
  CHECK(parse_integer("-12") == -12);
  CHECK(parse_integer("9223372036854775807") == INT64_MAX);
  for (const char* bad : {"", "1.0", "1e3", " 1", "1 ", "0x10", "9223372036854775808", "+1", "one"}) {
    INFO(bad);
    CHECK_FALSE(parse_integer(bad).has_value());
  }
  CHECK(parse_number("+.5") == 0.5);
  CHECK(parse_number("6e-4") == 6e-4);
  for (const char* bad : {"", "inf", "nan", ".inf", "1e999", "1,5", "+-1", "+", "0x1p3", "1 "}) {
    INFO(bad);
    CHECK_FALSE(parse_number(bad).has_value());
  }
}

TEST_CASE("the edit distance counts insertions, deletions, replacements and swaps") {
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("tensor", "tensor") == 0);
  CHECK(edit_distance("tensr", "tensor") == 1);
  CHECK(edit_distance("tensoor", "tensor") == 1);
  CHECK(edit_distance("tansor", "tensor") == 1);
  CHECK(edit_distance("tesnor", "tensor") == 1);
  CHECK(edit_distance("kitten", "sitting") == 3);
}

TEST_CASE("the nearest name is offered only when it is near") {
  const std::vector<std::string> names = {"layers", "hidden", "heads", "kv_heads"};
  CHECK(nearest_name("head", names) == "heads");
  CHECK(nearest_name("layres", names) == "layers");
  CHECK(nearest_name("hiden", names) == "hidden");
  CHECK_FALSE(nearest_name("optimizer", names).has_value());
  CHECK_FALSE(nearest_name("", names).has_value());
  CHECK_FALSE(nearest_name(std::string(100000, 'h'), names).has_value());
}

TEST_CASE("what is shown holds no control characters and is short") {
  CHECK(trident::quoted("a\nb\x1b[0m") == "'a\\x0ab\\x1b[0m'");
  CHECK(trident::quoted(std::string(100, 'x')) == "'" + std::string(60, 'x') + "...'");
  CHECK(printable(std::string("a\0b", 3)) == "a\\x00b");
}

}  // namespace trident
