#pragma once
#include <cuda_runtime_api.h>
#include <algorithm>
#include <functional>
enum class StreamPolicy { Lazy, Eager, Random };
extern StreamPolicy stream_policy;
namespace simt {
void stream_push(cudaStream_t, const char* name, std::function<void()>);
void cudaDeviceSynchronize_emu_nohost();
}  // namespace simt
