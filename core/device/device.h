// Device: memory, order and time of one processor. Everything above asks it; nothing above knows which one it is.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/stream.h"
#include "core/base/tensor.h"
#include "kernels/ops.h"

namespace trident {

/// One owned allocation; frees itself. `data` is 64-byte aligned and zero-filled. Movable, not copyable.
class Memory {
 public:
  using Free = std::function<void(void*)>;
  Memory() = default;
  Memory(void* data, size_t bytes, Place place, Free free)
      : data_(data), bytes_(bytes), place_(place), free_(std::move(free)) {}
  Memory(Memory&& other) noexcept { swap(other); }
  Memory& operator=(Memory&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Memory() {
    if (data_ != nullptr) free_(data_);
  }

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Place place() const { return place_; }

 private:
  void swap(Memory& other) {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(place_, other.place_);
    std::swap(free_, other.free_);
  }

  void* data_ = nullptr;
  size_t bytes_ = 0;
  Place place_ = Place::host;
  Free free_;
};

/// The streams of a device, by what they are for. Work of different roles overlaps where the hardware can.
enum class Role : uint8_t {
  compute,   ///< on the CPU: runs in place, in the calling thread
  comm,      ///< reductions and gathers of the data axis, overlapped with backward
  send,      ///< pipeline sends, overlapped with compute
  upload,    ///< copies from the host to the device
  download,  ///< copies from the device to the host
  tensor,    ///< collectives of the tensor axis, overlapped with products; on the CPU: the compute stream
  host,      ///< work of the processor beside the device: on_host; on the CPU: the compute stream
};

/// A line of the allocation table.
struct Allocation {
  std::string name;
  Place place;
  size_t bytes;
};

class Device {
 public:
  virtual ~Device() = default;

  /// Allocates `bytes` under `name` (shown in the allocation table). Throws RunError with the table when there is no
  /// room, or none within the device's limit. Called at start only: a training step allocates nothing.
  virtual Memory alloc(size_t bytes, Place place, std::string_view name) = 0;
  /// Everything allocated and not yet freed, in order of allocation.
  virtual std::vector<Allocation> allocations() const = 0;

  /// dst = src, same dtype and size, any places; ordered on the stream.
  virtual void copy(Tensor dst, Tensor src, Stream) = 0;
  virtual void fill_zero(Tensor, Stream) = 0;

  virtual Stream stream(Role) = 0;
  /// The point after everything submitted so far.
  virtual Event record(Stream) = 0;
  /// Later work of the stream starts after the event.
  virtual void wait(Stream, Event) = 0;
  /// Blocks the calling thread until the stream is empty. Rethrows what its work threw.
  virtual void synchronize(Stream) = 0;
  /// Blocks the calling thread until the event has passed; an event that was never recorded has.
  virtual void synchronize(Event) = 0;
  /// Whether the event has passed, without waiting. Any thread.
  virtual bool passed(Event) = 0;

  virtual const Ops& ops() const = 0;

  /// Runs `work` on the processor, after all earlier work of Role::host. That stream takes nothing else but waits. A
  /// stream of the device that waits for it lets the calling thread wait.
  virtual void on_host(std::function<void()> work) { work(); }
  /// Operations on host memory, to be called by such work: they run in the calling thread, whatever the stream.
  virtual const Ops& host_ops() const { return ops(); }

  /// A stretch of the calling thread's work, for a profiler's time line (Range below). Devices without one ignore it.
  virtual void begin_range(const char* /*name*/, int64_t /*number*/) {}
  virtual void end_range() {}
};

/// Names what the calling thread submits while it lives: "step" 7, "forward block" 3. Ranges nest.
class Range {
 public:
  Range(Device& device, const char* name, int64_t number) : device_(device) { device_.begin_range(name, number); }
  ~Range() { device_.end_range(); }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;

 private:
  Device& device_;
};

/// The CPU. Compute runs in the calling thread (kernels use OpenMP inside), and so do the tensor axis's collectives: a
/// thread that adds would take a core from the product beside it. Every other role is one worker thread, started on
/// first use. Work that throws poisons its stream: the exception comes out of the next synchronize or wait, and work
/// submitted to it later is dropped. `device_limit`: bytes at Place::device it gives at a time; 0 is no limit. `ops`
/// replaces the CPU kernels, for tests against the reference table. The device must outlive its Memory.
std::unique_ptr<Device> make_cpu_device(size_t device_limit = 0, std::unique_ptr<Ops> ops = nullptr);

/// The CPU device's streams accept host functions; MPI collectives are submitted this way. Blocking when the stream
/// is Role::compute. Only for streams of a CPU device.
void submit(Stream, std::function<void()> work);

}  // namespace trident
