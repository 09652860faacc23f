#include "core/device/arena.h"

#include "support/catch.h"

using namespace trident;

TEST_CASE("a dry arena counts what a real one of its peak then holds") {
  const auto run = [](Arena& arena) {
    const Tensor kept = arena.alloc(DType::f32, {3, 5});
    {
      const ScratchScope scope(arena);
      arena.alloc(DType::bf16, {100});
      arena.alloc(DType::u8, {1});
    }
    arena.alloc(DType::f64, {2});
    return kept;
  };
  Arena dry;
  CHECK(run(dry).dry());
  CHECK(dry.peak() == 64 + 256 + 64);
  CHECK(dry.used() == 64 + 64);

  std::vector<char> memory(dry.peak() + Arena::kAlign);
  Arena real(memory.data(), dry.peak(), Place::host);
  CHECK(run(real).data == memory.data());
  CHECK(real.peak() == dry.peak());
}

TEST_CASE("an arena refuses one byte more than it has") {
  std::vector<char> memory(128);
  Arena arena(memory.data(), memory.size(), Place::host);
  arena.alloc(DType::u8, {64});
  CHECK_NOTHROW(arena.alloc(DType::u8, {64}));
  CHECK_THROWS_AS(arena.alloc(DType::u8, {1}), InternalError);
  arena.release_to(64);
  CHECK_NOTHROW(arena.alloc(DType::u8, {1}));
}
