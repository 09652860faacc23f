#include "core/plan/limits.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "core/base/error.h"
#include "support/catch.h"

using namespace trident;

namespace {

/// A host made of files and variables.
class FakeHost {
 public:
  FakeHost()
      : root_(std::filesystem::temp_directory_path() / build_string("trident-limits-", getpid(), "-", made_++)) {}
  ~FakeHost() { std::filesystem::remove_all(root_); }

  FakeHost& file(const std::string& path, const std::string& text) {
    const std::filesystem::path full = root_.string() + path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
    return *this;
  }
  FakeHost& variable(const std::string& name, const std::string& value) {
    variables_[name] = value;
    return *this;
  }
  HostFacts facts() const {
    return {.root = root_.string(), .variable = [this](const char* name) -> const char* {
              const auto found = variables_.find(name);
              return found == variables_.end() ? nullptr : found->second.c_str();
            }};
  }

  void check_only(int64_t bytes, const std::string& source) const {
    const std::vector<Limit> limits = host_limits(facts());
    REQUIRE(limits.size() == 1);
    CHECK(limits[0].bytes == bytes);
    CHECK(limits[0].source == source);
  }

 private:
  static inline int made_ = 0;
  std::filesystem::path root_;
  std::map<std::string, std::string> variables_;
};

constexpr int64_t kMiB = int64_t{1} << 20;

}  // namespace

TEST_CASE("a host that says nothing has no limit") {
  const FakeHost host;
  CHECK(host_limits(host.facts()).empty());
  CHECK(!host_limit(host.facts()));
}

TEST_CASE("what the kernel calls available is a limit") {
  FakeHost host;
  host.file("/proc/meminfo", "MemTotal:       4096 kB\nMemFree: 10 kB\nMemAvailable:    2048 kB\n");
  host.check_only(2 * kMiB, "MemAvailable of /proc/meminfo");
}

TEST_CASE("control groups, version 2: the tightest of the hierarchy, less what is in use and can't be dropped") {
  FakeHost host;
  host.file("/proc/self/cgroup", "0::/slurm/job_7/step_0\n")
      .file("/sys/fs/cgroup/slurm/job_7/step_0/memory.max", "max\n")
      .file("/sys/fs/cgroup/slurm/job_7/memory.max", "1000000\n")
      .file("/sys/fs/cgroup/slurm/job_7/memory.current", "700000\n")
      .file("/sys/fs/cgroup/slurm/job_7/memory.stat", "anon 1\ninactive_file 300000\nactive_file 9\n")
      .file("/sys/fs/cgroup/slurm/memory.max", "5000000\n")
      .file("/sys/fs/cgroup/slurm/memory.current", "4000000\n");
  host.check_only(600000, "/sys/fs/cgroup/slurm/job_7/memory.max");
  // A higher one may leave less.
  host.file("/sys/fs/cgroup/slurm/memory.current", "4900000\n");
  host.check_only(100000, "/sys/fs/cgroup/slurm/memory.max");
  // More in use than allowed, and nothing is left.
  host.file("/sys/fs/cgroup/slurm/memory.current", "5900000\n");
  host.check_only(0, "/sys/fs/cgroup/slurm/memory.max");
}

TEST_CASE("inside a container the group's path is not there, and the root is the container's own") {
  FakeHost host;
  host.file("/proc/self/cgroup", "0::/docker/4711\n").file("/sys/fs/cgroup/memory.max", "4096\n");
  host.check_only(4096, "/sys/fs/cgroup/memory.max");
}

TEST_CASE("control groups, version 1, and the empty second one beside it") {
  FakeHost host;
  host.file("/proc/self/cgroup", "9:name=systemd:/a\n5:cpu,memory:/a/b\n0::/c\n")
      .file("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n")
      .file("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "8000\n")
      .file("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "3000\n")
      .file("/sys/fs/cgroup/memory/a/memory.stat", "inactive_file 1\ntotal_inactive_file 1000\n")
      .file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  host.check_only(6000, "/sys/fs/cgroup/memory/a/memory.limit_in_bytes");
  FakeHost unlimited;
  unlimited.file("/proc/self/cgroup", "5:memory:/\n")
      .file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  CHECK(host_limits(unlimited.facts()).empty());
  host.file("/sys/fs/cgroup/unified/c/memory.max", "500\n");
  host.check_only(500, "/sys/fs/cgroup/unified/c/memory.max");
}

TEST_CASE("Slurm's limits are MiB of the job on this host") {
  FakeHost node, cpu, gpu, half, all;
  node.variable("SLURM_MEM_PER_NODE", "3").check_only(3 * kMiB, "SLURM_MEM_PER_NODE");
  cpu.variable("SLURM_MEM_PER_CPU", "5")
      .variable("SLURM_CPUS_ON_NODE", "4")
      .check_only(20 * kMiB, "SLURM_MEM_PER_CPU x SLURM_CPUS_ON_NODE");
  gpu.variable("SLURM_MEM_PER_GPU", "7")
      .variable("SLURM_GPUS_ON_NODE", "2")
      .check_only(14 * kMiB, "SLURM_MEM_PER_GPU x SLURM_GPUS_ON_NODE");
  // One factor alone says nothing, and 0 means all of the host.
  CHECK(host_limits(half.variable("SLURM_MEM_PER_CPU", "5").facts()).empty());
  CHECK(host_limits(all.variable("SLURM_MEM_PER_NODE", "0").facts()).empty());
  CHECK(host_limits(all.variable("SLURM_MEM_PER_NODE", "much").facts()).empty());
}

TEST_CASE("the least limit holds") {
  FakeHost host;
  host.file("/proc/meminfo", "MemAvailable: 9216 kB\n").variable("SLURM_MEM_PER_NODE", "8");
  CHECK(host_limits(host.facts()).size() == 2);
  CHECK(host_limit(host.facts())->source == "SLURM_MEM_PER_NODE");
  host.file("/proc/self/cgroup", "0::/\n").file("/sys/fs/cgroup/memory.max", "77\n");
  CHECK(host_limit(host.facts())->bytes == 77);
  const Limit few{1, "few"}, many{2, "many"};
  CHECK(least(few, many)->source == "few");
  CHECK(least(many, few)->source == "few");
  CHECK(least(std::nullopt, many)->source == "many");
  CHECK(least(many, std::nullopt)->source == "many");
  CHECK(!least(std::nullopt, std::nullopt));
}

TEST_CASE("this host has memory, and room in files, also where the directory is still to be made") {
  REQUIRE(host_limit());
  CHECK(host_limit()->bytes > 0);
  const std::string there = std::filesystem::temp_directory_path(), absent = there + "/trident-absent/deeper";
  REQUIRE(disk_limit(there));
  CHECK(disk_limit(there)->bytes > 0);
  REQUIRE(disk_limit(absent));
  CHECK(disk_limit(absent)->source == "free space of " + absent);
  CHECK(!std::filesystem::exists(there + "/trident-absent"));
}
