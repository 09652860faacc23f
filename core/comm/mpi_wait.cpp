#include "core/comm/mpi_wait.h"

#include <sched.h>

#include <algorithm>
#include <string>
#include <thread>

#include "core/base/error.h"

namespace trident {

void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw RunError(build_string(call, " failed: ", std::string(text, static_cast<size_t>(length))));
}

void Patience::pause() {
  using namespace std::chrono_literals;
  const auto waited = std::chrono::steady_clock::now() - start_;
  if (waited < spin_) return;
  if (waited < 2ms) {
    sched_yield();
    return;
  }
  std::this_thread::sleep_for(std::clamp<std::chrono::nanoseconds>(waited / 20, 50us, 1ms));
}

bool wait_all(std::span<MPI_Request> requests, Seconds limit) {
  Patience patience;
  while (true) {
    int done = 0;
    check_mpi(MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE),
              "MPI_Testall");
    if (done != 0) return true;
    if (patience.waited() > limit) return false;
    patience.pause();
  }
}

}  // namespace trident
