#include "core/checkpoint/verify.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>

#include "core/base/error.h"
#include "core/checkpoint/manifest.h"
#include "core/checkpoint/posix_file.h"
#include "core/checkpoint/reader.h"

namespace trident {

namespace {

using Problems = std::vector<std::string>;

/// A piece and the tensor it belongs to; a file's, sorted by offset.
struct Placed {
  const std::string* tensor;
  const ManifestPiece* piece;
};

std::vector<std::vector<Placed>> pieces_by_file(const Manifest& manifest) {
  std::vector<std::vector<Placed>> files(manifest.files.size());
  for (const auto& [name, tensor] : manifest.tensors) {
    for (const ManifestPiece& piece : tensor.pieces) {
      files[static_cast<size_t>(piece.file)].push_back({&name, &piece});
    }
  }
  for (auto& placed : files) {
    std::sort(placed.begin(), placed.end(),
              [](const Placed& a, const Placed& b) { return a.piece->offset < b.piece->offset; });
  }
  return files;
}

/// Every byte of a file belongs to the header or to one piece, else a change of it would go unseen.
void check_layout(const ManifestFile& file, const std::vector<Placed>& placed, Problems& problems) {
  uint64_t at = file.header_bytes;
  for (const Placed& entry : placed) {
    if (entry.piece->offset != at) break;
    at += entry.piece->bytes;
  }
  if (at != file.bytes) {
    problems.push_back(
        build_string("manifest.json: the pieces in ", file.name, " do not follow each other at byte ", at));
  }
}

void check_manifest(const std::string& path, const Manifest& manifest, Problems& problems) {
  for (const auto& [name, tensor] : manifest.tensors) {
    std::vector<Slice> slices;
    for (const ManifestPiece& piece : tensor.pieces) slices.push_back(piece.slice);
    const std::string problem = coverage_problem(whole(tensor.shape), slices);
    if (!problem.empty()) problems.push_back(build_string("tensor ", name, ": ", problem));
  }
  const auto placed = pieces_by_file(manifest);
  for (size_t i = 0; i < manifest.files.size(); ++i) {
    const ManifestFile& file = manifest.files[i];
    check_layout(file, placed[i], problems);
    std::error_code missing;
    const auto bytes = std::filesystem::file_size(build_string(path, "/", file.name), missing);
    if (missing) {
      problems.push_back(build_string(file.name, ": ", missing.message()));
    } else if (bytes != file.bytes) {
      problems.push_back(build_string(file.name, " has ", bytes, " bytes, its manifest says ", file.bytes));
    }
  }
}

/// Reads a whole file against its checksums.
void check_file(const std::string& path, const ManifestFile& file, const std::vector<Placed>& placed,
                Problems& problems) {
  try {
    std::vector<std::byte> window(std::min<uint64_t>(file.bytes, PosixFile::kChunkBytes));
    const PosixFile opened = PosixFile::open_read(build_string(path, "/", file.name));
    if (opened.size() != file.bytes) return;  // check_manifest has said it
    if (file_checksum(opened, 0, file.header_bytes, window) != file.header_checksum) {
      problems.push_back(
          build_string(file.name, ": the header (bytes 0 to ", file.header_bytes, ") does not match its checksum"));
    }
    for (const Placed& entry : placed) {
      const ManifestPiece& piece = *entry.piece;
      if (file_checksum(opened, piece.offset, piece.bytes, window) == piece.checksum) continue;
      problems.push_back(build_string(file.name, ": tensor ", *entry.tensor, " ", piece.slice.describe(), " (bytes ",
                                      piece.offset, " to ", piece.offset + piece.bytes,
                                      ") does not match its checksum"));
    }
  } catch (const UserError& error) {
    problems.push_back(error.what());
  }
}

std::optional<Manifest> try_manifest(const std::string& path, Problems& problems) {
  try {
    return read_manifest(path);
  } catch (const UserError& error) {
    problems.push_back(error.what());
    return std::nullopt;
  }
}

/// This rank's share of the check of one candidate.
Problems check_share(const std::string& path, int rank, int ranks, bool deep) {
  Problems problems;
  const auto manifest = try_manifest(path, problems);
  if (!manifest) return problems;
  if (rank == 0) check_manifest(path, *manifest, problems);
  if (!deep) return problems;
  const auto placed = pieces_by_file(*manifest);
  for (size_t i = static_cast<size_t>(rank); i < placed.size(); i += static_cast<size_t>(ranks)) {
    check_file(path, manifest->files[i], placed[i], problems);
  }
  return problems;
}

/// A few of the problems on one line.
std::string summary(const Problems& problems) {
  std::string text = problems.empty() ? "" : problems[0];
  if (problems.size() > 1) text += build_string(" (and ", problems.size() - 1, " more problems)");
  return text;
}

std::vector<std::string> gather_texts(Communicator& world, const std::string& mine) {
  std::vector<std::string> texts;
  for (const std::vector<std::byte>& bytes : world.all_gather_bytes(std::as_bytes(std::span(mine)))) {
    texts.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  return texts;
}

/// Rank 0's listing at every rank: on a network file system two ranks may see different ones.
std::vector<int64_t> agree_on_steps(const std::string& root, Communicator& world) {
  std::vector<int64_t> steps;
  if (world.rank() == 0) {
    for (const CheckpointPath& checkpoint : find_checkpoints(root)) steps.push_back(checkpoint.step);
  }
  const auto gathered = world.all_gather_bytes(std::as_bytes(std::span(steps)));
  steps.resize(gathered.at(0).size() / sizeof(int64_t));
  if (!steps.empty()) std::memcpy(steps.data(), gathered[0].data(), gathered[0].size());
  return steps;
}

}  // namespace

std::vector<std::string> verify_checkpoint(const std::string& path) { return check_share(path, 0, 1, true); }

std::vector<std::string> check_structure(const std::string& path) { return check_share(path, 0, 1, false); }

Resume pick_newest_valid(const std::string& root, Communicator& world, bool deep) {
  Resume resume;
  for (const int64_t step : agree_on_steps(root, world)) {
    const std::string path = build_string(root, "/", checkpoint_name(step));
    std::string mine;
    try {
      mine = summary(check_share(path, world.rank(), world.size(), deep));
    } catch (const std::exception& error) {  // out of memory, say: the others must not wait for this rank
      mine = error.what();
    }
    std::string reason;
    for (const std::string& found : gather_texts(world, mine)) {
      // All ranks stumble over the same manifest; one of them is enough to say it.
      if (reason.empty()) reason = found;
    }
    if (reason.empty()) {
      resume.path = path;
      resume.step = step;
      return resume;
    }
    resume.skipped.push_back({path, reason});
  }
  return resume;
}

std::string resolve_checkpoint(const std::string& path) {
  if (is_checkpoint(path)) return path;
  std::string reasons;
  for (const std::string& root : {path, path + "/checkpoints"}) {
    for (const CheckpointPath& checkpoint : find_checkpoints(root)) {
      const std::string problem = summary(check_structure(checkpoint.path));
      if (problem.empty()) return checkpoint.path;
      reasons += build_string("\n  ", checkpoint.path, ": ", problem);
    }
  }
  throw UserError(build_string(path,
                               " is not a checkpoint (no manifest.json) and holds no valid one in step-* or "
                               "checkpoints/step-*",
                               reasons));
}

}  // namespace trident
