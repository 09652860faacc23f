#include "core/run/doctor.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <set>

#include "core/base/error.h"
#include "core/base/format.h"
#include "core/comm/launch.h"
#include "core/comm/mpi_session.h"
#include "kernels/cpu/isa.h"

namespace trident {
namespace {

using State = Finding::State;

constexpr int64_t kGiB = int64_t{1} << 30;

/// The first line of a file; empty when it can't be read.
std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(std::min(line.find(':') + 2, line.size()));
  }
  return "unknown";
}

Finding examine_processor() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int allowed = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
  const long cores = sysconf(_SC_NPROCESSORS_ONLN);
  Finding finding{State::good, "processor",
                  build_string(cpu_model(), ", ", allowed, " of ", cores, " cores for this process, kernels for "), ""};
  try {
    finding.found += describe_cpu_isa();
  } catch (const UserError& error) {
    finding.state = State::problem;
    finding.found += cpu_isa_name(best_cpu_isa());
    finding.fix = error.what();
  }
  return finding;
}

/// A number of bytes from a cgroup file; nothing when there is no limit.
std::optional<int64_t> cgroup_bytes(const std::string& path) {
  const std::string line = first_line(path);
  if (line.empty() || line == "max") return std::nullopt;
  const int64_t bytes = std::atoll(line.c_str());
  // cgroup v1 writes a huge number for no limit.
  return bytes <= 0 || bytes > (int64_t{1} << 60) ? std::nullopt : std::optional(bytes);
}

Finding examine_memory() {
  int64_t total = 0, available = 0;
  std::ifstream file("/proc/meminfo");
  std::string key, rest;
  for (int64_t kib = 0; file >> key >> kib; std::getline(file, rest)) {
    if (key == "MemTotal:") total = kib * 1024;
    if (key == "MemAvailable:") available = kib * 1024;
  }
  std::optional<int64_t> limit = cgroup_bytes("/sys/fs/cgroup/memory.max");
  if (!limit) limit = cgroup_bytes("/sys/fs/cgroup/memory/memory.limit_in_bytes");
  Finding finding{State::good, "memory", build_string(format_bytes(available), " of ", format_bytes(total), " free"),
                  ""};
  if (limit && *limit < total) {
    finding.state = State::note;
    finding.found += build_string(", the container or job is limited to ", format_bytes(*limit));
    finding.fix = "a run beyond the limit is killed without a word; `trident plan` says what each rank needs";
  }
  return finding;
}

Finding examine_shared_memory() {
  struct statvfs info {};
  if (statvfs("/dev/shm", &info) != 0) {
    return {State::problem, "/dev/shm", "not there", "ranks of one host talk through it: mount a tmpfs on /dev/shm"};
  }
  const auto size = static_cast<int64_t>(info.f_blocks * info.f_frsize);
  Finding finding{State::good, "/dev/shm", format_bytes(size), ""};
  if (size < kGiB / 4) {
    finding.state = State::problem;
    finding.fix = "too small for several ranks and for NCCL: start the container with --shm-size=1g or more";
  }
  return finding;
}

std::string limit_text(rlim_t limit) {
  return limit == RLIM_INFINITY ? "unlimited" : format_bytes(static_cast<int64_t>(limit));
}

std::vector<Finding> examine_limits() {
  std::vector<Finding> findings;
  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  Finding locked{State::good, "limits", "locked memory " + limit_text(limit.rlim_cur), ""};
  if (limit.rlim_cur != RLIM_INFINITY && std::filesystem::exists("/sys/class/infiniband")) {
    locked.state = State::problem;
    locked.fix = "InfiniBand pins its buffers: `ulimit -l unlimited` in the job script or limits.conf on the nodes";
  }
  findings.push_back(locked);
  getrlimit(RLIMIT_NOFILE, &limit);
  Finding files{State::good, "limits", build_string("open files ", limit.rlim_cur), ""};
  if (limit.rlim_cur < 1024) {
    files.state = State::note;
    files.fix = "large jobs need more: ulimit -n 65536";
  }
  findings.push_back(files);
  return findings;
}

