#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/comm/grid.h"
#include "core/comm/launch.h"
#include "core/comm/mpi_communicator.h"

namespace trident {
namespace {

std::string host_name() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "unknown host";
  return name.data();
}

void check_start() {
  int initialised = 0;
  MPI_Initialized(&initialised);
  ensure(initialised != 0, "MPI is initialised before the world is made");
  int level = 0;
  MPI_Query_thread(&level);
  if (level < MPI_THREAD_MULTIPLE) {
    throw UserError(build_string("this MPI library gives thread level ", level, ", Trident needs MPI_THREAD_MULTIPLE (",
                                 MPI_THREAD_MULTIPLE,
                                 "): reductions overlap with compute in threads of their own. Use an Open MPI built "
                                 "with thread support, as every distribution's is"));
  }
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const std::string problem = launch_problem(size, [](const char* name) { return std::getenv(name); });
  if (!problem.empty()) throw UserError(problem);
}

/// The host of every rank. Before there is a communicator of ours; MPI's own collective will do.
std::vector<std::string> all_hosts(const std::string& mine, int size) {
  constexpr size_t kWidth = 256;
  std::array<char, kWidth> name{};
  mine.copy(name.data(), kWidth - 1);
  std::vector<char> names(kWidth * size);
  check_mpi(MPI_Allgather(name.data(), kWidth, MPI_CHAR, names.data(), kWidth, MPI_CHAR, MPI_COMM_WORLD),
            "MPI_Allgather");
  std::vector<std::string> hosts(size);
  for (int i = 0; i < size; ++i) hosts[i] = names.data() + kWidth * i;
  return hosts;
}

class MpiWorld final : public World {
 public:
  MpiWorld(Seconds timeout, const CommLimits& limits) : host_(host_name()) {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    MPI_Comm node = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node),
              "MPI_Comm_split_type");
    MPI_Comm_rank(node, &local_rank_);
    MPI_Comm_size(node, &local_size_);
    MPI_Comm_free(&node);
    shared_memory_ = limits.shared_memory;
    watchdog_ = std::make_unique<Watchdog>(ledger_, all_hosts(host_, size_));
    shared_ = std::make_unique<MpiShared>(MpiShared{ledger_, *watchdog_, timeout, limits});
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string host() const override { return host_; }
  int local_rank() const override { return local_rank_; }
  int local_size() const override { return local_size_; }
  Ledger& ledger() override { return ledger_; }
  Watchdog* watchdog() override { return watchdog_.get(); }

  std::unique_ptr<Communicator> split(int color, std::string_view axis) override {
    const int number = splits_++;
    MPI_Comm group = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split(MPI_COMM_WORLD, color, rank_, &group), "MPI_Comm_split");
    int members = 1;
    MPI_Comm_size(group, &members);
    if (members == 1) {
      MPI_Comm_free(&group);
      return make_self_communicator(axis);
    }
    std::vector<int> world_ranks(members);
    check_mpi(MPI_Allgather(&rank_, 1, MPI_INT, world_ranks.data(), 1, MPI_INT, group), "MPI_Allgather");
    SharedSegment segment = shared_segment(group, axis);
    return std::make_unique<MpiCommunicator>(group, number, axis, std::move(world_ranks), *shared_, std::move(segment));
  }

  void abort(int code, std::string_view message) override { watchdog_->fail(code, message); }

 private:
  /// For the group's collectives, if it can have one. One refusal is enough: it would be the same the next time.
  SharedSegment shared_segment(MPI_Comm group, std::string_view axis) {
    if (!shared_->limits.shared_memory || !on_one_host(group)) return {};
    int members = 1;
    MPI_Comm_size(group, &members);
    std::string problem;
    const size_t bytes = SharedStage::segment_bytes(members, shared_->limits.stage_bytes);
    SharedSegment segment = make_shared_segment(group, bytes, shared_memory_, problem);
    shared_memory_ = segment.data() != nullptr;
    if (!problem.empty()) {
      log::warn(build_string("no shared memory between the ranks of axis ", axis, " (", problem,
                             "): their collectives go through MPI, which is slower"));
    }
    return segment;
  }

  const std::string host_;
  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
  bool shared_memory_ = true;  ///< false once it was refused
  int splits_ = 0;             ///< the same on all ranks, since split is collective: it numbers the communicators
  Ledger ledger_;
  std::unique_ptr<Watchdog> watchdog_;
  std::unique_ptr<MpiShared> shared_;
};

}  // namespace

std::unique_ptr<World> make_mpi_world(Seconds timeout, const CommLimits& limits) {
  check_start();
  return std::make_unique<MpiWorld>(timeout, limits);
}

}  // namespace trident
