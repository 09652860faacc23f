// AdamW's stochastic rounding of weights and moments through the tables: unbiased, the same bits on every table, and
// the same for an element whichever piece of its parameter a rank owns. (stochastic_bf16 itself:
// tests/base/dtype_test.cpp.)
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
                 .element = {.first = first_element}});
  std::vector<uint16_t> bits(master.size());
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = weight[i].bits;
  return bits;
}

/// Moments in bf16, as they lie in memory.
struct Moments {
  std::vector<bf16> m, v;

  explicit Moments(size_t n, float m0 = 0, float v0 = 0) : m(n, bf16(m0)), v(n, bf16(v0)) {}
  static std::vector<uint16_t> bits(const std::vector<bf16>& values) {
    std::vector<uint16_t> all;
    for (const bf16 x : values) all.push_back(x.bits);
    return all;
  }
  static double mean(const std::vector<bf16>& values) {
    double sum = 0;
    for (const bf16 x : values) sum += static_cast<double>(static_cast<float>(x));
    return sum / static_cast<double>(values.size());
  }
};

/// One step at rate 0 on moments in bf16: beta1 = 0.9, beta2 = 0.999.
void step_moments(const Ops& ops, Moments& moments, std::vector<float> grad, uint32_t step,
                  const ElementIndex& element) {
  const auto n = static_cast<int64_t>(grad.size());
  std::vector<float> master(grad.size());
  ops.adamw({}, {.master = Tensor(master.data(), DType::f32, {n}),
                 .m = Tensor(moments.m.data(), DType::bf16, {n}),
                 .v = Tensor(moments.v.data(), DType::bf16, {n}),
                 .grad = Tensor(grad.data(), DType::f32, {n}),
                 .beta2 = 0.999f,
                 .stochastic_state = true,
                 .state_key = {7, step, random_purpose("moments test")},
                 .element = element});
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

TEST_CASE("moments in bf16 follow theirs in f32 in the mean, where rounding to nearest stays put") {
  constexpr size_t kElements = 1 << 12;
  constexpr uint32_t kSteps = 500;
  const float grad = 1.5f, beta2 = 0.999f;
  float nearest = 1;
  double m = -1, v = 1, variance_m = 0, variance_v = 0;
  for (uint32_t step = 1; step <= kSteps; ++step) {
    nearest = static_cast<float>(bf16(nearest * beta2 + grad * grad * (1 - beta2)));
    m += (1.5 - m) * 0.1;
    v += (2.25 - v) * 0.001;
    // A rounding has a variance of at most a quarter of the gap's square; the gap is 2^-7 for numbers in [1, 2).
    variance_m = variance_m * 0.81 + 0x1p-16;
    variance_v = variance_v * 0.998001 + 0x1p-16;
  }
  CHECK(nearest == 1.0f);
  CHECK(v > 1.4);
  for (const auto& ops : tables()) {
    Moments moments(kElements, -1, 1);
    for (uint32_t step = 1; step <= kSteps; ++step) {
      step_moments(*ops, moments, std::vector<float>(kElements, grad), step, {.first = 12});
    }
    const double error_m = Moments::mean(moments.m) - m, error_v = Moments::mean(moments.v) - v;
    INFO("m errs by " << error_m << ", v by " << error_v << " of " << v);
    CHECK(std::abs(error_m) <= 5 * std::sqrt(variance_m / kElements));
    CHECK(std::abs(error_v) <= 5 * std::sqrt(variance_v / kElements));
  }
}

TEST_CASE("the two moments are rounded independently") {
  // Both about a quarter of a gap above 1: were they rounded with the same bits, both would go up together.
  constexpr size_t kElements = 1 << 14;
  for (const auto& ops : tables()) {
    Moments moments(kElements, 0.921875f, 1);
    step_moments(*ops, moments, std::vector<float>(kElements, 1.718f), 1, {});
    size_t both = 0, up_m = 0, up_v = 0;
    for (size_t i = 0; i < kElements; ++i) {
      const bool m = moments.m[i].bits > 0x3f80, v = moments.v[i].bits > 0x3f80;
      up_m += m, up_v += v, both += m && v;
    }
    const double p = static_cast<double>(up_m) / kElements * static_cast<double>(up_v) / kElements;
    INFO("up: m " << up_m << ", v " << up_v << ", both " << both << " of " << kElements);
    CHECK(std::min(up_m, up_v) > kElements / 8);
    CHECK(std::abs(static_cast<double>(both) - kElements * p) <= 5 * std::sqrt(kElements * p));
  }
}

TEST_CASE("tables and pieces of a parameter round moments alike, along rows that are parts") {
  // A parameter of 40 rows of 250 elements, whole and as the ranks of a tensor axis cut it: by rows and by columns.
  constexpr int64_t kRows = 40, kColumns = 250;
  std::vector<float> grad(kRows * kColumns);
  for (size_t i = 0; i < grad.size(); ++i) grad[i] = random_normal({5, 0, random_purpose("gradients")}, i);
  Moments whole(grad.size());
  step_moments(*make_reference_ops(), whole, grad, 1, {});
  for (const auto& ops : tables()) {
    Moments again(grad.size());
    step_moments(*ops, again, grad, 1, {});
    CHECK(Moments::bits(again.m) == Moments::bits(whole.m));
    CHECK(Moments::bits(again.v) == Moments::bits(whole.v));
    for (const int64_t columns : {124, 100, 7}) {
      // A run that begins and ends within rows of the part [kRows, columns] from column 90 on.
      const int64_t first_column = 90, begin = 5 * columns + 3, end = 30 * columns + 5;
      std::vector<float> part;
      std::vector<uint16_t> m, v;
      for (int64_t i = begin; i < end; ++i) {
        const auto at = static_cast<size_t>(i / columns * kColumns + first_column + i % columns);
        part.push_back(grad[at]);
        m.push_back(whole.m[at].bits), v.push_back(whole.v[at].bits);
      }
      Moments mine(part.size());
      step_moments(*ops, mine, part, 1,
                   {.first = 5 * kColumns + first_column, .lead = 3, .columns = columns, .stride = kColumns});
      CHECK(Moments::bits(mine.m) == m);
      CHECK(Moments::bits(mine.v) == v);
    }
    Moments other(grad.size());
    step_moments(*ops, other, grad, 2, {});
    CHECK(Moments::bits(other.v) != Moments::bits(whole.v));
  }
}
