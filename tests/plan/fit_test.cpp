#include "core/plan/fit.h"

#include <algorithm>
#include <functional>

#include "core/base/error.h"
#include "core/config/load.h"
#include "core/config/validate.h"
#include "support/catch.h"

using namespace trident;

namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

const Limit kDevice{2 * kGiB, "memory.device_limit"}, kHost{8 * kGiB, "MemAvailable"};

/// GPT-2 124M on `data` ranks.
Config gpt2(int data, std::vector<std::string> overrides = {}) {
  overrides.push_back("train.global_batch=" + std::to_string(16 * data));
  overrides.push_back("parallel.data=" + std::to_string(data));
  return load_config(std::string(TRIDENT_SOURCE_DIR) + "/configs/gpt2_124m.yaml", overrides, data);
}

/// A job that is alone to want memory: `bytes` of a device with 2 GiB.
Fit on_device(int64_t bytes) {
  return fit({{.device = bytes, .host = bytes}}, {{.host = "a", .device = kDevice, .shared = std::nullopt}});
}

/// Planned for real, on one host.
Fitting planned(const std::optional<Limit>& device, const std::optional<Limit>& host) {
  return [=](const Config& c) {
    return fit(needs_of(make_plan(c, *planning_ops(c)), c), uniform_places(c.parallel.ranks(), 0, device, host));
  };
}

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const UserError& e) {
    return e.what();
  }
  return "no error";
}

