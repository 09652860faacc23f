// The plan: what every rank of a config allocates, found by running the real construction on a dry device. Needs no
// device, no MPI and no memory, so it answers for any cluster on a laptop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/comm/topology.h"
#include "core/config/config.h"
#include "core/device/device.h"

namespace trident {

/// A row of the memory table: everything allocated under names with this text before the colon.
struct PlanRow {
  std::string what;  ///< "parameters", "activations", ...
  Place place = Place::device;
  int64_t count = 0;
  size_t bytes = 0;
};

struct RankPlan {
  int rank = 0;
  Coordinates at;
  int64_t parameters = 0;          ///< elements held by this rank, padding included
  std::vector<std::string> parts;  ///< "embedding", "layers 0-5", "head"
  std::vector<PlanRow> rows;
  size_t device_bytes = 0;
  size_t host_bytes = 0;     ///< host memory that holds state (zero.offload)
  size_t pinned_bytes = 0;   ///< host memory that the device copies from and to
  size_t file_bytes = 0;     ///< of the files in zero.nvme_path
  size_t staging_bytes = 0;  ///< host memory of an asynchronous checkpoint; 0 when checkpoints are synchronous

  /// The same parts, and the same bytes in every row.
  bool same_bytes(const RankPlan&) const;
};

struct Plan {
  Topology topology;
  int64_t parameters = 0;  ///< of the model, logical
  std::vector<RankPlan> ranks;
};

/// Answers how much scratch the operations take on the config's device, in every build and on every machine. (On GPUs:
/// those of our own kernels; a run knows what a library asks for.)
std::unique_ptr<Ops> planning_ops(const Config&);

/// Plans every rank of a resolved config. `ops` answers how much scratch the operations take.
Plan make_plan(const Config&, const Ops& ops);
/// One rank of it: what a rank compares its own allocations with.
RankPlan plan_rank(const Config&, int rank, const Ops& ops);

/// Sums allocations by place and the text before the colon of their names, in order of first appearance.
std::vector<PlanRow> allocation_rows(const std::vector<Allocation>&);

/// The sum of the rows at one place.
size_t bytes_at(const std::vector<PlanRow>&, Place);

/// What a rank takes of each kind of memory. Where the device is the processor, its memory is the host's too: `host`
/// then holds `device` as well.
struct RankNeed {
  int64_t device = 0, host = 0, file = 0;
};
RankNeed need_of(const RankPlan&, const Config&);
std::vector<RankNeed> needs_of(const Plan&, const Config&);

/// "0-3, 8" for the ranks {0, 1, 2, 3, 8}.
std::string rank_ranges(const std::vector<int>& ranks);

/// One rank's table as text: what it holds, then bytes by purpose with the number of buffers, the device's and the
/// host's apart.
std::string describe(const RankPlan&);
/// The plan as text: the grid, then a table for each group of ranks with equal bytes.
std::string describe(const Plan&, const Config&);
/// What the fullest host takes when each has `ranks_per_host` ranks, consecutive ones; 0: all are on one.
std::string describe_hosts(const std::vector<RankNeed>&, DeviceKind, int ranks_per_host);

}  // namespace trident
