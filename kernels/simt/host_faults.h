// Segmentation faults of host threads that touch what is the device's: turned into reports.
#pragma once

namespace simt {

/// Makes our handler the first, also where another (a test framework's) has replaced it since. Not while a kernel runs:
/// the core's is the first then, and passes on what is not the kernel's. With the device's mutex held.
void install_host_fault_handler();

}  // namespace simt
