// Launching a kernel: the arguments are copied into a LaunchInfo, which the emulated runtime puts on a stream
// (enqueue_launch) and later runs with run_grid.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <tuple>
#include <utility>

namespace simt {

/// What a kernel, a copy or a library call did wrong. The message names the kernel, the place, block and thread.
struct Error : std::exception {
  std::string msg;
  explicit Error(std::string message) : msg(std::move(message)) {}
  const char* what() const noexcept override { return msg.c_str(); }
};

struct LaunchInfo {
  const void* func;  // the kernel's address: its identity
  const char* name;  // lives as long as the process
  dim3 grid, block;
  size_t smem;  // dynamic shared memory, bytes
  void (*body)(void* params);
  std::shared_ptr<void> params;  // the copied arguments; a kernel may read them
  size_t params_size;
};

/// The name of a kernel from the program's symbol table, without its parameter list and namespaces; "kernel" when the
/// program is stripped. Lives as long as the process.
const char* kernel_name(const void* func);

/// The __launch_bounds__ of a kernel, 0 when it has none (or the compiler is not GCC).
unsigned launch_bound(const void* func);

/// Defined by the emulated runtime: orders the launch behind what the stream holds.
cudaError_t enqueue_launch(LaunchInfo info, cudaStream_t stream);

/// Runs all blocks of a grid on the calling thread and returns when they are done. Any thread may call it, one at a
/// time. Throws Error at the first thing a kernel does wrong; the rest of the grid is then not run.
void run_grid(const LaunchInfo& info);

/// A launch, its arguments converted and copied.
template <class... P, class... A>
LaunchInfo make_launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t smem, A&&... args) {
  struct Call {
    void (*kernel)(P...);
    std::tuple<P...> args;
  };
  // One allocation for the call alone: the checked emulator lets a kernel read exactly this block of the host's heap.
  // Its padding is zero: what was there before could pass for a pointer that the kernel is given.
  void* room = std::memset(::operator new(sizeof(Call)), 0, sizeof(Call));
  std::shared_ptr<Call> call(new (room) Call{kernel, {static_cast<P>(std::forward<A>(args))...}});
  std::apply([](auto&... arg) { (__builtin_clear_padding(&arg), ...); }, call->args);
  const auto body = [](void* params) {
    Call* c = static_cast<Call*>(params);
    std::apply(c->kernel, c->args);
  };
  const void* func = reinterpret_cast<const void*>(kernel);
  return {func, kernel_name(func), grid, block, smem, body, call, sizeof(Call)};
}

/// The emulation of kernel<<<grid, block, smem, stream>>>(args...).
template <class... P, class... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t smem, cudaStream_t stream, A&&... args) {
  // As ptx.h does: more shared memory than this must be asked for.
  if (smem > 48 * 1024) {
    const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(smem));
    if (error != cudaSuccess) return error;
  }
  return enqueue_launch(make_launch(kernel, grid, block, smem, std::forward<A>(args)...), stream);
}

}  // namespace simt
