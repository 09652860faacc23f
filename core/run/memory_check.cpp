#include "core/run/memory_check.h"

#include <cstring>
#include <span>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/device/cuda_facts.h"

namespace trident {
namespace {

static_assert(std::is_trivially_copyable_v<RankNeed>);

void pack(std::vector<std::byte>& out, const std::string& text) {
  const std::span bytes = std::as_bytes(std::span(text));
  out.insert(out.end(), bytes.begin(), bytes.end());
  out.push_back(std::byte{'\n'});
}

void pack(std::vector<std::byte>& out, const std::optional<Limit>& limit) {
  pack(out, limit ? std::to_string(limit->bytes) : "");
  pack(out, limit ? limit->source : "");
}

std::optional<Limit> unpack_limit(std::istream& in) {
  std::string bytes, source;
  std::getline(in, bytes);
  std::getline(in, source);
  if (bytes.empty()) return std::nullopt;
  return Limit{std::stoll(bytes), source};
}

std::vector<RankPlace> gather_places(const RankPlace& mine, Communicator& all) {
  std::vector<std::byte> packed;
  pack(packed, mine.host);
  pack(packed, mine.device);
  pack(packed, mine.shared);
  pack(packed, mine.disk);
  std::vector<RankPlace> places;
  for (const auto& bytes : all.all_gather_bytes(packed)) {
    std::istringstream in(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    RankPlace& place = places.emplace_back();
    std::getline(in, place.host);
    place.device = unpack_limit(in);
    place.shared = unpack_limit(in);
    place.disk = unpack_limit(in);
  }
  return places;
}

}  // namespace

std::optional<Limit> device_limit(const Config& config, const World& world) {
  std::optional<Limit> limit = device_limit(config);
  if (config.device == DeviceKind::cuda) {
    if (const size_t free = free_gpu_bytes(world.local_rank()); free > 0) {
      limit = least(limit, Limit{static_cast<int64_t>(free), "free on the GPU"});
    }
  }
  return limit;
}

MemoryCheck::MemoryCheck(const Config& config, World& world, const HostFacts& facts)
    : world_(world), all_(world.split(0, "memory check")) {
  places_ = gather_places({.host = world.host(),
                           .device = device_limit(config, world),
                           .shared = host_limit(facts),
                           .disk = config.zero.nvme_path.empty() ? std::nullopt : disk_limit(config.zero.nvme_path)},
                          *all_);
}

Fit MemoryCheck::fit_together(const Config& config) {
  const RankNeed mine = need_of(plan_rank(config, world_.rank(), *planning_ops(config)), config);
  std::vector<RankNeed> needs;
  for (const auto& bytes : all_->all_gather_bytes(std::as_bytes(std::span(&mine, 1)))) {
    std::memcpy(&needs.emplace_back(), bytes.data(), sizeof(RankNeed));
  }
  return fit(needs, places_);
}

std::string MemoryCheck::settle_recompute(Config& config) {
  return trident::settle_recompute(config, [this](const Config& c) { return fit_together(c); });
}

Fit MemoryCheck::check(const Config& config) {
  return check_fit(config, [this](const Config& c) { return fit_together(c); });
}

Config with_settled_recompute(const Config& config, World& world) {
  Config settled = config;
  if (config.train.recompute != Recompute::automatic) return settled;
  log::info(MemoryCheck(config, world).settle_recompute(settled));
  return settled;
}

}  // namespace trident
