#include "core/train/layout.h"

#include "core/base/error.h"
#include "support/catch.h"

using namespace trident;

namespace {

std::vector<ParamSpec> some_specs() {
  return {{.name = "q", .shape = {3, 5}, .split = Split::none},
          {.name = "k", .shape = {2, 5}, .split = Split::none, .fused = true},
          {.name = "bias", .shape = {7}},
          {.name = "tied", .shape = {11, 5}, .tied_copy = true}};
}

}  // namespace

TEST_CASE("parameters start at multiples of 32 elements, fused ones directly behind one another") {
  const BlockLayout layout = make_block_layout(4, some_specs(), 1, 1, false);
  REQUIRE(layout.params.size() == 4);
  CHECK(layout.params[0].offset == 0);
  CHECK(layout.params[1].offset == 15);
  CHECK(layout.params[2].offset == 32);
  CHECK(layout.params[3].offset == 64);
  CHECK(layout.numel == 128);
}

TEST_CASE("the buffer falls into equal shards for any number of data ranks") {
  for (const int data : {1, 2, 3, 5, 7, 64}) {
    const BlockLayout layout = make_block_layout(0, some_specs(), 1, data, false);
    INFO("data ranks " << data);
    CHECK(layout.numel % data == 0);
    CHECK(layout.shard() % 32 == 0);
    CHECK(layout.numel >= layout.params.back().end());
    CHECK(layout.numel - layout.params.back().end() < 32 * data);
  }
}

TEST_CASE("a tied copy takes no memory where its owner is") {
  const BlockLayout alone = make_block_layout(9, some_specs(), 1, 1, false);
  const BlockLayout beside = make_block_layout(9, some_specs(), 1, 1, true);
  CHECK_FALSE(alone.params[3].alias);
  CHECK(beside.params[3].alias);
  CHECK(beside.numel == 64);

  std::vector<float> value(64), grad(64), table(55), dtable(55);
  const BlockParams owner{{Tensor(table.data(), DType::f32, {11, 5})}, {Tensor(dtable.data(), DType::f32, {11, 5})}};
  const BlockParams bound =
      bind_block(beside, Tensor(value.data(), DType::f32, {64}), Tensor(grad.data(), DType::f32, {64}), &owner);
  CHECK(bound.value[3].data == table.data());
  CHECK(bound.grad[3].data == dtable.data());
  CHECK(bound.value[1].data == value.data() + 15);
  CHECK(bound.grad[2].data == grad.data() + 32);
  CHECK_THROWS_AS(bind_block(beside, Tensor(value.data(), DType::f32, {64}), Tensor{}, nullptr), InternalError);
}

TEST_CASE("chunks are consecutive, even to one layer, and hold every block once") {
  for (int64_t layers = 1; layers <= 13; ++layers) {
    for (int chunks = 1; chunks <= layers; ++chunks) {
      const std::vector<BlockRange> ranges = partition_blocks(layers, chunks, 0);
      INFO(layers << " layers in " << chunks << " chunks");
      REQUIRE(ranges.size() == static_cast<size_t>(chunks));
      CHECK(ranges.front().begin == 0);
      CHECK(ranges.back().end == layers + 2);
      for (size_t i = 0; i < ranges.size(); ++i) {
        if (i > 0) CHECK(ranges[i].begin == ranges[i - 1].end);
        const bool first = i == 0, last = i + 1 == ranges.size();
        const int64_t count = ranges[i].end - ranges[i].begin - (first ? 1 : 0) - (last ? 1 : 0);
        CHECK(count >= layers / chunks);
        CHECK(count <= (layers + chunks - 1) / chunks);
      }
    }
  }
}

TEST_CASE("the chunk with the head takes fewer layers, so that no other cut makes the costliest chunk cheaper") {
  const auto layers_of = [](const std::vector<BlockRange>& ranges, size_t i) {
    return ranges[i].end - ranges[i].begin - (i == 0 ? 1 : 0) - (i + 1 == ranges.size() ? 1 : 0);
  };
  for (const double head : {0.4, 1.0, 4.9, 40.0}) {
    for (const auto& [layers, chunks] : {std::pair<int64_t, int>{12, 2}, {12, 3}, {13, 4}, {4, 4}, {5, 1}}) {
      INFO(layers << " layers in " << chunks << " chunks, the head costs " << head << " layers");
      const std::vector<BlockRange> ranges = partition_blocks(layers, chunks, head);
      const size_t last = ranges.size() - 1;
      double costliest = static_cast<double>(layers_of(ranges, last)) + head;
      int64_t total = layers_of(ranges, last);
      for (size_t i = 0; i < last; ++i) {
        CHECK(layers_of(ranges, i) >= 1);
        CHECK(layers_of(ranges, 0) - layers_of(ranges, i) <= 1);
        total += layers_of(ranges, i);
        costliest = std::max(costliest, static_cast<double>(layers_of(ranges, i)));
      }
      CHECK(total == layers);
      for (int64_t other = 1; chunks > 1 && other <= layers - (chunks - 1); ++other) {
        const auto most = static_cast<double>((layers - other + chunks - 2) / (chunks - 1));
        CHECK(costliest <= std::max(most, static_cast<double>(other) + head));
      }
    }
  }
  CHECK(layers_of(partition_blocks(12, 2, 4.9), 0) == 8);
}

TEST_CASE("fewer layers than chunks are refused with the largest number that works") {
  CHECK_THROWS_AS(partition_blocks(3, 4, 0), UserError);
  try {
    partition_blocks(3, 4, 0);
  } catch (const UserError& e) {
    CHECK(std::string(e.what()).find("use at most 3") != std::string::npos);
  }
}
