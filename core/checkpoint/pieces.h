// What one rank does in a save, without any communication: its shard file, and (rank 0) the manifest of all.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/base/tensor.h"
#include "core/checkpoint/manifest.h"
#include "core/checkpoint/slice.h"

namespace trident {

/// A box of a logical tensor that this rank holds. Over all ranks the pieces of a tensor cover it exactly once: a
/// replica is given by one rank only, and padding rows, outside the logical shape, by none.
struct LocalPiece {
  std::string tensor;          ///< "model.layers.0.attn.q.weight"
  std::vector<int64_t> shape;  ///< of the whole logical tensor
  Slice slice;                 ///< may be empty: then nothing is written
  /// slice.numel() elements, row-major, on the host. Dry (shape and dtype only) when `produce` is given.
  Tensor data;
  /// Makes the data when its turn to be written comes, so that a device tensor or an import needs one buffer, not all.
  /// Called once, in the thread of begin_save; the result must stay unchanged until the next call.
  std::function<Tensor()> produce = {};
};

/// Bytes that a copy of these pieces needs.
size_t staging_bytes(std::span<const LocalPiece>);

/// Copies every piece into `staging` (u8, host, at least staging_bytes) and returns pieces that view the copies.
std::vector<LocalPiece> stage_pieces(std::span<const LocalPiece>, Tensor staging);

/// "shard-00007-of-00032.safetensors"
std::string shard_name(int rank, int ranks);

/// Writes DIRECTORY/shard_name(rank, ranks) in bounded portions, fsyncs it and returns its records for the manifest
/// (files and tensors, no meta). No file when there is nothing to write. Gives up with RunError soon after `cancelled`
/// becomes true. Throws RunError when the disk refuses, InternalError when a piece contradicts itself.
Manifest write_shard(const std::string& directory, int rank, int ranks, int64_t step, std::span<const LocalPiece>,
                     const std::atomic<bool>& cancelled);

/// Joins the records of all ranks (manifest_records texts), checks that every tensor is covered exactly once and that
/// every file is there in full size, and writes DIRECTORY/manifest.json durably. Returns the bytes of all files. Throws
/// RunError.
uint64_t write_manifest(const std::string& directory, const CheckpointMeta&, std::span<const std::string> records);

}  // namespace trident
