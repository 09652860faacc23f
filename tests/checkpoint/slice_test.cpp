#include "core/checkpoint/slice.h"

#include <numeric>
#include <random>

#include "core/base/error.h"
#include "support/catch.h"

using namespace trident;

namespace {

/// Flat indices in `shape` of a slice's elements, row-major.
std::vector<int64_t> flat_indices(const std::vector<int64_t>& shape, const Slice& slice) {
  std::vector<int64_t> out;
  for (int64_t i = 0; i < slice.numel(); ++i) {
    int64_t rest = i, at = 0, stride = 1;
    for (size_t d = shape.size(); d-- > 0;) {
      at += (slice.begin[d] + rest % slice.size[d]) * stride;
      rest /= slice.size[d];
      stride *= shape[d];
    }
    out.push_back(at);
  }
  return out;
}

}  // namespace

TEST_CASE("rectangles follow each other and give the flat range", "[slice]") {
  std::mt19937 random(7);
  const std::vector<std::vector<int64_t>> shapes = {{17},      {5, 7},       {1, 9},         {9, 1},
                                                    {3, 4, 5}, {2, 1, 3, 4}, {2, 3, 2, 2, 3}};
  for (const auto& shape : shapes) {
    const int64_t n = shape_numel(shape);
    for (int trial = 0; trial < 300; ++trial) {
      int64_t begin = static_cast<int64_t>(random() % (n + 1)), end = static_cast<int64_t>(random() % (n + 1));
      if (begin > end) std::swap(begin, end);
      std::vector<int64_t> got;
      const auto boxes = rectangles(shape, begin, end);
      for (const Slice& box : boxes) {
        REQUIRE(inside(box, shape));
        REQUIRE(box.numel() > 0);
        const auto indices = flat_indices(shape, box);
        got.insert(got.end(), indices.begin(), indices.end());
      }
      std::vector<int64_t> expected(static_cast<size_t>(end - begin));
      std::iota(expected.begin(), expected.end(), begin);
      INFO(describe_shape(shape) << " " << begin << " to " << end);
      REQUIRE(got == expected);
      REQUIRE(boxes.size() <= 2 * shape.size() - 1);
    }
  }
  CHECK(rectangles(std::vector<int64_t>{4, 6}, 6, 18) == std::vector<Slice>{{{1, 0}, {2, 6}}});
  CHECK(rectangles(std::vector<int64_t>{4, 6}, 0, 0).empty());
  CHECK_THROWS_AS(rectangles(std::vector<int64_t>{4, 6}, 0, 25), InternalError);
}

TEST_CASE("a slice is inside its shape or not, also with absurd numbers", "[slice]") {
  const std::vector<int64_t> shape = {4, 6};
  CHECK(inside({{0, 0}, {4, 6}}, shape));
  CHECK(inside({{4, 0}, {0, 6}}, shape));
  CHECK_FALSE(inside({{0}, {4}}, shape));
  CHECK_FALSE(inside({{-1, 0}, {1, 1}}, shape));
  CHECK_FALSE(inside({{1, 0}, {INT64_MAX, 1}}, shape));
  CHECK_FALSE(inside({{INT64_MAX, 0}, {INT64_MAX, 1}}, shape));
}

TEST_CASE("intersections and names", "[slice]") {
  CHECK(intersection({{0, 0}, {3, 3}}, {{2, 1}, {4, 1}}) == Slice{{2, 1}, {1, 1}});
  CHECK_FALSE(intersection({{0, 0}, {3, 3}}, {{3, 0}, {1, 3}}).has_value());
  CHECK(Slice{{0, 64}, {128, 64}}.describe() == "[0:128,64:128]");
  CHECK(describe_shape(std::vector<int64_t>{128, 64}) == "[128,64]");
}

TEST_CASE("coverage says what is twice or missing", "[slice]") {
  const Slice box = {{0, 0}, {4, 4}};
  const std::vector<Slice> good = {{{2, 0}, {2, 4}}, {{0, 0}, {2, 1}}, {{0, 1}, {2, 3}}};
  CHECK(coverage_problem(box, good).empty());
  const std::vector<Slice> hole = {good[0], good[1]};
  CHECK(coverage_problem(box, hole) == "6 of the 16 elements of [0:4,0:4] are in no piece");
  const std::vector<Slice> twice = {good[0], good[1], good[2], {{1, 3}, {2, 1}}};
  CHECK(coverage_problem(box, twice).find("[1:2,3:4] are in two pieces") != std::string::npos);
}

TEST_CASE("runs visit every element once, in order, with the longest runs", "[slice]") {
  std::mt19937 random(3);
  const std::vector<int64_t> shape = {4, 5, 6};
  const auto random_box = [&] {
    Slice box = whole(shape);
    for (size_t d = 0; d < shape.size(); ++d) {
      box.begin[d] = static_cast<int64_t>(random() % shape[d]);
      box.size[d] = 1 + static_cast<int64_t>(random() % (shape[d] - box.begin[d]));
    }
    return box;
  };
  int seen = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    const Slice from = random_box(), to = random_box();
    const auto part = intersection(from, to);
    if (!part) continue;
    ++seen;
    const auto in_from = flat_indices(shape, from), in_to = flat_indices(shape, to);
    std::vector<int64_t> got;
    Runs runs(*part, from, to);
    while (const auto run = runs.next()) {
      for (int64_t i = 0; i < run->count; ++i) {
        REQUIRE(in_from.at(static_cast<size_t>(run->from + i)) == in_to.at(static_cast<size_t>(run->to + i)));
        got.push_back(in_from[static_cast<size_t>(run->from + i)]);
      }
    }
    REQUIRE(got == flat_indices(shape, *part));
  }
  CHECK(seen > 100);
  Runs all(whole(shape), whole(shape), whole(shape));
  CHECK(all.next()->count == 120);
  CHECK_FALSE(all.next().has_value());
}
