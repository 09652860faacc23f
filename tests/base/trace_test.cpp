#include "core/base/trace.h"

#include <thread>

#include "core/base/error.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::trace;

namespace {

using Clock = std::chrono::steady_clock;

void spend(double seconds) {
  const auto start = Clock::now();
  while (std::chrono::duration<double>(Clock::now() - start).count() < seconds) {
  }
}

double total(const Recorder& recorder) {
  double sum = 0;
  for (int a = 0; a < kActivities; ++a) sum += recorder[static_cast<Activity>(a)].seconds;
  return sum;
}

}  // namespace

TEST_CASE("the times of all activities add up to what has passed, whatever nests", "[base]") {
  constexpr double kPart = 2e-3;
  Recorder times;
  const auto begin = Clock::now();
  times.start();
  spend(kPart);
  {
    const Section outer(Activity::data);
    spend(kPart);
    const Section inner(Activity::copy, {.bytes = 7});
    spend(2 * kPart);
  }
  const Section after(Activity::norm, {.flops = 3, .bytes = 4});
  spend(kPart);
  times.stop();
  const double passed = std::chrono::duration<double>(Clock::now() - begin).count();
  // Between begin and start, and between stop and the reading above, there is a call each.
  CHECK(total(times) <= passed);
  CHECK(times[Activity::host].seconds >= kPart);
  CHECK(times[Activity::data].seconds >= kPart);
  CHECK(times[Activity::copy].seconds >= 2 * kPart);
  CHECK(times[Activity::norm].seconds >= kPart);
  // The inner one is not the outer one's, too: the five parts leave no room for that.
  CHECK(times[Activity::data].seconds <= passed - 4 * kPart);
  CHECK(times[Activity::copy].work.bytes == 7);
  CHECK(times[Activity::norm].work.flops == 3);
  CHECK(times[Activity::norm].work.bytes == 4);
}

TEST_CASE("nothing counts before start, after stop or on another thread", "[base]") {
  Recorder times;
  {
    const Section before(Activity::norm, {.bytes = 1});
    times.start();
    times.stop();
    spend(2e-3);
  }
  CHECK(total(times) < 1e-3);
  CHECK(times[Activity::norm].work.bytes == 0);
  times.clear();
  times.start();
  std::thread([] {
    CHECK(recorder == nullptr);
    const Section elsewhere(Activity::norm, {.bytes = 1});
  }).join();
  times.stop();
  CHECK(times[Activity::norm].seconds == 0);
  CHECK(times[Activity::norm].work.bytes == 0);
  times.clear();
  CHECK(total(times) == 0);
}

TEST_CASE("products are the innermost layer's", "[base]") {
  CHECK(recorder == nullptr);
  { const Product nobody_asks(Activity::gemm_up); }
  const Recorder times;
  CHECK(times.product() == Activity::gemm_other);
  {
    const Product head(Activity::gemm_head);
    { const Product up(Activity::gemm_up); }
    CHECK(times.product() == Activity::gemm_head);
  }
  CHECK(times.product() == Activity::gemm_other);
}

TEST_CASE("a thread has one recorder, and sections are left in order", "[base]") {
  Recorder times;
  CHECK_THROWS_AS(Recorder(), InternalError);
  CHECK(recorder == &times);
  CHECK_THROWS_AS(times.leave(), InternalError);
  for (int depth = 0; depth < 8; ++depth) times.enter(Activity::copy);
  CHECK_THROWS_AS(times.enter(Activity::copy), InternalError);
}
