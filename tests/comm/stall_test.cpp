// Jobs that hang on purpose. Hidden: timeout_check.sh starts each under mpirun and looks at the exit code and stderr.
#include <csignal>
#include <thread>

#include "comm/ranks.h"

using namespace trident;
using namespace trident::testing;

namespace {

/// Two good collectives at step 7; then `absent` does `instead` and all others wait for it in a third one.
template <class Instead>
void all_but(int absent, Instead instead, const CommLimits& limits = {}) {
  Job job(limits, 2.0);
  const auto group = job.world->split(0, "tensor");
  Ledger& ledger = job.world->ledger();
  Buffer x(DType::f32, 5000);
  for (int block = 1; block <= 2; ++block) {
    ledger.at(7, "forward", block, 0);
    group->all_reduce(*x, Reduce::sum, job.comm.handle());
    synchronize(job.comm);
  }
  if (group->rank() == absent) {
    instead();
  } else {
    ledger.at(7, "forward", 3, 0);
    group->all_reduce(*x, Reduce::sum, job.comm.handle());
    synchronize(job.comm);
  }
  FAIL("the job should have ended");
}

}  // namespace

TEST_CASE("stall: rank 2 computes for ever", "[.]") {
  all_but(2, [] { std::this_thread::sleep_for(std::chrono::seconds(60)); });
}

TEST_CASE("stall: rank 2 computes for ever, over messages", "[.]") {
  all_but(2, [] { std::this_thread::sleep_for(std::chrono::seconds(60)); }, {.shared_memory = false});
}

TEST_CASE("stall: rank 1 is killed", "[.]") {
  all_but(1, [] { std::raise(SIGKILL); });
}

TEST_CASE("stall: rank 1 is stopped", "[.]") {
  all_but(1, [] { std::raise(SIGSTOP); });
}

TEST_CASE("stall: rank 0 is stopped", "[.]") {
  all_but(0, [] { std::raise(SIGSTOP); });
}

TEST_CASE("stall: nobody sends to rank 0", "[.]") {
  Job job({}, 2.0);
  const auto group = job.world->split(0, "pipeline");
  job.world->ledger().at(4, "backward", 2, 5);
  Buffer x(DType::f32, 10);
  if (group->rank() == 0) group->recv(*x, 1, 0, job.compute.handle());
  std::this_thread::sleep_for(std::chrono::seconds(60));
}

TEST_CASE("stall: rank 1 aborts", "[.]") {
  Job job;
  if (job.world->rank() == 1) job.world->abort(2, "the disk is full");
  std::this_thread::sleep_for(std::chrono::seconds(60));
}
