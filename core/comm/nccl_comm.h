// Communicators over NCCL: a world whose groups move tensors of device memory from GPU to GPU, on the device's own
// streams. A build without CUDA links nccl_absent.cpp instead.
//
// Policy: every group has an MPI communicator beneath it, which carries the NCCL id and control data; tensors lie in
// device memory. Sums are NCCL's: deterministic for a given job, but in an order of NCCL's choice, and 16-bit tensors
// are rounded at every hop.
#pragma once

#include <chrono>
#include <memory>

#include "core/comm/grid.h"
#include "core/device/device.h"

namespace trident {

/// `base` is the MPI world (or a world of one) and outlives the result, as does the device, a CUDA one. One thread
/// watches: an asynchronous NCCL error, or an operation that waits longer than `timeout`, ends the job with one line.
std::unique_ptr<World> make_nccl_world(World& base, Device& device, std::chrono::duration<double> timeout);

/// "NCCL 2.28.3", for logs and `doctor`.
std::string nccl_version();

}  // namespace trident
