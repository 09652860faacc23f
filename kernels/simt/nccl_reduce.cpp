#include "kernels/simt/nccl_reduce.h"

#include <cmath>
#include <type_traits>

#include "core/base/dtype.h"
#include "core/base/error.h"

namespace simt {
namespace {

template <class Sum>
Sum combined(ncclRedOp_t op, Sum a, Sum b) {
  switch (op) {
    case ncclMax:
      if constexpr (std::is_floating_point_v<Sum>) return std::fmax(a, b);
      return a < b ? b : a;
    case ncclMin:
      if constexpr (std::is_floating_point_v<Sum>) return std::fmin(a, b);
      return b < a ? b : a;
    default: return static_cast<Sum>(a + b);
  }
}

template <class T, class Sum>
void combine_as(ncclRedOp_t op, void* out, const std::vector<const void*>& pieces, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    Sum sum = static_cast<Sum>(static_cast<const T*>(pieces[0])[i]);
    for (size_t p = 1; p < pieces.size(); ++p) {
      sum = combined(op, sum, static_cast<Sum>(static_cast<const T*>(pieces[p])[i]));
    }
    if (op == ncclAvg) sum = static_cast<Sum>(sum / static_cast<Sum>(pieces.size()));
    static_cast<T*>(out)[i] = static_cast<T>(sum);
  }
}

}  // namespace

bool reducible(ncclDataType_t type, ncclRedOp_t op) {
  if (op != ncclSum && op != ncclMax && op != ncclMin && op != ncclAvg) return false;
  switch (type) {
    case ncclFloat32:
    case ncclFloat64:
    case ncclBfloat16:
    case ncclFloat16:
    case ncclInt32:
    case ncclInt64:
    case ncclUint8: return true;
    default: return false;
  }
}

void combine(ncclDataType_t type, ncclRedOp_t op, void* out, const std::vector<const void*>& pieces, size_t count) {
  switch (type) {
    case ncclFloat32: return combine_as<float, float>(op, out, pieces, count);
    case ncclFloat64: return combine_as<double, double>(op, out, pieces, count);
    case ncclBfloat16: return combine_as<trident::bf16, float>(op, out, pieces, count);
    case ncclFloat16: return combine_as<trident::f16, float>(op, out, pieces, count);
    case ncclInt32: return combine_as<int32_t, int32_t>(op, out, pieces, count);
    case ncclInt64: return combine_as<int64_t, int64_t>(op, out, pieces, count);
    case ncclUint8: return combine_as<uint8_t, uint8_t>(op, out, pieces, count);
    default: trident::ensure(false, "only reducible types are combined");
  }
}

}  // namespace simt
