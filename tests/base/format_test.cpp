#include "core/base/format.h"

#include <cmath>
#include <limits>

#include "support/catch.h"

using namespace trident;

TEST_CASE("bytes", "[base]") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(1023) == "1023 B");
  CHECK(format_bytes(1024) == "1.0 KiB");
  CHECK(format_bytes(1536) == "1.5 KiB");
  CHECK(format_bytes(1024 * 1024 - 1) == "1.0 MiB");  // not "1024.0 KiB"
  CHECK(format_bytes(int64_t{5} << 30) == "5.0 GiB");
  CHECK(format_bytes(-1536) == "-1.5 KiB");
  CHECK(format_bytes(std::numeric_limits<int64_t>::max()) == "8.0 EiB");
  CHECK(format_bytes(std::numeric_limits<int64_t>::min()) == "-8.0 EiB");
}

TEST_CASE("durations", "[base]") {
  CHECK(format_duration(0) == "0ms");
  CHECK(format_duration(0.35) == "350ms");
  CHECK(format_duration(0.9996) == "1.0s");
  CHECK(format_duration(4.24) == "4.2s");
  CHECK(format_duration(9.96) == "10s");
  CHECK(format_duration(59.4) == "59s");
  CHECK(format_duration(59.6) == "1m00s");
  CHECK(format_duration(83) == "1m23s");
  CHECK(format_duration(3599.6) == "1h00m");
  CHECK(format_duration(2 * 3600 + 5 * 60 + 29) == "2h05m");
  CHECK(format_duration(24 * 3600 - 20) == "1d00h");
  CHECK(format_duration((3 * 24 + 4) * 3600.0) == "3d04h");
  CHECK(format_duration(-1) == "?");
  CHECK(format_duration(std::nan("")) == "?");
  CHECK(format_duration(1e300) == "?");
}

TEST_CASE("counts", "[base]") {
  CHECK(format_count(0) == "0");
  CHECK(format_count(950) == "950");
  CHECK(format_count(999) == "999");
  CHECK(format_count(12.34) == "12.3");
  CHECK(format_count(9.996) == "10.0");
  CHECK(format_count(999.7) == "1.00k");
  CHECK(format_count(1000) == "1.00k");
  CHECK(format_count(12345) == "12.3k");
  CHECK(format_count(99950) == "100k");  // not "100.0k"
  CHECK(format_count(124.4e6) == "124M");
  CHECK(format_count(1.5e9) == "1.50B");
  CHECK(format_count(999.6e9) == "1.00T");
  CHECK(format_count(-2500) == "-2.50k");
  CHECK(format_count(std::nan("")) == "?");
  for (double n = 1e-3; n < 999.4e12; n *= 1.07) {
    INFO(n);
    REQUIRE(format_count(n).size() <= 5);
  }
}

TEST_CASE("fixed, scientific, padded", "[base]") {
  CHECK(format_fixed(2.34567, 4) == "2.3457");
  CHECK(format_fixed(std::nan(""), 4) == "?");
  CHECK(format_fixed(1e308, 1).size() == 311);
  CHECK(format_scientific(3e-4) == "3.00e-04");
  CHECK(format_scientific(std::numeric_limits<double>::infinity()) == "?");
  CHECK(pad_left("ab", 4) == "  ab");
  CHECK(pad_right("ab", 4) == "ab  ");
  CHECK(pad_left("abcde", 4) == "abcde");
  CHECK(pad_right("abcde", 4) == "abcde");
}
