// Grid: this rank's communicators, one per axis, made from the world by Topology.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "core/comm/communicator.h"
#include "core/comm/ledger.h"
#include "core/comm/topology.h"

namespace trident {

class Watchdog;

/// All ranks of the job. Owns MPI's part of it: the only door to MPI for the layers above.
class World {
 public:
  virtual ~World() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string host() const = 0;
  /// Ranks on the same host, and this one's position among them.
  virtual int local_rank() const = 0;
  virtual int local_size() const = 0;
  /// A communicator of the ranks that give the same `color`, ordered by world rank. Collective over the world.
  virtual std::unique_ptr<Communicator> split(int color, std::string_view axis) = 0;
  virtual Ledger& ledger() = 0;
  /// What finds out who is missing when a collective never ends; nullptr in a world of one.
  virtual Watchdog* watchdog() { return nullptr; }
  /// Ends the whole job at once with this exit code, after one line on stderr.
  [[noreturn]] virtual void abort(int code, std::string_view message) = 0;
};

/// The sizes that MPI communicators work with. The defaults are right; tests make them small to reach every path.
struct CommLimits {
  size_t scratch_bytes = size_t{8} << 20;  ///< of each communicator, for reductions in flight
  size_t message_bytes = size_t{1} << 30;  ///< longest MPI message (its counts are int); at most 2^31 - 1
  size_t tiny_bytes = 2048;                ///< an all_reduce up to this size takes one round of messages
  bool shared_memory = true;               ///< between ranks of one host, where the system allows it
  size_t stage_bytes = size_t{1} << 20;    ///< of each rank in a communicator's shared memory
};

/// MPI_COMM_WORLD; MPI must be initialised (MPI_THREAD_MULTIPLE). Detects a job whose processes each think they are
/// alone (mpirun's environment says N ranks, MPI says 1) and throws UserError that says how to start properly.
/// `timeout`: how long an operation may wait without a message before the job ends. The world outlives its
/// communicators.
std::unique_ptr<World> make_mpi_world(std::chrono::duration<double> timeout, const CommLimits& limits = {});
/// A world of one without MPI: plan, verify's reference run, unit tests.
std::unique_ptr<World> make_self_world();

/// The communicators of one rank, one per axis. `ends` joins the first and last stage of this rank's pipeline (tied
/// embeddings): size 1 on stages between them and when there is one stage. `shards` joins the ranks that share shards,
/// `replicas` those that hold the same one: parts of the data axis with hybrid sharding, else `shards` is absent (the
/// whole axis) and `replicas` has one rank.
struct Grid {
  Topology topology;
  Coordinates at;
  std::unique_ptr<Communicator> world, tensor, context, data, pipeline, ends, shards, replicas;

  Communicator& shard_axis() { return shards ? *shards : *data; }
};

/// "data, tensor: shared memory; pipeline: MPI": what the collectives of each axis go through; empty where no axis is
/// longer than one.
std::string describe_transport(const Grid&);

/// Splits the world; throws UserError when topology.ranks() != world.size().
Grid make_grid(World&, const Topology&);

}  // namespace trident