std::vector<Finding> examine_mpi() {
  std::vector<Finding> findings;
  findings.push_back({State::good, "MPI", mpi_library(), ""});
  const std::string problem = launch_problem(1, [](const char* name) { return std::getenv(name); });
  if (!problem.empty()) findings.push_back({State::problem, "MPI", "started in a way that MPI does not see", problem});
  if (geteuid() == 0 && environment("OMPI_ALLOW_RUN_AS_ROOT").empty()) {
    findings.push_back({State::note, "MPI", "running as root: mpirun will refuse to start",
                        "source scripts/env.sh first, or run as another user"});
  }
  return findings;
}

std::vector<Finding> examine_network() {
  std::vector<Finding> findings;
  ifaddrs* list = nullptr;
  std::set<std::string> seen;
  if (getifaddrs(&list) == 0) {
    for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
      const std::string name = i->ifa_name;
      if ((i->ifa_flags & IFF_LOOPBACK) != 0 || (i->ifa_flags & IFF_UP) == 0 || !seen.insert(name).second) continue;
      const std::string speed = first_line("/sys/class/net/" + name + "/speed");
      const bool known = !speed.empty() && speed[0] != '-';
      findings.push_back({State::good, "network", name + (known ? ", " + speed + " Mb/s" : ", speed unknown"), ""});
    }
    freeifaddrs(list);
  }
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/class/infiniband", none)) {
    const std::string port = entry.path().string() + "/ports/1/";
    const std::string state = first_line(port + "state");
    Finding finding{State::good, "InfiniBand",
                    entry.path().filename().string() + ", " + first_line(port + "rate") + ", " + state, ""};
    if (state.find("ACTIVE") == std::string::npos) {
      finding.state = State::problem;
      finding.fix = "the port is down: cable, switch or subnet manager";
    }
    findings.push_back(finding);
  }
  if (findings.empty()) {
    findings.push_back({State::note, "network", "no interface besides loopback", "jobs stay on this host"});
  }
  return findings;
}

Finding examine_slurm() {
  const std::string job = environment("SLURM_JOB_ID");
  if (!job.empty()) {
    return {State::good, "Slurm",
            build_string("in job ", job, " on ", environment("SLURM_JOB_NODELIST"), ", ",
                         environment("SLURM_NTASKS").empty() ? "?" : environment("SLURM_NTASKS"), " tasks"),
            ""};
  }
  for (const char* folder : {"/usr/bin/sbatch", "/usr/local/bin/sbatch", "/opt/slurm/bin/sbatch"}) {
    if (access(folder, X_OK) == 0) return {State::good, "Slurm", "sbatch is there; not inside a job", ""};
  }
  return {State::good, "Slurm", "not on this machine", ""};
}

}  // namespace

std::vector<Finding> examine_machine() {
  std::vector<Finding> all = {examine_processor(), examine_memory(), examine_shared_memory()};
  for (const auto examine : {examine_limits, examine_mpi, examine_cuda, examine_network}) {
    for (Finding& finding : examine()) all.push_back(std::move(finding));
  }
  all.push_back(examine_slurm());
  return all;
}

std::string describe(const std::vector<Finding>& findings) {
  constexpr const char* kMarks[] = {"ok     ", "note   ", "PROBLEM"};
  size_t width = 0;
  for (const Finding& f : findings) width = std::max(width, f.topic.size());
  std::string text;
  size_t problems = 0;
  for (const Finding& f : findings) {
    text += build_string(kMarks[static_cast<size_t>(f.state)], "  ", pad_right(f.topic, width), "  ", f.found, '\n');
    if (!f.fix.empty()) text += build_string(std::string(7 + 2 + width + 2, ' '), "-> ", f.fix, '\n');
    problems += f.state == State::problem ? 1 : 0;
  }
  return text + (problems == 0   ? "no problem found\n"
                 : problems == 1 ? "1 problem found\n"
                                 : build_string(problems, " problems found\n"));
}

}  // namespace trident
