// Zeroing, for the device: gradients of a step are the largest thing that it writes at once.
#include <cstring>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace trident {
namespace {

/// From here on memory is written past the caches, which could not keep it: twice as fast, for no line is read first.
constexpr int64_t kPastCaches = int64_t{8} << 20;

/// Whole lines. `line` is at one.
void zero_lines(char* line, int64_t lines, bool past_caches) {
  if (past_caches) {
    for (int64_t i = 0; i < 2 * lines; ++i) _mm256_stream_si256(reinterpret_cast<__m256i*>(line) + i, __m256i{});
    return cpu::finish_past_caches();
  }
  std::memset(line, 0, static_cast<size_t>(lines) * cpu::kCacheLine);
}

}  // namespace

void zero_memory(void* data, size_t bytes) {
  char* const begin = static_cast<char*>(data);
  char* const end = begin + bytes;
  char* const first = std::min(end, cpu::align_to_line<char>(begin));
  const int64_t lines = (end - first) / static_cast<int64_t>(cpu::kCacheLine);
  char* const rest = first + lines * static_cast<int64_t>(cpu::kCacheLine);
  std::memset(begin, 0, static_cast<size_t>(first - begin));
  std::memset(rest, 0, static_cast<size_t>(end - rest));
  const bool past_caches = end - begin >= kPastCaches;
  cpu::parallel_range(lines, end - begin, [&](int64_t from, int64_t to) {
    zero_lines(first + from * static_cast<int64_t>(cpu::kCacheLine), to - from, past_caches);
  });
}

}  // namespace trident
