// What happens to a process that nobody watches: a report ends it with exit code 2, a wrong environment with 1. Each
// scene is a hidden test case that this program runs as a child.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <utility>

#include "simt/runtime.h"

using namespace trident;
using namespace trident::testing;

namespace {

/// Exit code (-1 for a signal) and output of the scene, run with `environment` in front.
std::pair<int, std::string> play(const std::string& environment, const std::string& scene) {
  std::array<char, 512> self{};
  if (readlink("/proc/self/exe", self.data(), self.size() - 1) <= 0) throw RunError("no /proc/self/exe");
  const std::string command = environment + " '" + self.data() + "' 'scene: " + scene + "' 2>&1";
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) throw RunError("popen");
  std::string output;
  std::array<char, 512> line;
  while (std::fgets(line.data(), line.size(), pipe) != nullptr) output += line.data();
  const int status = pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, output};
}

void must_end(int code, const std::string& environment, const std::string& scene, const std::string& message) {
  const auto [got, output] = play(environment, scene);
  INFO(environment << " " << scene << ":\n" << output);
  CHECK(got == code);
  CHECK(output.find(message) != std::string::npos);
}

}  // namespace

TEST_CASE("scene: race", "[.]") {
  Bench b;
  ok(cudaMemsetAsync(b.x, 0, 40, b.copy));
  ok(cudaMemsetAsync(b.x, 0, 40, b.compute));
  ok(cudaDeviceSynchronize());
}

TEST_CASE("scene: device memory", "[.]") {
  Bench b;
  CHECK(*static_cast<volatile float*>(b.x) == 0);
}

TEST_CASE("scene: early read", "[.]") {
  Bench b;
  ok(cudaMemcpyAsync(b.out, b.x, 40, cudaMemcpyDeviceToHost, b.copy));
  CHECK(*static_cast<volatile float*>(b.out) == 0);
}

TEST_CASE("scene: wild pointer", "[.]") {
  Bench b;
  const volatile uintptr_t nowhere = 64;
  CHECK(*reinterpret_cast<volatile float*>(nowhere) == 0);
}

TEST_CASE("scene: kernel", "[.]") {
  Bench b;
  (void)add_one_overrun(b.y, b.x, Bench::kCount, b.compute);
  (void)cudaStreamSynchronize(b.compute);
}

TEST_CASE("scene: fine", "[.]") {
  Bench b;
  ok(add_one(b.y, b.x, Bench::kCount, b.compute));
  ok(cudaStreamSynchronize(b.compute));
}

TEST_CASE("scene: allocate", "[.]") {
  for (int i = 1; i <= 3; ++i) {
    void* p = nullptr;
    if (const cudaError_t error = cudaMalloc(&p, 600 << 10); error != cudaSuccess) {
      std::printf("allocation %d: %s\n", i, cudaGetErrorName(error));
    }
  }
}

TEST_CASE("a report ends a process that does not collect", "[fatal]") {
  for (const std::string policy :
       {"TRIDENT_SIMT_POLICY=lazy", "TRIDENT_SIMT_POLICY=eager", "TRIDENT_SIMT_POLICY=random TRIDENT_SIMT_SEED=3"}) {
    must_end(2, policy, "race", "simt report: race: cudaMemsetAsync (operation ");
    must_end(2, policy, "device memory", "simt report: host access: host code reads device memory");
    must_end(2, policy, "early read", "simt report: host access: host code reads pinned memory");
    must_end(2, policy, "kernel", "add_one_wide_kernel (operation ");
    must_end(0, policy, "fine", "");
  }
}

TEST_CASE("a wild pointer of the host is still a segmentation fault", "[fatal]") {
  const auto [code, output] = play("", "wild pointer");
  INFO(output);
  CHECK(code != 0);
  CHECK(output.find("simt report") == std::string::npos);
}

TEST_CASE("the environment is obeyed, or refused by name", "[fatal]") {
  must_end(1, "TRIDENT_SIMT_POLICY=laziest", "fine",
           "simt: TRIDENT_SIMT_POLICY is \"laziest\"; expected one of lazy, eager, random");
  must_end(1, "TRIDENT_SIMT_SEED=-1", "fine", "simt: TRIDENT_SIMT_SEED is \"-1\"; expected a whole number");
  must_end(1, "TRIDENT_SIMT_MEMORY=4T", "fine", "simt: TRIDENT_SIMT_MEMORY is \"4T\"");
  must_end(1, "TRIDENT_SIMT_FAIL=cudaMalloc:1", "fine", "simt: TRIDENT_SIMT_FAIL is \"cudaMalloc:1\"");
  must_end(0, "TRIDENT_SIMT_ORDER=random TRIDENT_SIMT_ARCH=90 TRIDENT_SIMT_DEVICES=1", "fine", "");
  must_end(0, "TRIDENT_SIMT_MEMORY=1M", "allocate", "allocation 2: cudaErrorMemoryAllocation");
  must_end(0, "TRIDENT_SIMT_FAIL=cudaMalloc:3:cudaErrorMemoryAllocation", "allocate",
           "allocation 3: cudaErrorMemoryAllocation");
}
