// The runner itself: what it must notice, each shown by a case that misbehaves on purpose; and the case list on the
// reference table, in the operands' own dtypes, which proves that every bound leaves room for rounding to storage.
#include "compare.h"

#include <set>

#include "core/base/error.h"
#include "kernels/reference/reference_ops.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::cases;

namespace {

/// y = 2 x of eight f32, through `act`, which may misbehave; the bound allows one rounding.
Case doubling(std::function<void(Tensor y, Tensor x)> act) {
  Case c;
  c.name = "doubling";
  c.operands = [] {
    return std::vector<Operand>{{"x", Use::in, DType::f32, {8}, {1, 2, 3, 4, 5, 6, 7, 8}},
                                {"y", Use::out, DType::f32, {8}, {}}};
  };
  c.run = [act](const Ops& ops, Arguments& t) {
    ops.scale(t.stream(), t["y"], t["x"], 2);
    // The oracle's tensors are f64: only the table under test misbehaves.
    if (t["y"].dtype == DType::f32) act(t["y"], t["x"]);
  };
  c.bounds = [](const Oracle&) { return Bounds{{"y", Values(8, kEps)}}; };
  return c;
}

std::vector<std::string> compare_doubling(std::function<void(Tensor y, Tensor x)> act) {
  const std::unique_ptr<Room> room = make_host_room();
  return compare(*make_reference_ops(), doubling(std::move(act)), *room);
}

bool mentions(const std::vector<std::string>& lines, const std::string& text) {
  for (const std::string& line : lines) {
    if (line.find(text) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("compare accepts a correct table") {
  CHECK(compare_doubling([](Tensor, Tensor) {}).empty());
}

TEST_CASE("compare names the worst element beyond its tolerance") {
  const auto lines = compare_doubling([](Tensor y, Tensor) {
    y.as<float>()[2] += 0.001f;
    y.as<float>()[5] += 0.5f;
  });
  REQUIRE(lines.size() == 4);  // the aligned run, its repetition, the two unaligned ones
  CHECK(lines[0].find("y[5] of 8: got 12.5, want 12, error 0.5, tolerance ") != std::string::npos);
}

TEST_CASE("compare finds elements never written and NaN") {
  const auto lines = compare_doubling([](Tensor y, Tensor) { y.as<float>()[7] = std::nanf(""); });
  CHECK(mentions(lines, "y[7] of 8: got nan"));
}

TEST_CASE("compare finds a write in either red zone") {
  CHECK(
      mentions(compare_doubling([](Tensor y, Tensor) { y.as<float>()[8] = 0; }), "written outside y at byte 32 of 32"));
  CHECK(mentions(compare_doubling([](Tensor y, Tensor) { y.as<float>()[-1] = 0; }),
                 "written outside y at byte -4 of 32"));
  CHECK(
      mentions(compare_doubling([](Tensor, Tensor x) { x.as<float>()[8] = 0; }), "written outside x at byte 32 of 32"));
}

TEST_CASE("compare finds a changed input") {
  CHECK(mentions(compare_doubling([](Tensor, Tensor x) { x.as<float>()[3] = 9; }), "input x was changed"));
}

TEST_CASE("compare finds a result that differs between equal runs") {
  float drift = 0;
  const auto lines = compare_doubling([&drift](Tensor y, Tensor) { y.as<float>()[0] += (drift += 0x1p-23f); });
  CHECK(mentions(lines, "y differs between two equal runs"));
}

TEST_CASE("compare guards scratch too") {
  Case c = doubling([](Tensor, Tensor) {});
  const auto run = c.run;
  c.run = [run](const Ops& ops, Arguments& t) {
    run(ops, t);
    const Tensor scratch = t.scratch(100);
    scratch.as<uint8_t>()[99] = 1;
    if (t["y"].dtype == DType::f32) scratch.as<uint8_t>()[100] = 1;
  };
  const std::unique_ptr<Room> room = make_host_room();
  CHECK(mentions(compare(*make_reference_ops(), c, *room), "written outside scratch 2 at byte 100 of 100"));
}

TEST_CASE("a case that asks for an operand it does not have is our mistake") {
  Case c = doubling([](Tensor, Tensor) {});
  c.run = [](const Ops&, Arguments& t) { t["z"]; };
  const std::unique_ptr<Room> room = make_host_room();
  CHECK_THROWS_AS(compare(*make_reference_ops(), c, *room), InternalError);
}

TEST_CASE("the names of the case list are unique") {
  std::set<std::string> names;
  for (const Case& c : all_cases()) CHECK(names.insert(c.name).second);
}

TEST_CASE("the reference table in storage dtypes passes the whole case list") {
  const std::unique_ptr<Ops> reference = make_reference_ops();
  const std::unique_ptr<Room> room = make_host_room();
  for (const Case& c : all_cases()) {
    const std::string wrong = join_lines(compare(*reference, c, *room));
    INFO(wrong);
    CHECK(wrong.empty());
  }
}
