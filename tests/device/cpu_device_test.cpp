#include <cstdint>
#include <cstring>
#include <vector>

#include "core/base/error.h"
#include "core/device/device.h"
#include "kernels/reference/reference_ops.h"
#include "support/catch.h"

using namespace trident;

namespace {

std::unique_ptr<Device> device_under_test() { return make_cpu_device(0, make_reference_ops()); }

bool all_zero(const Memory& memory) {
  const auto* bytes = static_cast<const uint8_t*>(memory.data());
  for (size_t i = 0; i < memory.bytes(); ++i) {
    if (bytes[i] != 0) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("memory is aligned and zero, small and large, the second time too") {
  const auto device = device_under_test();
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{100}, size_t{4} << 20, (size_t{9} << 20) + 5}) {
    for (int round = 0; round < 2; ++round) {
      const Memory memory = device->alloc(bytes, Place::device, "x");
      INFO(bytes << " bytes, round " << round);
      REQUIRE(memory.data() != nullptr);
      CHECK(memory.bytes() == bytes);
      CHECK(memory.place() == Place::device);
      CHECK(reinterpret_cast<uintptr_t>(memory.data()) % 64 == 0);
      CHECK(all_zero(memory));
      std::memset(memory.data(), 0xab, bytes);
    }
  }
}

TEST_CASE("the table lists what is allocated and not yet freed, in order") {
  const auto device = device_under_test();
  Memory weights = device->alloc(1000, Place::device, "weights");
  {
    const Memory scratch = device->alloc(10, Place::host, "scratch");
    const Memory moments = device->alloc(2000, Place::pinned, "moments");
    const auto table = device->allocations();
    REQUIRE(table.size() == 3);
    CHECK(table[0].name == "weights");
    CHECK(table[1].name == "scratch");
    CHECK(table[2].name == "moments");
    CHECK(table[2].bytes == 2000);
    CHECK(table[2].place == Place::pinned);
  }
  REQUIRE(device->allocations().size() == 1);
  const Memory moved = std::move(weights);
  CHECK(device->allocations().size() == 1);
}

TEST_CASE("no room is an error with the table") {
  const auto device = device_under_test();
  const Memory weights = device->alloc(3 << 20, Place::device, "weights");
  for (const size_t bytes : {size_t{1} << 45, SIZE_MAX - 100}) {
    try {
      device->alloc(bytes, Place::device, "activations");
      FAIL("there is no such machine");
    } catch (const RunError& error) {
      const std::string text = error.what();
      INFO(text);
      CHECK(text.find("'activations'") != std::string::npos);
      CHECK(text.find("3.0 MiB  weights") != std::string::npos);
      CHECK(text.find("train.micro_batch") != std::string::npos);
    }
  }
  CHECK(device->allocations().size() == 1);
}

TEST_CASE("a limited device refuses what does not fit, and takes it when there is room again") {
  const auto device = make_cpu_device(1000);
  const Memory host = device->alloc(5000, Place::host, "host state");
  {
    const Memory weights = device->alloc(600, Place::device, "weights");
    const Memory more = device->alloc(400, Place::device, "moments");
    try {
      (void)device->alloc(1, Place::device, "one byte");
      FAIL("the device is full");
    } catch (const RunError& error) {
      const std::string text = error.what();
      INFO(text);
      CHECK(text.find("1 B of 'one byte' on the device: memory.device_limit is 1000 B and 1000 B are in use") !=
            std::string::npos);
      CHECK(text.find("600 B  weights\n") != std::string::npos);
      CHECK(text.find("4.9 KiB  host state (host)") != std::string::npos);
      CHECK(text.find("zero.offload") != std::string::npos);
    }
    CHECK_THROWS_AS(device->alloc(SIZE_MAX, Place::device, "wraps"), RunError);
  }
  CHECK(device->alloc(1000, Place::device, "again").bytes() == 1000);
}

TEST_CASE("copy and fill follow the order of their stream") {
  const auto device = device_under_test();
  const Stream copy = device->stream(Role::upload), compute = device->stream(Role::compute);
  std::vector<float> a = {1, 2, 3}, b(3), c = {9, 9, 9};
  const Tensor a_3(a.data(), DType::f32, {3}), b_3(b.data(), DType::f32, {3}), c_3(c.data(), DType::f32, {3});
  device->copy(b_3, a_3, copy);
  device->fill_zero(a_3, copy);
  device->copy(c_3, a_3, copy);
  device->wait(compute, device->record(copy));
  CHECK(b == std::vector<float>{1, 2, 3});
  CHECK(a == std::vector<float>{0, 0, 0});
  CHECK(c == std::vector<float>{0, 0, 0});
}

TEST_CASE("a copy between unlike tensors is a broken invariant") {
  const auto device = device_under_test();
  std::vector<float> x(4);
  const Stream stream = device->stream(Role::compute);
  const Tensor four(x.data(), DType::f32, {4}), two(x.data(), DType::f32, {2}), ints(x.data(), DType::i32, {4});
  const Tensor dry(nullptr, DType::f32, {4});
  CHECK_THROWS_AS(device->copy(four, two, stream), InternalError);
  CHECK_THROWS_AS(device->copy(four, ints, stream), InternalError);
  CHECK_THROWS_AS(device->copy(four, dry, stream), InternalError);
  CHECK_NOTHROW(device->copy(dry, dry, stream));
  CHECK_NOTHROW(device->fill_zero(dry, stream));
}

TEST_CASE("what a stream's work throws comes out of synchronize") {
  const auto device = device_under_test();
  const Stream comm = device->stream(Role::comm);
  submit(comm, [] { throw RunError("gone"); });
  CHECK_THROWS_AS(device->synchronize(comm), RunError);
  CHECK_THROWS_AS(device->wait(device->stream(Role::compute), device->record(comm)), RunError);
  CHECK_NOTHROW(device->synchronize(device->stream(Role::send)));  // other streams live
}

TEST_CASE("a device closes with work still queued between its streams") {
  std::vector<int> order;  // guarded by the events between the streams
  {
    const auto device = device_under_test();
    const Stream comm = device->stream(Role::comm), copy = device->stream(Role::upload);
    for (int i = 0; i < 100; i += 2) {
      submit(comm, [&order, i] { order.push_back(i); });
      device->wait(copy, device->record(comm));
      submit(copy, [&order, i] { order.push_back(i + 1); });
      device->wait(comm, device->record(copy));
    }
  }
  // Closing may drop the rest, but nothing runs before what it waits for.
  for (size_t i = 0; i < order.size(); ++i) CHECK(order[i] == static_cast<int>(i));
}

TEST_CASE("the device has the table of operations it was given") {
  auto ops = make_reference_ops();
  const Ops* const given = ops.get();
  CHECK(&make_cpu_device(0, std::move(ops))->ops() == given);
}
