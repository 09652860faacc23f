// Attention on tensor cores, counted: they do all the products, shared memory has no bank conflict, and what is read is
// read in whole sectors.
#include "emulated_room.h"
#include "kernels/cases.h"
#include "kernels/compare.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/simt/counters.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::cases;

namespace {

/// Sums of all kernels that multiplied on tensor cores while one case ran.
struct TensorWork {
  uint64_t products = 0, conflicts = 0, sectors = 0, ideal_sectors = 0;
};

TensorWork run_counted(const std::string& name) {
  const std::unique_ptr<Ops> ops = make_cuda_ops();
  EmulatedRoom room;
  bool found = false;
  simt::reset_counters();
  for (const Case& c : attention_cases()) {
    if (c.name != name) continue;
    found = true;
    CHECK(join_lines(compare(*ops, c, room)).empty());
  }
  REQUIRE(found);
  TensorWork work;
  for (const auto& [kernel, counters] : simt::counters()) {
    if (counters.mma == 0) continue;
    work.products += counters.mma * 16 * 8 * 16;
    work.conflicts += counters.shared.conflicts() + counters.ldmatrix_rows.conflicts();
    work.sectors += counters.loads.sectors;
    work.ideal_sectors += counters.loads.ideal_sectors;
  }
  return work;
}

}  // namespace

TEST_CASE("attention on tensor cores: all products, no bank conflict, whole sectors") {
  constexpr uint64_t kContext = 130, kAlignedRuns = 2;
  for (const uint64_t head_size : {64, 96, 128}) {
    const std::string shape = " 1x130 heads 1/1 of " + std::to_string(head_size) + " bf16 full";
    // Forward: scores and out. Backward: scores and dp in both kernels, then dk, dv and dq.
    for (const auto& [direction, matrices] : {std::pair<std::string, uint64_t>{"forward", 2}, {"backward", 7}}) {
      INFO(direction << shape);
      const TensorWork work = run_counted("attention_" + direction + shape);
      CHECK(work.products >= kAlignedRuns * matrices * kContext * kContext * head_size);
      CHECK(work.conflicts == 0);
      CHECK(work.sectors == work.ideal_sectors);
    }
  }
}
