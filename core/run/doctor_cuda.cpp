// The CUDA part of the doctor: judges what core/device/cuda_facts found.
#include <cstdlib>

#include "core/base/error.h"
#include "core/base/format.h"
#include "core/comm/nccl_comm.h"
#include "core/device/cuda_facts.h"
#include "core/run/doctor.h"

namespace trident {
namespace {

using State = Finding::State;

std::string version(int number) { return build_string(number / 1000, '.', number % 1000 / 10); }

Finding examine_driver(const CudaFacts& facts) {
  const std::string kernel = facts.kernel_driver.empty() ? "no NVIDIA kernel driver" : "driver " + facts.kernel_driver;
  if (facts.build == CudaBuild::absent) {
    if (facts.kernel_driver.empty()) return {State::good, "CUDA", kernel + "; this binary was built without CUDA", ""};
    return {State::note, "CUDA", kernel + ", but this binary was built without CUDA",
            "scripts/build.sh release --cuda builds it in (the toolkit's nvcc must be on PATH)"};
  }
  if (facts.build == CudaBuild::emulated) {
    return {State::good, "CUDA", build_string("emulated, CUDA ", version(facts.runtime)), ""};
  }
  Finding finding{State::good, "CUDA",
                  build_string(kernel, ", serves CUDA ", facts.driver == 0 ? "none" : version(facts.driver),
                               "; this binary needs ", version(facts.runtime)),
                  ""};
  if (facts.driver == 0) {
    finding.state = State::problem;
    finding.fix =
        "libcuda.so is not found: run on a node with an NVIDIA driver, or start the container with --gpus all";
  } else if (facts.driver < facts.runtime) {
    finding.state = State::problem;
    finding.fix =
        build_string("update the driver to one for CUDA ", version(facts.runtime), ", or build with a toolkit of CUDA ",
                     version(facts.driver), " (module load cuda/", version(facts.driver), ")");
  }
  return finding;
}

Finding examine_gpu(const GpuFacts& gpu, size_t index) {
  Finding finding{State::good, build_string("GPU ", index),
                  build_string(gpu.name, ", sm_", gpu.major, gpu.minor, ", ", format_bytes(gpu.bytes)), ""};
  if (gpu.free_bytes > 0) finding.found += build_string(", ", format_bytes(gpu.free_bytes), " free");
  if (!gpu.peers.empty()) finding.found += build_string(", peer access to ", gpu.peers.size(), " others");
  if (gpu.major < 8) {
    finding.state = State::problem;
    finding.fix = "the kernels need compute capability 8.0 (A100) or newer";
  } else if (gpu.free_bytes > 0 && gpu.free_bytes < gpu.bytes / 2) {
    finding.state = State::note;
    finding.fix = "another process holds much of its memory: `nvidia-smi` names it";
  }
  return finding;
}

}  // namespace

std::vector<Finding> examine_cuda() {
  const CudaFacts facts = cuda_facts();
  std::vector<Finding> findings = {examine_driver(facts)};
  if (facts.build == CudaBuild::absent) return findings;
  findings.push_back(
      {State::good, "CUDA", build_string("cuBLASLt ", facts.cublaslt, ", ", facts.cudnn, ", ", nccl_version()), ""});
  if (!facts.error.empty() || facts.gpus.empty()) {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    findings.push_back({State::problem, "GPU",
                        build_string("none can be used: ", facts.error.empty() ? "none is visible" : facts.error,
                                     "; CUDA_VISIBLE_DEVICES ", visible == nullptr ? "is not set" : visible),
                        "ask Slurm for GPUs (--gpus-per-node), or use device: cpu"});
  }
  for (size_t i = 0; i < facts.gpus.size(); ++i) findings.push_back(examine_gpu(facts.gpus[i], i));
  return findings;
}

}  // namespace trident
