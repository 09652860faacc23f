#include "core/base/process_memory.h"

#include <cstring>
#include <vector>

#include "support/catch.h"

using namespace trident;

TEST_CASE("the peak holds what was touched and does not sink", "[base]") {
  constexpr int64_t kBytes = int64_t{64} << 20;
  const int64_t before = peak_resident_bytes();
  REQUIRE(before > 0);
  {
    std::vector<char> block(kBytes);
    std::memset(block.data(), 1, block.size());
    REQUIRE(block[kBytes - 1] == 1);
  }
  const int64_t after = peak_resident_bytes();
  REQUIRE(after >= kBytes);
  REQUIRE(after >= before);
  REQUIRE(peak_resident_bytes() >= after);
}
