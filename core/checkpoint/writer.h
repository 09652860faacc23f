// Saving: every rank writes its pieces into its own shard file, rank 0 the manifest, and one rename makes it a
// checkpoint. A save that is killed or refused anywhere before that leaves the last good checkpoint untouched.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "core/base/tensor.h"
#include "core/checkpoint/manifest.h"
#include "core/checkpoint/slice.h"
#include "core/comm/communicator.h"

namespace trident {

/// A box of a logical tensor that this rank holds. Over all ranks the pieces of a tensor cover it exactly once: a
/// replica is given by one rank only, and padding rows, outside the logical shape, by none.
struct LocalPiece {
  std::string tensor;          ///< "model.layers.0.attn.q.weight"
  std::vector<int64_t> shape;  ///< of the whole logical tensor
  Slice slice;
  /// slice.numel() elements, row-major, on the host. Dry (shape and dtype only) when `produce` is given.
  Tensor data;
  /// Makes the data when its turn to be written comes, so that a device tensor or an import needs one buffer, not all.
  /// Called once, in the thread of begin_save; the result must stay unchanged until the next call.
  std::function<Tensor()> produce = {};
};

struct CheckpointOptions {
  std::string root;    ///< of all checkpoints of the run; created; a file system that all ranks share
  int keep = 3;        ///< complete checkpoints to keep, at least 1
  bool async = false;  ///< write in a thread, from a copy
  /// Where async saves copy to: u8, host, at least staging_bytes(). Absent: allocated at the first async save.
  Tensor staging = {};
};

/// Bytes that an async save of these pieces needs.
size_t staging_bytes(std::span<const LocalPiece>);

/// Every member but the destructor is collective over `world` and either returns on all ranks or throws the same
/// RunError on all of them, naming the ranks that failed, file and reason. After a throw the next save starts afresh.
class CheckpointWriter {
 public:
  CheckpointWriter(CheckpointOptions, Communicator& world);
  /// Stops a save in flight without committing it.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Saves step meta.step. Finishes the save in flight first. Synchronous: returns when the checkpoint is committed.
  /// Asynchronous: returns when the pieces are copied; poll() or finish() commits. `meta` is rank 0's.
  void begin_save(std::span<const LocalPiece>, const CheckpointMeta& meta);

  /// Once per step: commits when every rank has written its shard. A few bytes of traffic while a save is in flight,
  /// none otherwise. Returns the path of the checkpoint when this call committed it.
  std::optional<std::string> poll();

  /// Waits for the save in flight, if any, and commits it. Returns its path.
  std::optional<std::string> finish();

  bool saving() const { return saving_; }

 private:
  void prepare(const CheckpointMeta&);
  void write_shard(std::span<const LocalPiece>);
  void stage(std::span<const LocalPiece>);
  std::string commit();
  void fail_together(const std::string& mine);

  CheckpointOptions options_;
  Communicator& world_;
  bool saving_ = false;
  CheckpointMeta meta_;
  std::chrono::steady_clock::time_point started_;
  std::vector<std::byte> own_staging_;
  std::vector<LocalPiece> staged_;
  std::thread thread_;
  std::atomic<bool> thread_done_{false}, cancelled_{false};
  std::string error_;  // of this rank's shard; read after thread_done_
  Manifest records_;   // this rank's file and pieces
};

}  // namespace trident
