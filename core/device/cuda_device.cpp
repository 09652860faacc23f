// The CUDA device.
//
// Policy: streams do not synchronise with the legacy default stream, which nobody uses. Events come from a ring per
// stream: a recycled event stands for a later point of the same stream, so an old handle waits longer than it had to,
// never shorter; and as every wait is for work submitted before it, never for ever. Work of the processor has a thread
// of its own (Role::host), which waits for the GPU's events; a GPU's stream that waits for that work lets the caller
// wait before it submits, since a callback in the stream would hold up every other callback. Nothing else here blocks
// the host but alloc, free and synchronize.
#include "core/device/cuda_device.h"

#include <cuda_runtime_api.h>
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define TRIDENT_NVTX
#endif

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

#include "core/base/error.h"
#include "core/base/format.h"
#include "core/device/allocation_table.h"
#include "core/device/host_stream.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cuda/cuda_ops.h"

namespace trident {
namespace {

constexpr size_t kRoles = 6;     // of the GPU's own streams: all but the last
constexpr size_t kEvents = 512;  // per stream

/// Throws RunError with CUDA's words.
void check_cuda(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  throw RunError(build_string(call, " failed: ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")"));
}

cudaStream_t native(Stream stream) {
  ensure(stream.handle != nullptr, "work goes to a stream of the device; an empty Stream is none");
  return static_cast<cudaStream_t>(stream.handle);
}

bool on_device(const Tensor& t) { return t.place == Place::device; }

cudaMemcpyKind direction(const Tensor& dst, const Tensor& src) {
  if (on_device(dst)) return on_device(src) ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice;
  return on_device(src) ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost;
}

/// One stream and its ring of events.
class CudaStream {
 public:
  explicit CudaStream(int priority) {
    check_cuda(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, priority), "cudaStreamCreateWithPriority");
    for (cudaEvent_t& event : events_) {
      check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    }
  }
  ~CudaStream() {
    for (cudaEvent_t event : events_) (void)cudaEventDestroy(event);
    (void)cudaStreamDestroy(stream_);
  }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  cudaStream_t handle() const { return stream_; }
  Event record() {
    const std::lock_guard lock(mutex_);
    const cudaEvent_t event = events_[next_++ % kEvents];
    check_cuda(cudaEventRecord(event, stream_), "cudaEventRecord");
    return {event, next_};
  }

 private:
  cudaStream_t stream_ = nullptr;
  std::array<cudaEvent_t, kEvents> events_{};
  std::mutex mutex_;
  uint64_t next_ = 0;
};

class CudaDevice final : public Device {
 public:
  CudaDevice(int ordinal, AttentionKernel attention, size_t limit) : ordinal_(ordinal), table_(limit) {
    check_cuda(cudaSetDevice(ordinal), "cudaSetDevice");
    int lowest = 0, highest = 0;
    check_cuda(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "cudaDeviceGetStreamPriorityRange");
    for (size_t i = 0; i < kRoles; ++i) {
      // Communication first: what it waits for is already there, and others wait for it.
      const Role role = static_cast<Role>(i);
      const bool urgent = role == Role::comm || role == Role::tensor || role == Role::send;
      streams_[i] = std::make_unique<CudaStream>(urgent ? highest : lowest);
    }
    ops_ = make_cuda_ops(attention);
  }
  ~CudaDevice() override {
    host_.close();
    host_.join();
    (void)cudaDeviceSynchronize();
  }

  Memory alloc(size_t bytes, Place place, std::string_view name) override {
    table_.check_limit(bytes, place, name);
    const size_t size = std::max<size_t>(bytes, 1);
    void* data = nullptr;
    cudaError_t error = cudaSuccess;
    if (place == Place::device) {
      error = cudaMalloc(&data, size);
    } else {
      error = cudaHostAlloc(&data, size, cudaHostAllocDefault);
    }
    if (error == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();  // it was no lasting fault
      throw RunError(table_.no_room(bytes, name, where(place)));
    }
    check_cuda(error, place == Place::device ? "cudaMalloc" : "cudaHostAlloc");
    if (place == Place::device) {
      const cudaStream_t stream = native(this->stream(Role::compute));
      check_cuda(cudaMemsetAsync(data, 0, size, stream), "cudaMemsetAsync");
      check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    } else {
      std::memset(data, 0, size);
    }
    return table_.own(data, bytes, place, name, [place](void* address) {
      (void)cudaDeviceSynchronize();  // nothing on its way uses it any more
      (void)(place == Place::device ? cudaFree(address) : cudaFreeHost(address));
    });
  }

  std::vector<Allocation> allocations() const override { return table_.lines(); }

  void copy(Tensor dst, Tensor src, Stream stream) override {
    ensure(dst.dtype == src.dtype && dst.numel() == src.numel(), "a copy keeps dtype and size");
    ensure(dst.dry() == src.dry(), "a copy has memory on both sides or on neither");
    if (dst.dry() || dst.data == src.data || dst.numel() == 0) return;
    check_cuda(cudaMemcpyAsync(dst.data, src.data, dst.bytes(), direction(dst, src), native(stream)),
               "cudaMemcpyAsync");
  }

  void fill_zero(Tensor tensor, Stream stream) override {
    if (tensor.dry() || tensor.numel() == 0) return;
    ensure(on_device(tensor), "fill_zero of a CUDA device is for device memory");
    check_cuda(cudaMemsetAsync(tensor.data, 0, tensor.bytes(), native(stream)), "cudaMemsetAsync");
  }

