#include "cases.h"

#include <cmath>

#include "core/base/error.h"

namespace trident::cases {

std::vector<Case> all_cases() {
  std::vector<Case> all;
  for (const auto family : {gemm_cases, norm_cases, rope_cases, attention_cases, activation_cases, dropout_cases,
                            elementwise_cases, embedding_cases, loss_cases, optimizer_cases, step_cases}) {
    for (Case& c : family()) all.push_back(std::move(c));
  }
  return all;
}

double round_to(DType dtype, double x) {
  switch (dtype) {
    case DType::f64:
    case DType::i32: return x;
    case DType::f32: return static_cast<double>(static_cast<float>(x));
    case DType::bf16: return static_cast<double>(static_cast<float>(bf16(static_cast<float>(x))));
    case DType::f16: return static_cast<double>(static_cast<float>(f16(static_cast<float>(x))));
    default: throw InternalError(build_string("no case has operands of dtype ", dtype_name(dtype)));
  }
}

double underflow(DType dtype) { return dtype == DType::f16 ? 0x1p-25 : dtype == DType::f64 ? 0x1p-1022 : 0x1p-126; }

Values Random::normal(DType dtype, int64_t n, double deviation, double mean) {
  Values values(static_cast<size_t>(n));
  for (double& x : values) x = round_to(dtype, mean + deviation * static_cast<double>(random_normal(key_, next_++)));
  return values;
}

Values Random::integers(int64_t n, int64_t begin, int64_t end) {
  Values values(static_cast<size_t>(n));
  for (double& x : values) {
    x = static_cast<double>(begin + random_u32(key_, next_++) % static_cast<uint32_t>(end - begin));
  }
  return values;
}

uint64_t seed_of(std::string_view name) { return random_purpose(name); }

Values magnitudes(const Values& x) {
  Values y(x);
  for (double& value : y) value = std::abs(value);
  return y;
}

}  // namespace trident::cases
