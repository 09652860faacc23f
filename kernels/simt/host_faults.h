// Segmentation faults of host threads that touch what is the device's: turned into reports.
#pragma once

namespace simt {

/// Puts our handler in front of the core's, which keeps the faults of the device thread. Called on the device thread.
void install_host_fault_handler();
/// Puts it in front again where another handler (a test framework's) has replaced it.
void keep_host_fault_handler();

}  // namespace simt
