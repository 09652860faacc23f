// Zeroing, reading through memory, and the widest row of a norm.
#include <algorithm>
#include <vector>

#include "core/base/error.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/peak.h"
#include "support/catch.h"

using namespace trident;

TEST_CASE("zeroing reaches every byte and no other, at any address and length") {
  constexpr size_t kLarge = size_t{9} << 20;  // past the caches
  std::vector<char> memory(kLarge + 512);
  for (const size_t first : {0, 1, 63, 64}) {
    for (const size_t bytes :
         {size_t{0}, size_t{1}, size_t{63}, size_t{64}, size_t{200}, size_t{100'003}, kLarge + 3}) {
      std::fill(memory.begin(), memory.end(), 'x');
      zero_memory(memory.data() + first, bytes);
      INFO(bytes << " bytes from " << first);
      const auto is = [](char c) { return [c](char b) { return b == c; }; };
      const auto begin = memory.begin() + static_cast<std::ptrdiff_t>(first);
      const auto end = begin + static_cast<std::ptrdiff_t>(bytes);
      CHECK(std::all_of(memory.begin(), begin, is('x')));
      CHECK(std::all_of(begin, end, is('\0')));
      CHECK(std::all_of(end, memory.end(), is('x')));
    }
  }
}

TEST_CASE("reading through memory sees every element") {
  for (const size_t n : {1, 64, 100, 70'001}) {
    for (const size_t at : {size_t{0}, n / 2, n - 1}) {
      std::vector<float> x(n, 0.0f);
      CHECK(read_through(x.data(), static_cast<int64_t>(n)) == 0);
      x[at] = 1.0f;
      CHECK(read_through(x.data(), static_cast<int64_t>(n)) == 0x3f800000u);
    }
  }
}

TEST_CASE("a norm refuses rows wider than its buffers") {
  const std::unique_ptr<Ops> cpu = make_cpu_ops();
  for (const int64_t d : {65536, 65537}) {
    const auto dry = [&](std::initializer_list<int64_t> shape) { return Tensor(nullptr, DType::f32, shape); };
    std::vector<float> w(static_cast<size_t>(d));
    NormBackwardArgs args;
    args.forward.kind = NormKind::rms_norm;
    args.forward.x_TD = args.forward.y_TD = args.dx_TD = args.dy_TD = dry({0, d});
    args.forward.rstd_T = dry({0});
    args.forward.w_D = args.dw_D = Tensor(w.data(), DType::f32, {d});
    if (d == 65536) {
      CHECK_NOTHROW(cpu->norm_forward({}, args.forward));
      CHECK_NOTHROW(cpu->norm_backward({}, args));
    } else {
      CHECK_THROWS_AS(cpu->norm_forward({}, args.forward), InternalError);
      CHECK_THROWS_AS(cpu->norm_backward({}, args), InternalError);
    }
  }
}
