// What the emulated runtime libraries need of the emulator: running grids, the heap, operations, errors.
#pragma once

#include "kernels/simt/block.h"
#include "kernels/simt/device_memory.h"
#include "kernels/simt/emulation.h"
#include "kernels/simt/launch.h"
#include "kernels/simt/options.h"

namespace simt {

extern bool checked;
extern int host_errors;  // memory_model.h

}  // namespace simt
