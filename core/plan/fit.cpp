#include "core/plan/fit.h"

#include <map>
#include <numeric>

#include "core/base/error.h"
#include "core/base/format.h"

namespace trident {
namespace {

/// Keeps the claim that is shorter: of two that fit, the one with less to spare.
void keep_shorter(std::optional<Claim>& kept, Claim claim) {
  if (!kept || claim.wanted - claim.limit.bytes > kept->wanted - kept->limit.bytes) kept = std::move(claim);
}

std::string where(const Claim& claim) {
  constexpr const char* kNames[] = {"device memory of rank", "host memory of rank", "files of rank"};
  return build_string(kNames[static_cast<size_t>(claim.kind)], claim.ranks.size() > 1 ? "s " : " ",
                      rank_ranges(claim.ranks));
}

std::string line(const Claim& claim) {
  return build_string(where(claim), ": ", format_bytes(claim.wanted), " wanted, ", format_bytes(claim.limit.bytes),
                      " there (", claim.limit.source, ")",
                      claim.fits() ? "" : ": " + format_bytes(claim.missing()) + " short");
}

}  // namespace

std::optional<Limit> device_limit(const Config& config) {
  if (config.memory.device_limit.bytes == 0) return std::nullopt;
  return Limit{config.memory.device_limit.bytes, "memory.device_limit"};
}

std::vector<RankPlace> uniform_places(int ranks, int ranks_per_host, const std::optional<Limit>& device,
                                      const std::optional<Limit>& host) {
  std::vector<RankPlace> places;
  for (int rank = 0; rank < ranks; ++rank) {
    places.push_back(
        {.host = std::to_string(ranks_per_host > 0 ? rank / ranks_per_host : 0), .device = device, .shared = host});
  }
  return places;
}

int64_t Fit::missing() const {
  int64_t sum = 0;
  for (const Claim& claim : claims) sum += claim.missing();
  return sum;
}

const Claim* Fit::of(MemoryKind kind) const {
  for (const Claim& claim : claims) {
    if (claim.kind == kind) return &claim;
  }
  return nullptr;
}

Fit fit(const std::vector<RankNeed>& needs, const std::vector<RankPlace>& places) {
  ensure(needs.size() == places.size(), "every rank has a place");
  struct Host {
    int64_t wanted = 0, file = 0;
    std::optional<Limit> limit, disk;
    std::vector<int> ranks;
  };
  std::map<std::string, Host> hosts;
  std::optional<Claim> device, shared, files;
  for (size_t i = 0; i < needs.size(); ++i) {
    const int rank = static_cast<int>(i);
    if (places[i].device) {
      keep_shorter(
          device, {.kind = MemoryKind::device, .ranks = {rank}, .wanted = needs[i].device, .limit = *places[i].device});
    }
    Host& host = hosts[places[i].host];
    host.wanted += needs[i].host;
    host.file += needs[i].file;
    host.disk = least(host.disk, places[i].disk);
    host.limit = least(host.limit, places[i].shared);
    host.ranks.push_back(rank);
  }
  for (const auto& [name, host] : hosts) {
    if (host.disk && host.file > 0) {
      keep_shorter(files, {.kind = MemoryKind::file, .ranks = host.ranks, .wanted = host.file, .limit = *host.disk});
    }
    if (!host.limit) continue;
    keep_shorter(shared, {.kind = MemoryKind::host, .ranks = host.ranks, .wanted = host.wanted, .limit = *host.limit});
  }
  Fit result;
  for (const auto& claim : {device, shared, files}) {
    if (claim) result.claims.push_back(*claim);
  }
  return result;
}

std::vector<std::string> lines_of(const Fit& fit) {
  std::vector<std::string> lines;
  for (const Claim& claim : fit.claims) lines.push_back(line(claim));
  return lines;
}

Fit check_fit(const Config& config, const Fitting& fitting) {
  Fit result = fitting(config);
  if (result.fits()) return result;
  std::string short_of;
  for (const Claim& claim : result.claims) {
    if (!claim.fits()) short_of += "\n  " + line(claim);
  }
  throw UserError(build_string("the run does not fit in memory; nothing was allocated", short_of, "\n",
                               advice(config, result, fitting)));
}

std::string settle_recompute(Config& config, const Fitting& fitting) {
  if (config.train.recompute != Recompute::automatic) return "";
  std::string tried;
  for (const Recompute choice : {Recompute::none, Recompute::selective, Recompute::full}) {
    config.train.recompute = choice;
    const Fit all = fitting(config);
    const Claim* claim = all.of(MemoryKind::device);
    // A host has no say about the memory of a GPU.
    if (claim == nullptr && config.device != DeviceKind::cuda) claim = all.of(MemoryKind::host);
    if (claim == nullptr) {
      throw UserError(
          "train.recompute: auto fits a limit, and none is known here; set memory.device_limit to the device's memory "
          "(80GB, for example)");
    }
    if (claim->fits()) {
      return build_string("recompute: ", enum_name(choice), ", chosen by the plan: ", line(*claim),
                          tried.empty() ? "" : "; " + tried);
    }
    tried += build_string(tried.empty() ? "" : ", ", enum_name(choice), " takes ", format_bytes(claim->wanted));
    if (choice == Recompute::full) {
      throw UserError(build_string("train.recompute: auto: even full does not fit\n  ", line(*claim), "\n",
                                   advice(config, all, fitting)));
    }
  }
  throw InternalError("the last choice fits or throws");
}

}  // namespace trident
