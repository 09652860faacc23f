// How a rank waits for MPI, and what an MPI error becomes.
#pragma once

#include <mpi.h>

#include <chrono>
#include <span>

namespace trident {

using Seconds = std::chrono::duration<double>;

/// Throws RunError with MPI's own words when `code` is not MPI_SUCCESS. `call` names the MPI function.
void check_mpi(int code, const char* call);

/// Waiting that shares the processor. Ranks may outnumber cores, and the one waited for needs the core of the waiter:
/// spin 50 us (a message between running ranks), then yield to 2 ms, then sleep a twentieth of the time already
/// waited, from 50 us up to 1 ms, which costs at most a twentieth more.
class Patience {
 public:
  Patience() = default;
  /// With another time to spin. (MPI's own progress gives the core away between its looks, a bare flag does not.)
  explicit Patience(std::chrono::nanoseconds spin) : spin_(spin) {}
  void pause();
  Seconds waited() const { return std::chrono::steady_clock::now() - start_; }

 private:
  std::chrono::nanoseconds spin_ = std::chrono::microseconds(50);
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Waits until all requests are done (true) or `limit` has passed (false). Throws RunError when one fails.
bool wait_all(std::span<MPI_Request> requests, Seconds limit);

}  // namespace trident
