#include "core/device/dry_device.h"

#include "kernels/reference/reference_ops.h"
#include "support/catch.h"

using namespace trident;

TEST_CASE("the dry device records allocations and has no memory") {
  const auto ops = make_reference_ops();
  const auto device = make_dry_device(*ops);
  const Memory memory = device->alloc(size_t{1} << 50, Place::device, "parameters: block 0");
  CHECK(memory.data() == nullptr);
  CHECK(memory.bytes() == size_t{1} << 50);
  REQUIRE(device->allocations().size() == 1);
  CHECK(device->allocations()[0].name == "parameters: block 0");
  CHECK(device->allocations()[0].bytes == size_t{1} << 50);
}

TEST_CASE("work on a dry device is checked and then left out") {
  const auto ops = make_reference_ops();
  const auto device = make_dry_device(*ops);
  const Tensor x(nullptr, DType::f32, {4, 8}), y(nullptr, DType::f32, {4, 8}), bad(nullptr, DType::f32, {4, 7});
  const Stream compute = device->stream(Role::compute);
  CHECK_NOTHROW(device->copy(y, x, compute));
  CHECK_NOTHROW(device->ops().add(compute, y, x));
  CHECK_THROWS(device->ops().add(compute, y, bad));
}
