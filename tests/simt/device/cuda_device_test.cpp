// The CUDA device on the emulated runtime: what core/device/device.h promises, with nothing done before it must be.
#include "core/device/cuda_device.h"

#include <algorithm>
#include <vector>

#include "core/base/error.h"
#include "kernels/simt/control.h"
#include "support/catch.h"

using namespace trident;

namespace {

constexpr int64_t kCount = 1000;

constexpr Role kRoles[] = {Role::compute, Role::comm, Role::send, Role::upload, Role::download, Role::tensor};

/// A lazy GPU whose copies of pageable memory are late.
std::unique_ptr<Device> late_device() {
  simt::Settings settings;
  settings.late_pageable = true;
  simt::set_settings(settings);
  return make_cuda_device(0, 1, AttentionKernel::own);
}

Tensor of(const Memory& memory) { return Tensor(memory.data(), DType::i32, {kCount}, memory.place()); }
Tensor of(std::vector<int32_t>& values) { return Tensor(values.data(), DType::i32, {kCount}); }

}  // namespace

TEST_CASE("new memory is zero for every stream") {
  const auto device = late_device();
  for (const Role role : kRoles) {
    const Memory memory = device->alloc(kCount * sizeof(int32_t), Place::device, "x");
    std::vector<int32_t> values(kCount, 7);
    device->copy(of(values), of(memory), device->stream(role));
    device->synchronize(device->stream(role));
    CHECK(values == std::vector<int32_t>(kCount, 0));
  }
}

TEST_CASE("a limited device refuses what does not fit") {
  const auto device = make_cuda_device(0, 1, AttentionKernel::own, 1000);
  const Memory host = device->alloc(5000, Place::pinned, "staging");
  const Memory weights = device->alloc(600, Place::device, "weights");
  CHECK_THROWS_AS(device->alloc(401, Place::device, "moments"), RunError);
  CHECK(device->alloc(400, Place::device, "moments").bytes() == 400);
}

TEST_CASE("an event orders streams, and lets the host wait for a part of one") {
  const auto device = late_device();
  const Memory memory = device->alloc(kCount * sizeof(int32_t), Place::device, "x");
  for (const Role role : kRoles) {
    for (const Role other : kRoles) {
      if (role == other) continue;
      const int32_t mark = static_cast<int32_t>(role) * 10 + static_cast<int32_t>(other);
      std::vector<int32_t> from(kCount, mark), to(kCount, -1);
      device->copy(of(memory), of(from), device->stream(role));
      device->wait(device->stream(other), device->record(device->stream(role)));
      device->copy(of(to), of(memory), device->stream(other));
      const Event done = device->record(device->stream(other));
      device->synchronize(done);
      CHECK(device->passed(done));
      CHECK(to == from);
    }
  }
}

TEST_CASE("the processor works beside the GPU, in the order of the events") {
  const auto device = late_device();
  const Memory memory = device->alloc(kCount * sizeof(int32_t), Place::device, "x");
  const Memory staging = device->alloc(kCount * sizeof(int32_t), Place::pinned, "staging");
  const Stream host = device->stream(Role::host), upload = device->stream(Role::upload),
               download = device->stream(Role::download);
  std::vector<int32_t> values(kCount, 7);
  device->copy(of(memory), of(values), upload);
  device->wait(download, device->record(upload));
  device->copy(of(staging), of(memory), download);
  device->wait(host, device->record(download));
  device->on_host([&] {
    for (int32_t i = 0; i < kCount; ++i) of(staging).as<int32_t>()[i] += i;
  });
  const Event added = device->record(host);
  device->wait(upload, added);
  CHECK(device->passed(added));
  device->copy(of(memory), of(staging), upload);
  device->synchronize(upload);
  device->copy(of(values), of(memory), upload);
  device->synchronize(upload);
  for (int32_t i = 0; i < kCount; ++i) CHECK(values[static_cast<size_t>(i)] == 7 + i);

  device->on_host([] { throw std::runtime_error("broken"); });
  device->on_host([] { FAIL("work after a failure has no inputs"); });
  CHECK_THROWS_WITH(device->synchronize(host), "broken");
  CHECK_THROWS_WITH(device->wait(upload, device->record(host)), "broken");
}

TEST_CASE("the streams of a device are different ones") {
  const auto device = late_device();
  std::vector<void*> handles;
  for (const Role role : kRoles) handles.push_back(device->stream(role).handle);
  std::sort(handles.begin(), handles.end());
  CHECK(std::adjacent_find(handles.begin(), handles.end()) == handles.end());
}
