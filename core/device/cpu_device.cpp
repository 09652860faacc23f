// The CPU device: host memory, host streams, and a table of CPU kernels.
//
// Policy: memory is touched when it is allocated, so that "no room" is an error with a table at the start and not a
// kill by the kernel at step 40,000. Large blocks ask for huge pages: weights are streamed through and a 4 KiB page
// would cost a TLB miss every few hundred elements.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>

#include "core/base/error.h"
#include "core/base/format.h"
#include "core/base/free_space.h"
#include "core/base/integer.h"
#include "core/base/trace.h"
#include "core/device/allocation_table.h"
#include "core/device/device.h"
#include "core/device/host_stream.h"
#include "kernels/cpu/cpu_ops.h"

namespace trident {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kHugePageThreshold = size_t{4} << 20;

/// The largest number where the machine does not say.
int64_t available_bytes() { return available_memory_bytes().value_or(std::numeric_limits<int64_t>::max()); }

void* allocate_small(size_t bytes) {
  void* const data = std::aligned_alloc(kAlignment, round_up(std::max<size_t>(bytes, 1), kAlignment));
  if (data != nullptr) std::memset(data, 0, bytes);
  return data;
}

void* allocate_large(size_t bytes) {
  if (bytes > static_cast<size_t>(available_bytes())) return nullptr;
  const size_t whole = round_up(bytes, kHugePage);
  void* const data = std::aligned_alloc(kHugePage, whole);
  if (data == nullptr) return nullptr;
  // Only advice: without huge pages the memory works the same.
  // Not for the last, partly used page: the rest of it would be memory that no plan knows.
  (void)madvise(data, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
  std::memset(data, 0, bytes);
  return data;
}

class CpuDevice final : public Device {
 public:
  CpuDevice(size_t limit, std::unique_ptr<Ops> ops) : table_(limit), ops_(ops ? std::move(ops) : make_cpu_ops()) {}

  ~CpuDevice() override {
    for (HostStream& stream : streams_) stream.close();
    for (HostStream& stream : streams_) stream.join();
  }

  Memory alloc(size_t bytes, Place place, std::string_view name) override {
    table_.check_limit(bytes, place, name);
    // Above half the address space the rounding below would wrap.
    const bool possible = bytes <= std::numeric_limits<size_t>::max() / 2;
    void* const data = !possible                     ? nullptr
                       : bytes >= kHugePageThreshold ? allocate_large(bytes)
                                                     : allocate_small(bytes);
    if (data == nullptr) {
      throw RunError(
          table_.no_room(bytes, name, build_string("(the machine has ", format_bytes(available_bytes()), " left)")));
    }
    return table_.own(data, bytes, place, name, [](void* address) { std::free(address); });
  }

  std::vector<Allocation> allocations() const override { return table_.lines(); }

  void copy(Tensor dst, Tensor src, Stream stream) override {
    ensure(dst.dtype == src.dtype && dst.numel() == src.numel(), "a copy keeps dtype and size");
    ensure(dst.dry() == src.dry(), "a copy has memory on both sides or on neither");
    if (dst.dry() || dst.data == src.data || dst.numel() == 0) return;
    const trace::Section copying(trace::Activity::copy, {.bytes = 2.0 * static_cast<double>(dst.bytes())});
    submit(stream, [dst, src] { std::memcpy(dst.data, src.data, dst.bytes()); });
  }

  void fill_zero(Tensor tensor, Stream stream) override {
    if (tensor.dry() || tensor.numel() == 0) return;
    const trace::Section zeroing(trace::Activity::copy, {.bytes = static_cast<double>(tensor.bytes())});
    // A worker's team would take the cores of the compute stream's.
    const bool in_place = stream.handle == this->stream(Role::compute).handle;
    submit(stream, [tensor, in_place] {
      in_place ? zero_memory(tensor.data, tensor.bytes())
               : static_cast<void>(std::memset(tensor.data, 0, tensor.bytes()));
    });
  }

  Stream stream(Role role) override {
    if (role == Role::tensor || role == Role::host) role = Role::compute;
    return streams_[static_cast<size_t>(role)].handle();
  }
  Event record(Stream stream) override { return HostStream::of(stream).event(); }
  void wait(Stream stream, Event event) override {
    const trace::Section waiting(waiting_for(event.handle));
    wait_event(HostStream::of(stream), event);
  }
  void synchronize(Stream stream) override {
    HostStream& host = HostStream::of(stream);
    const trace::Section waiting(waiting_for(&host));
    host.wait_for(host.last_ticket());
  }
  void synchronize(Event event) override {
    const trace::Section waiting(waiting_for(event.handle));
    if (event.handle != nullptr) static_cast<HostStream*>(event.handle)->wait_for(event.ticket);
  }
  bool passed(Event event) override {
    return event.handle == nullptr || static_cast<HostStream*>(event.handle)->finished(event.ticket);
  }

  const Ops& ops() const override { return *ops_; }

 private:
  /// What a thread does that waits for a stream.
  trace::Activity waiting_for(const void* stream) const {
    const auto is = [&](Role role) { return stream == &streams_[static_cast<size_t>(role)]; };
    if (is(Role::comm)) return trace::Activity::comm_data;
    if (is(Role::send)) return trace::Activity::comm_pipeline;
    if (is(Role::upload) || is(Role::download)) return trace::Activity::offload;
    return trace::Activity::host;
  }

  AllocationTable table_;
  std::unique_ptr<Ops> ops_;
  // One per Role up to `download`, in its order.
  std::array<HostStream, 5> streams_ = {HostStream(HostStream::Mode::in_place), HostStream(HostStream::Mode::worker),
                                        HostStream(HostStream::Mode::worker), HostStream(HostStream::Mode::worker),
                                        HostStream(HostStream::Mode::worker)};
};

}  // namespace

std::unique_ptr<Device> make_cpu_device(size_t device_limit, std::unique_ptr<Ops> ops) {
  return std::make_unique<CpuDevice>(device_limit, std::move(ops));
}

}  // namespace trident
