#include "core/base/error.h"

#include <string>

#include "support/catch.h"

using namespace trident;

TEST_CASE("build_string concatenates whatever can be printed") {
  CHECK(build_string("heads ", 12, " over ", 5.5, ' ', std::string("ranks")) == "heads 12 over 5.5 ranks");
}

TEST_CASE("ensure passes silently and fails with the place and the invariant") {
  CHECK_NOTHROW(ensure(true, "never shown"));
  std::string text;
  try {
    ensure(1 > 2, "one is more than two");
  } catch (const InternalError& error) {
    text = error.what();
  }
  CHECK(text.find("error_test.cpp:") != std::string::npos);
  CHECK(text.find("broken invariant: one is more than two") != std::string::npos);
}

TEST_CASE("the kinds of error are told apart by type") {
  CHECK_THROWS_AS(throw UserError("x"), std::runtime_error);
  CHECK_THROWS_AS(throw RunError("x"), std::runtime_error);
  CHECK_THROWS_AS(throw InternalError("x"), std::logic_error);
  bool user = false;
  try {
    throw RunError("disk full");
  } catch (const UserError&) {
    user = true;
  } catch (const RunError& error) {
    CHECK(std::string(error.what()) == "disk full");
  }
  CHECK_FALSE(user);
}
