// How the emulation reads its environment. A value it does not understand ends the process with exit code 1.
#pragma once

#include <string>

namespace simt {

/// Ends the process: `variable` holds `value`, but `expected` was wanted.
[[noreturn]] void refuse_environment(const char* variable, const std::string& value, const std::string& expected);

/// A CUDA or NCCL result by name ("cudaErrorMemoryAllocation", "ncclRemoteError") or number; -1 when unknown.
int error_from_text(const std::string& text);

}  // namespace simt
