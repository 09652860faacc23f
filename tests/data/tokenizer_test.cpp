#include "core/data/tokenizer.h"

#include "core/base/error.h"
#include "data/fixtures.h"

using namespace trident;
using namespace trident::test;

TEST_CASE("byte: every byte string comes back as it was") {
  const auto tokenizer = make_tokenizer("byte");
  CHECK(tokenizer->name() == "byte");
  CHECK(tokenizer->vocab_size() == 257);
  CHECK(tokenizer->end_of_document() == 256);
  std::string all;
  for (int i = 0; i < 256; ++i) all.push_back(static_cast<char>(i));
  std::vector<int32_t> ids = {7};
  tokenizer->encode(all, ids);
  REQUIRE(ids.size() == 257);
  CHECK(ids[0] == 7);  // appended, not replaced
  for (int i = 0; i < 256; ++i) CHECK(ids[static_cast<size_t>(i) + 1] == i);
  CHECK(tokenizer->decode(std::span(ids).subspan(1)) == all);
}

TEST_CASE("byte: end of document is no text, ids beyond are replacement characters") {
  const auto tokenizer = make_tokenizer("byte");
  CHECK(tokenizer->decode(std::vector<int32_t>{'a', 256, 'b', 300, -1}) == "ab\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST_CASE("none: decimal ids between blanks") {
  const auto tokenizer = make_tokenizer("none");
  CHECK(tokenizer->name() == "none");
  CHECK(tokenizer->vocab_size() == 0);
  CHECK(tokenizer->end_of_document() == -1);
  std::vector<int32_t> ids;
  tokenizer->encode(" 1 22\t333\r\n2147483647", ids);
  CHECK(ids == std::vector<int32_t>{1, 22, 333, 2147483647});
  CHECK(tokenizer->decode(ids) == "1 22 333 2147483647");
  tokenizer->encode(" \n", ids);
  CHECK(ids.size() == 4);
}

TEST_CASE("none: what is not an id is named") {
  const auto tokenizer = make_tokenizer("none");
  std::vector<int32_t> ids;
  for (const char* bad : {"word", "-1", "1.5", "2147483648", "12x"}) {
    CHECK(has_all(message_of<UserError>([&] { tokenizer->encode(build_string("5 ", bad, " 6"), ids); }),
                  {build_string("\"", bad, "\""), "not a token id"}));
  }
}

TEST_CASE("unknown kinds are refused") {
  CHECK(has_all(message_of<UserError>([] { make_tokenizer("bpe"); }), {"\"bpe\"", "byte", "none"}));
}
