#include "core/base/free_space.h"

#include <filesystem>

#include "support/catch.h"

using namespace trident;

TEST_CASE("memory and disks have room, and what is not there says nothing") {
  REQUIRE(available_memory_bytes());
  CHECK(*available_memory_bytes() > 0);
  CHECK(!available_memory_bytes("/absent"));
  const std::string there = std::filesystem::temp_directory_path();
  REQUIRE(free_disk_bytes(there));
  CHECK(*free_disk_bytes(there) > 0);
  CHECK(free_disk_bytes(there + "/trident-absent/deeper"));
  CHECK(!free_disk_bytes("/proc/self"));
}
