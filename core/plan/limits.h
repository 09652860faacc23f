// Limits: how much memory there is, and who says so. Of a host several have a say (the kernel, a control group, Slurm)
// and the least of them holds: who takes more is killed without a word.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace trident {

/// An amount of memory that may be taken, and its source in the words of a message: "memory.device_limit".
struct Limit {
  int64_t bytes = 0;
  std::string source;
};

/// Where a host's limits are looked up. Tests give a directory and variables of their own.
struct HostFacts {
  std::string root;                                  ///< before "/proc" and "/sys"
  std::function<const char*(const char*)> variable;  ///< of the environment, nullptr when unset; empty: getenv
};

/// Every limit of this host's memory that can be told, each less what is in use already:
/// - MemAvailable of /proc/meminfo;
/// - the tightest control group from the process's own up to the root, version 2 (memory.max) or 1
///   (memory.limit_in_bytes); file caches that can be dropped do not count as used;
/// - Slurm: SLURM_MEM_PER_NODE, SLURM_MEM_PER_CPU x SLURM_CPUS_ON_NODE or SLURM_MEM_PER_GPU x SLURM_GPUS_ON_NODE (MiB
///   of the whole job on this host, 0: all of the host's).
std::vector<Limit> host_limits(const HostFacts& = {});
/// The least of them; nothing where the system does not say.
std::optional<Limit> host_limit(const HostFacts& = {});

/// Bytes free to this user in the file system that holds `path`, or would when it is made; nothing when that can't be
/// told.
std::optional<Limit> disk_limit(const std::string& path);

/// The lesser of two.
std::optional<Limit> least(const std::optional<Limit>&, const std::optional<Limit>&);

}  // namespace trident
