#include "core/plan/limits.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string_view>

#include "core/base/error.h"
#include "core/base/free_space.h"

namespace trident {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
// Version 1 writes 2^63 less a page for "none".
constexpr int64_t kNoLimit = int64_t{1} << 60;

/// The first word of a file as a number; nothing for "max" and where there is no file.
std::optional<int64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  int64_t number = 0;
  if (file >> number) return number;
  return std::nullopt;
}

/// The number that follows a word at the start of a line: "inactive_file 4096".
std::optional<int64_t> number_after(const std::string& path, std::string_view wanted) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string key;
    int64_t number = 0;
    if (words >> key >> number && key == wanted) return number;
  }
  return std::nullopt;
}

/// The names of one version's files.
struct GroupFiles {
  const char *mount, *limit, *used, *droppable;
};
constexpr GroupFiles kVersion2 = {"/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"};
constexpr GroupFiles kVersion2Beside1 = {"/sys/fs/cgroup/unified", "memory.max", "memory.current", "inactive_file"};
constexpr GroupFiles kVersion1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                  "total_inactive_file"};

/// What one group leaves, in a directory of `mount`.
std::optional<Limit> group_limit(const GroupFiles& files, const std::string& root, const std::string& group) {
  const std::string shown = files.mount + group + (group.ends_with('/') ? "" : "/");
  const std::string folder = root + shown;
  const std::optional<int64_t> limit = number_in(folder + files.limit);
  if (!limit || *limit >= kNoLimit) return std::nullopt;
  const int64_t used = number_in(folder + files.used).value_or(0);
  const int64_t dropped = number_after(folder + "memory.stat", files.droppable).value_or(0);
  return Limit{std::max<int64_t>(0, *limit - std::max<int64_t>(0, used - dropped)), shown + files.limit};
}

/// The tightest group from `group` ("/a/b") up to the root of the hierarchy. Inside a container its own path is often
/// not there, but the root is its group.
std::optional<Limit> hierarchy_limit(const GroupFiles& files, const std::string& root, std::string group) {
  std::optional<Limit> tightest;
  for (;;) {
    tightest = least(tightest, group_limit(files, root, group));
    if (group.size() <= 1) return tightest;
    group.resize(std::max<size_t>(1, group.rfind('/')));
  }
}

std::optional<Limit> cgroup_limit(const std::string& root) {
  std::optional<Limit> tightest;
  std::ifstream groups(root + "/proc/self/cgroup");
  // "4:memory:/job_7/step_0" in version 1, "0::/job_7/step_0" in version 2.
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos || second + 1 >= line.size() || line[second + 1] != '/') continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string group = line.substr(second + 1);
    if (controllers == ",,") {
      tightest = least(tightest, hierarchy_limit(kVersion2, root, group));
      tightest = least(tightest, hierarchy_limit(kVersion2Beside1, root, group));
    } else if (controllers.find(",memory,") != std::string::npos) {
      tightest = least(tightest, hierarchy_limit(kVersion1, root, group));
    }
  }
  return tightest;
}

class SlurmLimits {
 public:
  explicit SlurmLimits(const HostFacts& facts) : facts_(facts) {}

  void add_to(std::vector<Limit>& limits) const {
    if (const auto whole = positive("SLURM_MEM_PER_NODE")) limits.push_back({*whole * kMiB, "SLURM_MEM_PER_NODE"});
    add_product(limits, "SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE");
    add_product(limits, "SLURM_MEM_PER_GPU", "SLURM_GPUS_ON_NODE");
  }

 private:
  std::optional<int64_t> positive(const char* name) const {
    const char* text = facts_.variable ? facts_.variable(name) : std::getenv(name);
    std::istringstream stream(text == nullptr ? "" : text);
    int64_t number = 0;
    return stream >> number && number > 0 ? std::optional(number) : std::nullopt;
  }

  void add_product(std::vector<Limit>& limits, const char* each, const char* count) const {
    const auto mib = positive(each), times = positive(count);
    if (mib && times) limits.push_back({*mib * *times * kMiB, build_string(each, " x ", count)});
  }

  const HostFacts& facts_;
};

}  // namespace

std::optional<Limit> least(const std::optional<Limit>& a, const std::optional<Limit>& b) {
  if (!a || !b) return a ? a : b;
  return b->bytes < a->bytes ? b : a;
}

std::vector<Limit> host_limits(const HostFacts& facts) {
  std::vector<Limit> limits;
  if (const auto bytes = available_memory_bytes(facts.root)) {
    limits.push_back({*bytes, "MemAvailable of /proc/meminfo"});
  }
  if (const auto group = cgroup_limit(facts.root)) limits.push_back(*group);
  SlurmLimits(facts).add_to(limits);
  return limits;
}

std::optional<Limit> host_limit(const HostFacts& facts) {
  std::optional<Limit> tightest;
  for (const Limit& limit : host_limits(facts)) tightest = least(tightest, limit);
  return tightest;
}

std::optional<Limit> disk_limit(const std::string& path) {
  const std::optional<int64_t> bytes = free_disk_bytes(path);
  return bytes ? std::optional(Limit{*bytes, build_string("free space of ", path)}) : std::nullopt;
}

}  // namespace trident
