#include "core/checkpoint/json_text.h"

#include "checkpoint/support.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::test;

TEST_CASE("JSON is strict and bounded", "[json_text]") {
  CHECK(parse_json("{\"a\": [1, 2]}", "f")["a"][1] == 2);
  CHECK(contains(message_of<UserError>([] { parse_json("{\"a\": 1,}", "file.json"); }), "file.json is not valid JSON"));
  CHECK(contains(message_of<UserError>([] { parse_json("// c\n{}", "f"); }), "not valid JSON"));
  CHECK(contains(message_of<UserError>([] { parse_json("{\"a\": \"\xff\"}", "f"); }), "not valid JSON"));
  CHECK(contains(message_of<UserError>([] { parse_json("1e999", "f"); }), "not valid JSON"));
  CHECK(contains(message_of<UserError>([] { parse_json("{\"a\":{\"b\":1,\"c\":{\"b\":2},\"b\":3}}", "f"); }),
                 "two members named \"b\""));
  CHECK(contains(message_of<UserError>([] { parse_json(std::string(1'000'000, '['), "f", 8); }), "deeper than 8"));
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  CHECK(contains(message_of<UserError>([&] { parse_json(objects, "f", 8); }), "deeper than 8"));
}

TEST_CASE("members are typed and their place is named", "[json_text]") {
  const auto object =
      parse_json(R"({"s": "x", "n": 7, "l": [1, 2], "neg": -1, "f": 1.5, "huge": 18446744073709551615})", "f");
  CHECK(json_string(object, "s", "f") == "x");
  CHECK(json_count(object, "n", 7, "f") == 7);
  CHECK(json_counts(object, "l", 2, 2, "f") == std::vector<int64_t>{1, 2});
  CHECK(message_of<UserError>([&] { json_count(object, "n", 6, "f: o"); }) ==
        "f: o.n is 7, not an integer from 0 to 6");
  CHECK(contains(message_of<UserError>([&] { json_count(object, "neg", 6, "f"); }), "is -1, not an integer"));
  CHECK(contains(message_of<UserError>([&] { json_count(object, "f", 6, "f"); }), "is 1.5, not an integer"));
  CHECK_THROWS_AS(json_count(object, "huge", INT64_MAX, "f"), UserError);
  CHECK(message_of<UserError>([&] { json_string(object, "n", "f: o"); }) == "f: o.n is not a string");
  CHECK(message_of<UserError>([&] { json_string(object, "q", "f: o"); }) == "f: o has no member \"q\"");
  CHECK_THROWS_AS(json_counts(object, "l", 1, 2, "f"), UserError);
  CHECK_THROWS_AS(json_counts(object, "l", 2, 1, "f"), UserError);
  CHECK_THROWS_AS(json_counts(object, "s", 2, 2, "f"), UserError);
  CHECK_THROWS_AS(json_string(parse_json("[]", "f"), "s", "f"), UserError);
}
