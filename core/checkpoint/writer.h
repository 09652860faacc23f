// Saving: every rank writes its pieces into its own shard file, rank 0 the manifest, and one rename makes it a
// checkpoint. A save that is killed or refused anywhere before that leaves the last good checkpoint untouched.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "core/base/tensor.h"
#include "core/checkpoint/manifest.h"
#include "core/checkpoint/pieces.h"
#include "core/comm/communicator.h"

namespace trident {

struct CheckpointOptions {
  std::string root;    ///< of all checkpoints of the run; created; on a file system that all ranks share
  int keep = 3;        ///< complete checkpoints to keep, at least 1
  bool async = false;  ///< write in a thread, from a copy
  /// Where async saves copy to: u8, host, at least staging_bytes(). Absent: allocated at the first async save.
  Tensor staging = {};
};

/// Every member but the constructor and destructor is collective over `world`, in the calling thread, and either
/// returns on all ranks or throws a RunError with the same text on all of them, naming the ranks that failed, the file
/// and the reason. After a throw nothing is in flight and the next save starts afresh.
class CheckpointWriter {
 public:
  CheckpointWriter(CheckpointOptions, Communicator& world);
  /// Gives up a save in flight; its temporary directory is removed by the next save.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Saves as step meta.step, which all ranks give alike; the rest of `meta` is rank 0's. Finishes the save in flight
  /// first. Synchronous: returns the path of the committed checkpoint. Asynchronous: returns nothing as soon as the
  /// pieces are copied; poll() or finish() commits.
  std::optional<std::string> begin_save(std::span<const LocalPiece>, const CheckpointMeta& meta);

  /// Once per step: commits when every rank has written its shard. One byte per rank while a save is in flight, no
  /// traffic otherwise. Returns the path of the checkpoint when this call committed it.
  std::optional<std::string> poll();

  /// Waits for the save in flight, if any, and commits it. Returns its path.
  std::optional<std::string> finish();

  bool saving() const { return saving_; }

 private:
  void prepare();
  void stage(std::span<const LocalPiece>);
  void write(std::span<const LocalPiece>);
  std::string commit();
  void fail_together(const std::string& mine);

  CheckpointOptions options_;
  Communicator& world_;
  bool saving_ = false;
  CheckpointMeta meta_;
  std::chrono::steady_clock::time_point started_;

  std::unique_ptr<std::byte[]> own_staging_;
  std::vector<LocalPiece> staged_;
  std::thread thread_;
  std::atomic<bool> written_{false}, cancelled_{false};
  // Of this rank's shard; the thread's until `written_`.
  Manifest records_;
  std::string error_;
};

}  // namespace trident
