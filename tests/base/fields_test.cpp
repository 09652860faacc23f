#include "core/base/fields.h"

#include <string>

#include "support/catch.h"

namespace trident {

enum class Fruit : uint8_t { apple, pear };
template <>
struct EnumNames<Fruit> {
  static constexpr std::string_view value[] = {"apple", "pear"};
};

namespace {

struct Basket {
  int64_t count = 3;
  Fruit fruit = Fruit::pear;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit(self.count, {.name = "count", .range = at_least(0), .effect = "How many."});
    visit(self.fruit, {.name = "fruit", .effect = "Which."});
  }
};

struct NameCollector {
  std::string names;
  template <class T>
  void operator()(T&, const FieldInfo& info) {
    names += std::string(info.name) + (std::is_const_v<T> ? "(const) " : " ");
  }
};

}  // namespace

TEST_CASE("fields are visited in the order of declaration, as const as the struct") {
  Basket basket;
  NameCollector collector;
  Basket::fields(basket, collector);
  CHECK(collector.names == "count fruit ");
  const Basket fixed;
  NameCollector of_const;
  Basket::fields(fixed, of_const);
  CHECK(of_const.names == "count(const) fruit(const) ");
}

TEST_CASE("a range includes its ends unless they are open") {
  CHECK(at_least(1).contains(1));
  CHECK_FALSE(at_least(1).contains(0.999));
  CHECK_FALSE(above(0).contains(0));
  CHECK(above(0).contains(1e-300));
  CHECK(between(-1, 2).contains(-1));
  CHECK(between(-1, 2).contains(2));
  CHECK_FALSE(between(-1, 2).contains(2.0000001));
  CHECK(from_up_to(0, 1).contains(0));
  CHECK_FALSE(from_up_to(0, 1).contains(1));
  CHECK(FieldRange{}.contains(-1e308));
}

TEST_CASE("an enum has names both ways") {
  CHECK(enum_name(Fruit::apple) == "apple");
  CHECK(enum_from_name<Fruit>("pear") == Fruit::pear);
  CHECK_FALSE(enum_from_name<Fruit>("Pear").has_value());
  CHECK_FALSE(enum_from_name<Fruit>("").has_value());
}

TEST_CASE("sections and lists of sections are told from values") {
  STATIC_REQUIRE(Section<Basket>);
  STATIC_REQUIRE(SectionList<std::vector<Basket>>);
  STATIC_REQUIRE_FALSE(Section<std::string>);
  STATIC_REQUIRE_FALSE(SectionList<std::vector<int>>);
  STATIC_REQUIRE_FALSE(SectionList<std::string>);
}

}  // namespace trident
