// ldmatrix and mma against a plain matrix product. Small integers: every product and sum is exact, so equality is
// exact.
#include "simt/emulated.h"
#include "simt/kernels.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::simt_tests;

namespace {

/// Row major, M 16, K 16.
std::vector<double> product(const std::vector<double>& a_MK, const std::vector<double>& b_KN, size_t columns) {
  std::vector<double> d_MN(16 * columns, 0.0);
  for (size_t m = 0; m < 16; ++m) {
    for (size_t n = 0; n < columns; ++n) {
      for (size_t k = 0; k < 16; ++k) d_MN[m * columns + n] += a_MK[m * 16 + k] * b_KN[k * columns + n];
    }
  }
  return d_MN;
}

/// Different in every element, and no symmetry that a swapped index could hide behind.
std::vector<double> integers(size_t n, int seed) {
  std::vector<double> values(n);
  for (size_t i = 0; i < n; ++i)
    values[i] = static_cast<double>((static_cast<int>(i * i * 7 + i * 13) + seed) % 61 - 30);
  return values;
}

template <class T>
T* upload(Emulated& device, const std::vector<double>& values) {
  std::vector<T> converted;
  for (double v : values) converted.push_back(T(static_cast<float>(v)));
  return device.upload(converted);
}

template <class T>
void check_products() {
  Emulated device;
  const std::vector<double> a = integers(256, 3), b = integers(128, 11), wide_b = integers(512, 5);
  float* d = device.uninitialised<float>(16 * 32);
  device.run(product_kernel<T>, dim3(1), dim3(32), 0, d, upload<T>(device, a), upload<T>(device, b));
  const std::vector<double> expected = product(a, b, 8);
  for (size_t i = 0; i < expected.size(); ++i) {
    INFO("row " << i / 8 << " column " << i % 8);
    CHECK(static_cast<double>(d[i]) == expected[i] + 1.0);
  }
  device.run(wide_product_kernel<T>, dim3(1), dim3(32), 0, d, upload<T>(device, a), upload<T>(device, wide_b));
  const std::vector<double> wide = product(a, wide_b, 32);
  for (size_t i = 0; i < wide.size(); ++i) {
    INFO("row " << i / 32 << " column " << i % 32);
    CHECK(static_cast<double>(d[i]) == wide[i]);
  }
}

}  // namespace

TEST_CASE("simt: ldmatrix and mma multiply bf16 matrices") { check_products<__nv_bfloat16>(); }
TEST_CASE("simt: ldmatrix and mma multiply f16 matrices") { check_products<__half>(); }

TEST_CASE("simt: mma decodes every finite f16 and infinity") {
  Emulated device;
  // Row 0 of a holds 16 numbers at a time, b is the unit matrix in its first 8 columns.
  std::vector<double> unit(128, 0.0);
  for (size_t i = 0; i < 8; ++i) unit[i * 8 + i] = 1.0;
  const __half* b = upload<__half>(device, unit);
  float* d = device.uninitialised<float>(128);
  size_t wrong = 0;
  for (unsigned first = 0; first < 65536; first += 8 * 37) {
    std::vector<__half> a(256, __half(0.0f));
    for (unsigned i = 0; i < 8; ++i) {
      const uint16_t bits = static_cast<uint16_t>(first + i);
      std::memcpy(static_cast<void*>(&a[i]), &bits, 2);
    }
    bool finite = true;
    for (unsigned i = 0; i < 8; ++i) finite = finite && std::isfinite(__half2float(a[i]));
    if (!finite) continue;
    device.run(product_kernel<__half>, dim3(1), dim3(32), 0, d, device.upload(a), b);
    for (unsigned i = 0; i < 8; ++i) wrong += d[i] != __half2float(a[i]) + 1.0f;
  }
  CHECK(wrong == 0);
  std::vector<double> infinite(256, 0.0);
  infinite[0] = HUGE_VAL;
  device.run(product_kernel<__half>, dim3(1), dim3(32), 0, d, upload<__half>(device, infinite), b);
  CHECK(std::isinf(d[0]));
  CHECK(std::isnan(d[1]));
}
