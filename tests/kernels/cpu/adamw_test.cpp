// The CPU's AdamW on more elements than its caches keep, where weights are stored past them: the bits of the same
// update in short calls, which store through them.
#include <cstring>
#include <vector>

#include "core/base/rng.h"
#include "kernels/cpu/cpu_ops.h"
#include "support/catch.h"

using namespace trident;

namespace {

constexpr int64_t kElements = 300'007, kShort = 100'000;
constexpr size_t kLine = 64;

/// The operands of an update; the weights begin `offset` elements behind a line of the cache.
struct State {
  std::vector<float> master, grad, m, v;
  std::vector<bf16> narrow_m, narrow_v;
  std::vector<uint16_t> weight_space;
  int64_t offset;

  explicit State(int64_t behind_line) : offset(behind_line) {
    for (int64_t i = 0; i < kElements; ++i) {
      master.push_back(random_normal({5, 0, random_purpose("masters")}, static_cast<uint64_t>(i)));
      grad.push_back(random_normal({5, 0, random_purpose("gradients")}, static_cast<uint64_t>(i)));
    }
    m.resize(kElements), v.resize(kElements);
    narrow_m.resize(kElements), narrow_v.resize(kElements);
    weight_space.resize(kElements + 2 * kLine);
  }
  uint16_t* weight() {
    const auto address = reinterpret_cast<uintptr_t>(weight_space.data());
    return reinterpret_cast<uint16_t*>((address + kLine - 1) / kLine * kLine) + offset;
  }
};

void update(const Ops& ops, State& s, DType weight, bool random_weight, bool random_state, int64_t begin, int64_t end) {
  const auto part = [&](auto* data, DType dtype) { return Tensor(data, dtype, {kElements}).rows(begin, end); };
  ops.adamw({}, {.master = part(s.master.data(), DType::f32),
                 .m = random_state ? part(s.narrow_m.data(), DType::bf16) : part(s.m.data(), DType::f32),
                 .v = random_state ? part(s.narrow_v.data(), DType::bf16) : part(s.v.data(), DType::f32),
                 .grad = part(s.grad.data(), DType::f32),
                 .weight = part(s.weight(), weight),
                 .lr = 1e-2f,
                 .stochastic_rounding = random_weight,
                 .stochastic_state = random_state,
                 .rounding_key = {1, 2, 3},
                 .state_key = {1, 2, 4},
                 .element = {.first = 40 + begin}});
}

template <class T>
bool same_bytes(const std::vector<T>& a, const std::vector<T>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace

TEST_CASE("a long update has the bits of short ones") {
  const auto ops = make_cpu_ops();
  for (const DType weight : {DType::bf16, DType::f16}) {
    for (const bool random_weight : {false, true}) {
      if (random_weight && weight != DType::bf16) continue;
      for (const bool random_state : {false, true}) {
        for (const int64_t offset : {0, 1, 16}) {
          CAPTURE(dtype_name(weight), random_weight, random_state, offset);
          State whole(offset), parts(offset);
          update(*ops, whole, weight, random_weight, random_state, 0, kElements);
          for (int64_t begin = 0; begin < kElements; begin += kShort) {
            update(*ops, parts, weight, random_weight, random_state, begin, std::min(begin + kShort, kElements));
          }
          CHECK(std::memcmp(whole.weight(), parts.weight(), kElements * sizeof(uint16_t)) == 0);
          CHECK(same_bytes(whole.master, parts.master));
          CHECK(same_bytes(whole.m, parts.m));
          CHECK(same_bytes(whole.v, parts.v));
          CHECK(same_bytes(whole.narrow_m, parts.narrow_m));
          CHECK(same_bytes(whole.narrow_v, parts.narrow_v));
          // Nothing is written in front of the weights or behind them.
          const auto first = static_cast<size_t>(whole.weight() - whole.weight_space.data());
          for (size_t i = 0; i < whole.weight_space.size(); ++i) {
            if (i < first || i >= first + kElements) REQUIRE(whole.weight_space[i] == 0);
          }
        }
      }
    }
  }
}