void check_holds(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    INFO(text << "\nshould hold: " << part);
    CHECK(text.find(part) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("a device is one rank's, a host all its ranks'; the shortest of each is shown") {
  const std::vector<RankNeed> needs = {{.device = kGiB, .host = 3 * kGiB},
                                       {.device = 3 * kGiB, .host = 4 * kGiB},
                                       {.device = 2 * kGiB, .host = 9 * kGiB}};
  const Limit small{6 * kGiB, "SLURM_MEM_PER_NODE"};
  const Fit found = fit(needs, {{.host = "a", .device = kDevice, .shared = small},
                                {.host = "a", .device = kDevice, .shared = kHost},
                                {.host = "b", .device = kDevice, .shared = Limit{10 * kGiB, "MemAvailable"}}});
  CHECK(lines_of(found) ==
        std::vector<std::string>{
            "device memory of rank 1: 3.0 GiB wanted, 2.0 GiB there (memory.device_limit): 1.0 GiB short",
            "host memory of ranks 0-1: 7.0 GiB wanted, 6.0 GiB there (SLURM_MEM_PER_NODE): 1.0 GiB short"});
  CHECK(found.missing() == 2 * kGiB);
  CHECK(!found.fits());
}

TEST_CASE("the files of a host's ranks share its disk") {
  const Limit disk{3 * kGiB, "free space of /scratch"};
  const RankNeed each{.device = 0, .host = 0, .file = 2 * kGiB};
  const RankPlace a{.host = "a", .device = {}, .shared = {}, .disk = disk},
      b{.host = "b", .device = {}, .shared = {}, .disk = disk};
  CHECK(fit({each, each}, {a, b}).fits());
  CHECK(lines_of(fit({each, each}, {a, a})) ==
        std::vector<std::string>{
            "files of ranks 0-1: 4.0 GiB wanted, 3.0 GiB there (free space of /scratch): 1.0 GiB short"});
  // Three fp32 states a parameter, in whole chunks.
  const Config config = gpt2(1, {"zero.offload=nvme", "zero.nvme_path=/scratch"});
  const RankNeed planned_need = needs_of(make_plan(config, *planning_ops(config)), config)[0];
  CHECK(planned_need.file >= 12 * int64_t{124439808});
  CHECK(planned_need.file < 13 * int64_t{124439808} + (int64_t{12} << 20) * 14);
}

TEST_CASE("what is exactly there fits, and an unknown limit limits nothing") {
  CHECK(on_device(2 * kGiB).fits());
  CHECK(!on_device(2 * kGiB + 1).fits());
  const Fit unknown = fit({{.device = kGiB, .host = kGiB}}, {{.host = "a", .device = {}, .shared = {}}});
  CHECK(unknown.claims.empty());
  CHECK(unknown.fits());
}

TEST_CASE("ranks are laid over like hosts in order") {
  const auto places = uniform_places(5, 2, kDevice, kHost);
  REQUIRE(places.size() == 5);
  CHECK(places[0].host == places[1].host);
  CHECK(places[1].host != places[2].host);
  CHECK(places[3].host != places[4].host);
  CHECK(places[4].shared->bytes == kHost.bytes);
  for (const RankPlace& place : uniform_places(5, 0, kDevice, kHost)) CHECK(place.host == places[0].host);
}

TEST_CASE("memory.device_limit is a limit, unset none") {
  Config config;
  CHECK(!device_limit(config));
  config.memory.device_limit.bytes = 77;
  CHECK(device_limit(config)->bytes == 77);
  CHECK(device_limit(config)->source == "memory.device_limit");
}

TEST_CASE("a config that fits is let through, one that does not is refused with the shortfall") {
  const Config config = gpt2(1);
  const Fitting roomy = [](const Config&) { return on_device(kGiB); };
  CHECK(check_fit(config, roomy).missing() == 0);
  const std::string text = error_of([&] {
    check_fit(config, planned(Limit{int64_t{2600} << 20, "memory.device_limit"}, kHost));
  });
  check_holds(text,
              {"the run does not fit in memory; nothing was allocated\n  device memory of rank 0: 3.1 GiB wanted, "
               "2.5 GiB there (memory.device_limit): ",
               " MiB short\nThe cheapest that fits: set train.micro_batch: 1 (device "});
  // The host's fits, and is not complained of.
  CHECK(text.find("host") == std::string::npos);
}

TEST_CASE("of the settings that fit the one that costs least time is told") {
  const Config config = gpt2(4, {"train.micro_batch=1"});
  const auto told = [&](const std::function<bool(const Config&)>& fits) {
    return advice(config, on_device(3 * kGiB), [&](const Config& c) { return on_device(fits(c) ? kGiB : 3 * kGiB); });
  };
  const std::string bytes = " (device 1.0 GiB instead of 3.0 GiB; ";
  CHECK(told([](const Config& c) { return c.zero.stage >= 1 || c.train.recompute == Recompute::full; }) ==
        "The cheapest that fits: set zero.stage: 1" + bytes + "no more communication)");
  CHECK(told([](const Config& c) { return c.train.recompute != Recompute::none; }) ==
        "The cheapest that fits: set train.recompute: selective" + bytes + "a few % more time)");
  // Forward of the layers again: recompute_flops_per_token / flops_per_token = 188.7 M / 797.8 M.
  CHECK(told([](const Config& c) { return c.train.recompute == Recompute::full; }) ==
        "The cheapest that fits: set train.recompute: full" + bytes + "about 24 % more arithmetic)");
  // 16 micro-batches a step, summed one by one: 16 + 1 for 2.
  CHECK(told([](const Config& c) { return c.zero.stage == 2; }) ==
        "The cheapest that fits: set zero.stage: 2" + bytes + "about 8.5 times the communication volume)");
  CHECK(told([](const Config& c) { return c.zero.stage == 1 && c.train.recompute == Recompute::selective; }) ==
        "The cheapest that fits: set train.recompute: selective, zero.stage: 1" + bytes +
            "a few % more time; no more communication)");
  // Two cheap ones before a dear one.
  CHECK(told([](const Config& c) {
          return c.train.recompute == Recompute::full ||
                 (c.zero.stage == 1 && c.train.recompute == Recompute::selective);
        }).starts_with("The cheapest that fits: set train.recompute: selective, zero.stage: 1 ("));
  CHECK(told([](const Config& c) { return !c.checkpoint.async; }) ==
        "The cheapest that fits: set checkpoint.async: false" + bytes +
            "training waits while a checkpoint is written)");
}

TEST_CASE("shards kept within groups can be shared out over all ranks") {
  const Config config = gpt2(4, {"train.micro_batch=1", "zero.stage=1", "zero.shard_group=2"});
  const auto device_bytes = [](const Config& c) { return needs_of(make_plan(c, *planning_ops(c)), c)[0].device; };
  Config spread = config;
  spread.zero.shard_group = 0;
  // A quarter of the states of 12 bytes a parameter instead of a half.
  CHECK(device_bytes(config) - device_bytes(spread) > 12 * 124439808 / 4);
  const std::string text = advice(config, on_device(3 * kGiB),
                                  [](const Config& c) { return on_device(c.zero.shard_group == 0 ? kGiB : 3 * kGiB); });
  check_holds(text, {"set zero.shard_group: auto (device ", "gathers leave the group"});
}

TEST_CASE("with one micro-batch a step the stages cost what the paper says: nothing, nothing, half as much again") {
  Config config = gpt2(4, {"train.micro_batch=16"});
  const auto told = [&](int stage) {
    return advice(config, on_device(3 * kGiB), [=](const Config& c) {
      return on_device(c.zero.stage == stage && c.train.micro_batch == 16 ? kGiB : 3 * kGiB);
    });
  };
  check_holds(told(1), {"zero.stage: 1 (", "no more communication"});
  check_holds(told(2), {"zero.stage: 2 (", "no more communication"});
  check_holds(told(3), {"zero.stage: 3 (", "about 50 % more communication volume"});
}

TEST_CASE("micro-batches are halved while they stay whole, and the global batch is kept") {
  Config config = gpt2(1);
  config.train.micro_batch = 12;
  config.train.global_batch = 48;
  std::vector<int64_t> tried;
  (void)advice(config, on_device(3 * kGiB), [&](const Config& c) {
    CHECK(c.train.global_batch == config.train.global_batch);
    if (std::find(tried.begin(), tried.end(), c.train.micro_batch) == tried.end()) tried.push_back(c.train.micro_batch);
    return on_device(3 * kGiB);
  });
  std::sort(tried.begin(), tried.end());
  CHECK(tried == std::vector<int64_t>{1, 3, 6, 12});
}

TEST_CASE("only what this build can do is advised, and only towards less memory") {
  const Config config = gpt2(1, {"train.recompute=selective", "checkpoint.async=false", "train.micro_batch=1"});
  int asked = 0;
  const std::string text = advice(config, on_device(3 * kGiB), [&](const Config& c) {
    ++asked;
    CHECK(validate(c, 0).empty());
    CHECK((c.train.recompute == Recompute::selective || c.train.recompute == Recompute::full));
    CHECK((c.zero.stage == 0 || c.zero.offload_parameters != Offload::none));
    return on_device(3 * kGiB);
  });
  CHECK(asked > 1);
  CHECK(text.starts_with("No other setting of this grid takes less. Spread the model over more ranks"));
}

TEST_CASE("offload comes after what costs less, and is planned for real") {
  // The states of GPT-2 124M are 2.2 GB: with 1 GiB of device memory they have to leave it.
  const Config config = gpt2(1, {"device=cuda"});
  const Fitting fitting = planned(Limit{kGiB, "memory.device_limit"}, Limit{100 * kGiB, "MemAvailable"});
  const std::string text = advice(config, fitting(config), fitting);
  check_holds(text, {"The cheapest that fits: set ", "zero.offload: host", "the processor updates the weights"});
  // Weights that stay on the device are 0.25 GB, and the search does not move them for nothing.
  CHECK(text.find("offload_parameters") == std::string::npos);
}

TEST_CASE("when nothing fits the nearest is told, with what it lacks") {
  const Config config = gpt2(4, {"train.micro_batch=1"});
  const std::string text = advice(config, on_device(5 * kGiB), [](const Config& c) {
    return on_device((c.zero.stage == 3 ? 3 : 5) * kGiB - (c.train.recompute == Recompute::full ? kGiB / 2 : 0));
  });
  check_holds(text,
              {"Nothing that can be set on this grid fits. The nearest: set train.recompute: full, zero.stage: 3 ",
               "(device 2.5 GiB instead of 5.0 GiB;", "), still 512.0 MiB short.\nSpread the model"});
}

TEST_CASE("recompute: auto takes the least that fits, by the plan") {
  // What GPT-2 124M takes: none > selective > full.
  const auto device_bytes = [](const char* recompute) {
    const Config config = gpt2(1, {build_string("train.recompute=", recompute)});
    return needs_of(make_plan(config, *planning_ops(config)), config)[0].device;
  };
  const int64_t none = device_bytes("none"), selective = device_bytes("selective"), full = device_bytes("full");
  REQUIRE(none > selective);
  REQUIRE(selective > full);
  const auto settle = [](int64_t limit) {
    Config config = gpt2(1, {"train.recompute=auto"});
    const std::string note = settle_recompute(config, planned(Limit{limit, "memory.device_limit"}, kHost));
    return std::pair{config.train.recompute, note};
  };
  CHECK(settle(none).first == Recompute::none);
  CHECK(settle(none - 1).first == Recompute::selective);
  CHECK(settle(selective).first == Recompute::selective);
  CHECK(settle(selective - 1).first == Recompute::full);
  CHECK(settle(full).first == Recompute::full);
  check_holds(settle(full).second, {"recompute: full, chosen by the plan: device memory of rank 0: ",
                                    " there (memory.device_limit); none takes ", ", selective takes "});
  check_holds(error_of([&] { settle(full - 1); }),
              {"train.recompute: auto: even full does not fit\n  device memory of rank 0: ",
               "The cheapest that fits: set train.micro_batch: 2 (device "});
}

TEST_CASE("recompute: auto without a device's limit goes by the host's, and without any is refused") {
  Config config = gpt2(1, {"train.recompute=auto"});
  check_holds(settle_recompute(config, planned(std::nullopt, kHost)),
              {"recompute: none, chosen by the plan: host memory of rank 0: ", "(MemAvailable)"});
  config.train.recompute = Recompute::automatic;
  check_holds(error_of([&] { settle_recompute(config, planned(std::nullopt, std::nullopt)); }),
              {"train.recompute: auto", "set memory.device_limit"});
  // The host's memory is not a GPU's.
  Config gpu = gpt2(1, {"train.recompute=auto", "device=cuda"});
  check_holds(error_of([&] { settle_recompute(gpu, planned(std::nullopt, kHost)); }), {"set memory.device_limit"});
}

TEST_CASE("a recompute that was set stays, and nothing is planned for it") {
  Config config = gpt2(1, {"train.recompute=selective"});
  CHECK(settle_recompute(config, [](const Config&) -> Fit { throw InternalError("not asked"); }).empty());
  CHECK(config.train.recompute == Recompute::selective);
}

TEST_CASE("a plan without a decided recompute is our mistake") {
  const Config config = gpt2(1, {"train.recompute=auto"});
  CHECK_THROWS_AS(make_plan(config, *planning_ops(config)), InternalError);
}
