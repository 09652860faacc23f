#include "core/config/field_text.h"

#include "core/config/enums.h"
#include "support/catch.h"

namespace trident {

TEST_CASE("texts that YAML could take for something else stand in quotes") {
  CHECK(yaml_string("runs/gpt2-124m_x.y") == "runs/gpt2-124m_x.y");
  CHECK(yaml_string("/data/kjv") == "/data/kjv");
  CHECK(yaml_string("") == "\"\"");
  CHECK(yaml_string("null") == "\"null\"");
  CHECK(yaml_string("True") == "\"True\"");
  CHECK(yaml_string("1e3") == "\"1e3\"");
  CHECK(yaml_string("-") == "\"-\"");
  CHECK(yaml_string("a b") == "\"a b\"");
  CHECK(yaml_string("a\"b\\c") == "\"a\\\"b\\\\c\"");
}

TEST_CASE("ranges read as sentences") {
  CHECK(range_text(at_least(1)) == "at least 1");
  CHECK(range_text(above(0)) == "above 0");
  CHECK(range_text(between(1, 5)) == "from 1 to 5");
  CHECK(range_text(from_up_to(0, 1)) == "from 0 up to but not 1");
  CHECK(range_text(FieldRange{.max = 3}) == "up to 3");
  CHECK(range_text(FieldRange{}) == "");
}

TEST_CASE("amounts of memory have units") {
  const auto bytes_of = [](const char* text) { return parse_byte_size(text).value_or(ByteSize{-1}).bytes; };
  CHECK(bytes_of("512MiB") == 512 << 20);
  CHECK(bytes_of("1.5 GiB") == 3 << 29);
  CHECK(bytes_of("80GB") == 80'000'000'000);
  CHECK(bytes_of("4096") == 4096);
  CHECK(bytes_of("7B") == 7);
  CHECK(bytes_of("none") == 0);
  for (const char* bad : {"", "MiB", "-1MiB", "1 parsec", "1MiBs", "9e30GB", "inf", "nan"}) CHECK(bytes_of(bad) == -1);
  CHECK(byte_size_text({512 << 20}) == "512MiB");
  CHECK(byte_size_text({3 << 29}) == "1536MiB");
  CHECK(byte_size_text({1000}) == "1000");
  CHECK(byte_size_text({}) == "none");
}

TEST_CASE("types and values have words") {
  CHECK(type_text<int64_t>() == "a whole number");
  CHECK(type_text<bool>() == "true or false");
  CHECK(type_text<Precision>() == "one of fp32, bf16, fp16");
  CHECK(type_text<std::array<double, 2>>() == "a list of 2 numbers");
  CHECK(value_text(int64_t{0}, FieldInfo{.zero_is_auto = true}) == "auto");
  CHECK(value_text(int64_t{0}, FieldInfo{}) == "0");
  CHECK(value_text(Schedule::one_f_one_b, FieldInfo{}) == "1f1b");
}

}  // namespace trident
