#include "core/checkpoint/pieces.h"

#include <xxhash.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>

#include "core/base/error.h"
#include "core/base/integer.h"
#include "core/checkpoint/posix_file.h"
#include "core/checkpoint/shard_file.h"

namespace trident {

namespace {

constexpr size_t kStagingAlignment = 64;

size_t aligned(size_t bytes) { return round_up(bytes, kStagingAlignment); }

size_t piece_bytes(const LocalPiece& piece) {
  return static_cast<size_t>(piece.slice.numel()) * dtype_bytes(piece.data.dtype);
}

void check_piece(const LocalPiece& piece) {
  ensure(!piece.shape.empty() && piece.shape.size() <= Tensor::kMaxRank && inside(piece.slice, piece.shape),
         "a piece is a slice of its tensor's logical shape");
  ensure(piece.data.numel() == piece.slice.numel() || piece.slice.numel() == 0, "a piece has its slice's elements");
}

/// The piece's bytes, made now if need be.
std::span<const std::byte> piece_data(const LocalPiece& piece) {
  const Tensor data = piece.produce ? piece.produce() : piece.data;
  ensure(!data.dry() && data.dtype == piece.data.dtype && data.bytes() == piece_bytes(piece),
         "a piece's data has the dtype and size that were announced");
  return {static_cast<const std::byte*>(data.data), data.bytes()};
}

/// Any tool that opens the file sees whole tensors under their own names and parts under "name[0:8,0:4]".
std::string name_in_shard(const LocalPiece& piece) {
  return piece.slice == whole(piece.shape) ? piece.tensor : piece.tensor + piece.slice.describe();
}

uint64_t write_piece(ShardFileWriter& file, std::span<const std::byte> bytes, const std::atomic<bool>& cancelled) {
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> hash(XXH3_createState(), XXH3_freeState);
  XXH3_64bits_reset(hash.get());
  while (!bytes.empty()) {
    if (cancelled) throw RunError("the save was given up");
    const auto portion = bytes.first(std::min(bytes.size(), PosixFile::kChunkBytes));
    XXH3_64bits_update(hash.get(), portion.data(), portion.size());
    file.append(portion);
    bytes = bytes.subspan(portion.size());
  }
  return XXH3_64bits_digest(hash.get());
}

}  // namespace

size_t staging_bytes(std::span<const LocalPiece> pieces) {
  size_t bytes = 0;
  for (const LocalPiece& piece : pieces) bytes += aligned(piece_bytes(piece));
  return bytes;
}

std::vector<LocalPiece> stage_pieces(std::span<const LocalPiece> pieces, Tensor staging) {
  ensure(staging.bytes() >= staging_bytes(pieces), "the staging buffer holds every piece");
  std::vector<LocalPiece> staged;
  staged.reserve(pieces.size());
  auto* at = static_cast<std::byte*>(staging.data);
  for (const LocalPiece& piece : pieces) {
    check_piece(piece);
    LocalPiece copy = {piece.tensor, piece.shape, piece.slice, piece.data};
    if (piece.slice.numel() > 0) {
      const std::span<const std::byte> bytes = piece_data(piece);
      std::memcpy(at, bytes.data(), bytes.size());
      copy.data = Tensor(at, piece.data.dtype, {piece.slice.numel()});
      at += aligned(bytes.size());
    }
    staged.push_back(std::move(copy));
  }
  return staged;
}

std::string shard_name(int rank, int ranks) {
  char name[64];
  std::snprintf(name, sizeof name, "shard-%05d-of-%05d.safetensors", rank, ranks);
  return name;
}

Manifest write_shard(const std::string& directory, int rank, int ranks, int64_t step,
                     std::span<const LocalPiece> pieces, const std::atomic<bool>& cancelled) {
  Manifest records;
  std::vector<ShardTensor> layout;
  std::vector<const LocalPiece*> written;
  for (const LocalPiece& piece : pieces) {
    check_piece(piece);
    const auto [at, added] =
        records.tensors.try_emplace(piece.tensor, ManifestTensor{piece.shape, piece.data.dtype, {}});
    ensure(at->second.shape == piece.shape && at->second.dtype == piece.data.dtype,
           "all pieces of a tensor have its shape and dtype");
    if (piece.slice.numel() == 0) continue;
    layout.push_back({name_in_shard(piece), piece.data.dtype, piece.slice.size});
    written.push_back(&piece);
  }
  if (written.empty()) return records;

  const std::string name = shard_name(rank, ranks);
  ShardFileWriter file(build_string(directory, "/", name), layout,
                       {{"format", "pt"}, {"producer", "trident"}, {"step", std::to_string(step)}});
  for (size_t i = 0; i < written.size(); ++i) {
    const LocalPiece& piece = *written[i];
    const uint64_t checksum = write_piece(file, piece_data(piece), cancelled);
    const ShardTensor& place = file.tensors()[i];
    records.tensors.find(piece.tensor)
        ->second.pieces.push_back({0, file.data_begin() + place.begin, place.bytes(), checksum, piece.slice});
  }
  file.finish();
  records.files.push_back(
      {name, file.file_bytes(), file.data_begin(), XXH3_64bits(file.header().data(), file.header().size())});
  return records;
}

uint64_t write_manifest(const std::string& directory, const CheckpointMeta& meta,
                        std::span<const std::string> records) {
  Manifest manifest;
  manifest.meta = meta;
  for (const std::string& part : records) merge_records(manifest, part);
  for (const auto& [name, tensor] : manifest.tensors) {
    std::vector<Slice> slices;
    for (const ManifestPiece& piece : tensor.pieces) slices.push_back(piece.slice);
    const std::string problem = coverage_problem(whole(tensor.shape), slices);
    if (!problem.empty()) throw RunError(build_string("tensor ", name, ": ", problem));
  }
  for (const ManifestFile& file : manifest.files) {
    const std::string path = build_string(directory, "/", file.name);
    std::error_code missing;
    const auto bytes = std::filesystem::file_size(path, missing);
    if (missing || bytes != file.bytes) {
      throw RunError(build_string("the rank that writes the manifest does not find ", path, " with its ", file.bytes,
                                  " bytes, though another rank wrote it: `out` must be on a file system that all "
                                  "hosts share"));
    }
  }
  const std::string text = manifest_text(manifest);
  PosixFile file = PosixFile::create(directory + "/manifest.json");
  file.write(std::as_bytes(std::span(text)));
  file.sync_and_close();
  return manifest.bytes();
}

}  // namespace trident
