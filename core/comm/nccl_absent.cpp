// What a build without CUDA links in place of nccl_comm.cpp.
#include "core/base/error.h"
#include "core/comm/nccl_comm.h"

namespace trident {

std::unique_ptr<World> make_nccl_world(World&, Device&, std::chrono::duration<double>) {
  throw InternalError("a build without CUDA makes no CUDA device, and so no NCCL world");
}

std::string nccl_version() { return "not in this binary"; }

}  // namespace trident
