// Fit: what a job wants of memory against what there is, where it is shortest; and when it does not fit, the cheapest
// settings that would. Pure: who calls says what ranks need (the plan) and what their hosts have (limits.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/config/config.h"
#include "core/plan/limits.h"
#include "core/plan/plan.h"

namespace trident {

/// Where a rank runs, and what there is. A limit that is not known limits nothing.
struct RankPlace {
  std::string host;             ///< ranks with equal names share the host's memory
  std::optional<Limit> device;  ///< of this rank alone
  std::optional<Limit> shared;  ///< of the host; where its ranks say different things the least holds
  std::optional<Limit> disk;    ///< of the host's file system under zero.nvme_path; the same
};

/// memory.device_limit, when it is set.
std::optional<Limit> device_limit(const Config&);

/// All ranks of a job on hosts with `ranks_per_host` consecutive ranks (0: on one), which are alike.
std::vector<RankPlace> uniform_places(int ranks, int ranks_per_host, const std::optional<Limit>& device,
                                      const std::optional<Limit>& host);

enum class MemoryKind : uint8_t { device, host, file };

/// What is wanted of one kind of memory where it is shortest.
struct Claim {
  MemoryKind kind = MemoryKind::device;
  std::vector<int> ranks;  ///< the one whose device it is, or all on the host
  int64_t wanted = 0;
  Limit limit;

  int64_t missing() const { return std::max<int64_t>(0, wanted - limit.bytes); }
  bool fits() const { return missing() == 0; }
};

/// The kinds of memory with a known limit.
struct Fit {
  std::vector<Claim> claims;

  bool fits() const { return missing() == 0; }
  int64_t missing() const;
  const Claim* of(MemoryKind) const;
};

/// `needs` and `places` by rank.
Fit fit(const std::vector<RankNeed>& needs, const std::vector<RankPlace>& places);

/// How a config would fit: dry plans and the places at hand.
using Fitting = std::function<Fit(const Config&)>;

/// A line a kind of memory: "device memory of rank 0: 3.4 GiB wanted, 2.0 GiB there (memory.device_limit): 1.4 GiB
/// short".
std::vector<std::string> lines_of(const Fit&);

/// What to set so that a config that does not fit (`before`) does, in one or two lines without a newline at the end.
/// Every legal combination of train.recompute, the zero settings towards less memory, checkpoint.async and a smaller
/// micro-batch is planned, cheapest first. When none fits, the one that comes nearest.
std::string advice(const Config&, const Fit& before, const Fitting&);

/// Throws UserError with the shortfall and the advice when the config does not fit. Returns how it fits.
/// Needs a decided train.recompute.
Fit check_fit(const Config&, const Fitting&);

/// Decides train.recompute: auto: the least of none, selective, full that fits the devices' limits; where they have
/// none and the processor is the device, the hosts'. Returns what was chosen and why, for the log; "" when it was set.
/// Throws UserError when none fits, with the shortfall, and when no limit is known.
std::string settle_recompute(Config&, const Fitting&);

}  // namespace trident
