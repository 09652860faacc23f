// Requests to stop. SIGTERM, SIGUSR1 and SIGINT set a flag; the trainer finishes its step, saves and exits with 75. A
// second SIGINT or SIGTERM ends the process at once.
#pragma once

namespace trident {

/// Installs the handlers. Call once, before training. After a request the log no longer waits for its reader: after
/// Ctrl-C mpirun reads nothing while it gives the ranks time to save.
void watch_stop_signals();

/// Whether this process was asked to stop.
bool stop_requested();

}  // namespace trident