  Stream stream(Role role) override {
    if (role == Role::host) return host_.handle();
    return {streams_[static_cast<size_t>(role)]->handle()};
  }
  Event record(Stream stream) override {
    if (is_host(stream.handle)) return host_.event();
    const auto found =
        std::find_if(streams_.begin(), streams_.end(), [&](const auto& s) { return s->handle() == native(stream); });
    ensure(found != streams_.end(), "an event is recorded on a stream of this device");
    return (*found)->record();
  }
  void wait(Stream stream, Event event) override {
    if (event.handle == nullptr) return;
    if (is_host(event.handle)) {
      if (!is_host(stream.handle)) synchronize(event);
      return;
    }
    if (is_host(stream.handle)) {
      host_.submit([this, event] {
        check_cuda(cudaSetDevice(ordinal_), "cudaSetDevice");
        synchronize(event);
      });
      return;
    }
    check_cuda(cudaStreamWaitEvent(native(stream), static_cast<cudaEvent_t>(event.handle), 0), "cudaStreamWaitEvent");
  }
  void synchronize(Stream stream) override {
    if (is_host(stream.handle)) return host_.wait_for(host_.last_ticket());
    check_cuda(cudaStreamSynchronize(native(stream)), "the work on the GPU");
  }
  void synchronize(Event event) override {
    if (event.handle == nullptr) return;
    if (is_host(event.handle)) return host_.wait_for(event.ticket);
    check_cuda(cudaEventSynchronize(static_cast<cudaEvent_t>(event.handle)), "the work on the GPU");
  }
  bool passed(Event event) override {
    if (event.handle == nullptr) return true;
    if (is_host(event.handle)) return host_.finished(event.ticket);
    const cudaError_t error = cudaEventQuery(static_cast<cudaEvent_t>(event.handle));
    if (error == cudaErrorNotReady) return false;
    check_cuda(error, "the work on the GPU");
    return true;
  }

  const Ops& ops() const override { return *ops_; }
  void on_host(std::function<void()> work) override { host_.submit(std::move(work)); }
  const Ops& host_ops() const override { return *host_ops_; }

#ifdef TRIDENT_NVTX
  // Without a profiler these are a test of a pointer.
  void begin_range(const char* name, int64_t number) override {
    nvtxEventAttributes_t event{};
    event.version = NVTX_VERSION;
    event.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    event.messageType = NVTX_MESSAGE_TYPE_ASCII;
    event.message.ascii = name;
    event.payloadType = NVTX_PAYLOAD_TYPE_INT64;
    event.payload.llValue = number;
    (void)nvtxRangePushEx(&event);
  }
  void end_range() override { (void)nvtxRangePop(); }
#endif

 private:
  bool is_host(const void* handle) const { return handle == &host_; }

  /// Where there was no room, in words.
  std::string where(Place place) const {
    if (place != Place::device) return "on the host, pinned";
    size_t free_bytes = 0, total_bytes = 0;
    (void)cudaMemGetInfo(&free_bytes, &total_bytes);
    return build_string("on GPU ", ordinal_, " (", format_bytes(static_cast<int64_t>(free_bytes)), " of ",
                        format_bytes(static_cast<int64_t>(total_bytes)), " are free)");
  }

  const int ordinal_;
  AllocationTable table_;
  std::array<std::unique_ptr<CudaStream>, kRoles> streams_;  // one per Role, in its order
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<Ops> host_ops_ = make_cpu_ops();
  HostStream host_{HostStream::Mode::worker};  // its thread starts with the first work
};

std::string version_text(int version) {
  return version == 0 ? "none" : build_string(version / 1000, '.', version % 1000 / 10);
}

/// GPUs that this process sees. Throws UserError when CUDA does not start.
int visible_gpus() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return count;
  (void)cudaGetLastError();
  int driver = 0, runtime = 0;
  (void)cudaDriverGetVersion(&driver);
  (void)cudaRuntimeGetVersion(&runtime);
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  throw UserError(build_string(
      "device: cuda finds no GPU: ", error == cudaSuccess ? "none is visible" : cudaGetErrorString(error),
      ". NVIDIA driver: ", driver == 0 ? std::string("not found") : "for CUDA " + version_text(driver),
      "; this binary needs CUDA ", version_text(runtime), " or newer", "; CUDA_VISIBLE_DEVICES: ",
      visible == nullptr   ? "not set"
      : visible[0] == '\0' ? "empty"
                           : visible,
      driver == 0 ? ". Run it on a machine with an NVIDIA driver (`nvidia-smi` lists the GPUs), or use device: cpu"
      : driver < runtime ? ". Update the driver, or build with an older toolkit"
                         : ". Ask for GPUs (Slurm: --gpus-per-node), or use device: cpu",
      ". `trident doctor` tells more"));
}

}  // namespace

CudaBuild cuda_build() {
#ifdef TRIDENT_CUDA_EMULATED
  return CudaBuild::emulated;
#else
  return CudaBuild::real;
#endif
}

std::unique_ptr<Device> make_cuda_device(int local_rank, int local_size, AttentionKernel attention,
                                         size_t device_limit) {
  const int gpus = visible_gpus();
  if (local_size > gpus) {
    throw UserError(build_string(local_size, " ranks on this host but ", gpus, gpus == 1 ? " GPU is" : " GPUs are",
                                 " visible, and a rank has a GPU of its own: start at most ", gpus,
                                 " ranks per host (mpirun --map-by ppr:", gpus,
                                 ":node, sbatch --ntasks-per-node=", gpus, "), or see CUDA_VISIBLE_DEVICES"));
  }
  return std::make_unique<CudaDevice>(local_rank, attention, device_limit);
}

}  // namespace trident
