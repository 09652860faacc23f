#include "core/data/mapped_file.h"

#include <utility>

#include "core/base/error.h"
#include "data/fixtures.h"

using namespace trident;
using namespace trident::test;

TEST_CASE("a mapped file shows its bytes and survives a move") {
  const TempDir dir;
  write_file(dir.file("x"), "hello");
  MappedFile first(dir.file("x"));
  const MappedFile second(std::move(first));
  REQUIRE(second.size() == 5);
  CHECK(static_cast<char>(second.bytes()[4]) == 'o');
  CHECK(first.size() == 0);
}

TEST_CASE("an empty file maps to nothing") {
  const TempDir dir;
  write_file(dir.file("x"), "");
  CHECK(MappedFile(dir.file("x")).bytes().empty());
}

TEST_CASE("what cannot be mapped is named") {
  const TempDir dir;
  CHECK(has_all(message_of<UserError>([&] { MappedFile(dir.file("none")); }), {dir.file("none"), "No such file"}));
  CHECK(has_all(message_of<UserError>([&] { MappedFile(dir.file("")); }), {dir.file(""), "not a regular file"}));
}
