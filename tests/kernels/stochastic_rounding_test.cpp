// AdamW's stochastic rounding through the tables: unbiased, the same bits on every table, and the same for an element
// whichever piece of its parameter a rank owns. (stochastic_bf16 itself: tests/base/dtype_test.cpp.)
#include <bit>
#include <cmath>
#include <memory>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/reference/reference_ops.h"
#include "support/catch.h"

using namespace trident;

namespace {

/// The weights that one step at rate 0 makes of these masters, which it leaves as they are.
std::vector<uint16_t> rounded(const Ops& ops, std::vector<float> master, int64_t first_element) {
  const auto n = static_cast<int64_t>(master.size());
  std::vector<float> m(master.size()), v(master.size()), grad(master.size(), 1.0f);
  std::vector<bf16> weight(master.size());
  ops.adamw({}, {.master = Tensor(master.data(), DType::f32, {n}),
                 .m = Tensor(m.data(), DType::f32, {n}),
                 .v = Tensor(v.data(), DType::f32, {n}),
                 .grad = Tensor(grad.data(), DType::f32, {n}),
                 .weight = Tensor(weight.data(), DType::bf16, {n}),
                 .stochastic_rounding = true,
                 .rounding_key = {7, 3, random_purpose("rounding test")},
                 .first_element = first_element});
  std::vector<uint16_t> bits(master.size());
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = weight[i].bits;
  return bits;
}

std::vector<std::unique_ptr<Ops>> tables() {
  std::vector<std::unique_ptr<Ops>> list;
  list.push_back(make_reference_ops());
  list.push_back(make_cpu_ops());
  return list;
}

}  // namespace

TEST_CASE("a weight rounded at random is its master in the mean") {
  constexpr size_t kElements = 1 << 16;
  for (const auto& ops : tables()) {
    // Shares of the gap between bf16 neighbours, in 65536ths.
    for (const uint32_t dropped : {0u, 1u, 655u, 0x8000u, 0xc000u, 0xffffu}) {
      for (const uint32_t upper : {0x3f80u, 0xbf81u, 0x0001u}) {
        const auto master = std::bit_cast<float>(upper << 16 | dropped);
        size_t up = 0;
        for (const uint16_t bits : rounded(*ops, std::vector<float>(kElements, master), 12)) {
          REQUIRE((bits == upper || bits == upper + 1));
          up += bits == upper + 1;
        }
        // A binomial count: five standard deviations are met once in two million counts, and these never change.
        const double p = dropped / 65536.0, deviation = std::sqrt(kElements * p * (1 - p));
        INFO("dropped " << dropped << ": rounded up " << up << " of " << kElements);
        CHECK(std::abs(static_cast<double>(up) - kElements * p) <= 5 * deviation);
      }
    }
  }
}

TEST_CASE("tables and pieces of a parameter round alike") {
  std::vector<float> master(10007);
  for (size_t i = 0; i < master.size(); ++i) master[i] = random_normal({5, 0, random_purpose("masters")}, i);
  const std::vector<uint16_t> whole = rounded(*make_reference_ops(), master, 1000);
  for (const auto& ops : tables()) {
    CHECK(rounded(*ops, master, 1000) == whole);
    for (const ptrdiff_t cut : {1, 4, 1023, 1024, 4098}) {
      const std::vector<float> tail(master.begin() + cut, master.end());
      CHECK(rounded(*ops, tail, 1000 + cut) == std::vector<uint16_t>(whole.begin() + cut, whole.end()));
    }
    CHECK(rounded(*ops, master, 1001) != whole);
  }
}
