#include "core/run/signals.h"

#include <csignal>
#include <initializer_list>

#include "core/base/log.h"

namespace trident {
namespace {

// A signal handler can reach nothing but a global of this type.
volatile std::sig_atomic_t g_stop = 0;

void on_stop(int signal) {
  g_stop = 1;
  // Impatience: the default action, should the same signal come again. Slurm and mpirun repeat USR1 harmlessly.
  if (signal != SIGUSR1) std::signal(signal, SIG_DFL);
}

}  // namespace

void watch_stop_signals() {
  for (const int signal : {SIGTERM, SIGUSR1, SIGINT}) std::signal(signal, on_stop);
  log::drop_lines_when(stop_requested);
}

bool stop_requested() { return g_stop != 0; }

}  // namespace trident
