#include "core/run/memory_check.h"

#include "core/base/error.h"
#include "core/config/load.h"
#include "support/catch.h"

using namespace trident;

namespace {

Config tiny(std::vector<std::string> overrides = {}) {
  return load_config(std::string(TRIDENT_SOURCE_DIR) + "/configs/tiny_gpt2.yaml", overrides, 1);
}

/// A host of which Slurm gives this job one MiB.
const char* one_mib(const char* name) { return std::string_view(name) == "SLURM_MEM_PER_NODE" ? "1" : nullptr; }
const HostFacts kSmallHost{.root = "/absent", .variable = one_mib};

}  // namespace

TEST_CASE("a rank that plans more than its host has is refused by the source of the limit", "[run]") {
  const auto world = make_self_world();
  const Config config = tiny();
  try {
    MemoryCheck(config, *world, kSmallHost).check(config);
    FAIL("4.8 MiB do not fit in one");
  } catch (const UserError& e) {
    const std::string text = e.what();
    INFO(text);
    CHECK(text.find("host memory of rank 0: ") != std::string::npos);
    CHECK(text.find("1.0 MiB there (SLURM_MEM_PER_NODE)") != std::string::npos);
  }
}

TEST_CASE("what fits is reported: every limit with what is wanted of it", "[run]") {
  const auto world = make_self_world();
  const Config config = tiny({"memory.device_limit=1GiB"});
  const Fit found = MemoryCheck(config, *world).check(config);
  REQUIRE(found.of(MemoryKind::device));
  CHECK(found.of(MemoryKind::device)->limit.bytes == int64_t{1} << 30);
  REQUIRE(found.of(MemoryKind::host));
  // On the processor the host's memory holds the device's.
  CHECK(found.of(MemoryKind::host)->wanted > found.of(MemoryKind::device)->wanted);
}

TEST_CASE("recompute: auto is settled for whoever builds a run; what was set stays", "[run]") {
  const auto world = make_self_world();
  CHECK(with_settled_recompute(tiny({"train.recompute=auto", "memory.device_limit=1GiB"}), *world).train.recompute ==
        Recompute::none);
  CHECK(with_settled_recompute(tiny({"train.recompute=full"}), *world).train.recompute == Recompute::full);
  CHECK_THROWS_AS(with_settled_recompute(tiny({"train.recompute=auto", "memory.device_limit=1KiB"}), *world),
                  UserError);
}
