#include "core/checkpoint/reader.h"

#include <xxhash.h>

#include <algorithm>
#include <memory>

#include "core/base/error.h"
#include "core/checkpoint/convert.h"

namespace trident {

namespace {

constexpr size_t kWindowBytes = size_t{1} << 20;
constexpr size_t kMaxOpenFiles = 128;  // far below the usual limit of 1024, which many ranks of a host do not share

}  // namespace

CheckpointReader::CheckpointReader(const std::string& path, Checksums checksums)
    : path_(path), manifest_(read_manifest(path)), checksums_(checksums), window_(kWindowBytes) {
  files_.resize(manifest_.files.size());
}

bool CheckpointReader::has(std::string_view tensor) const {
  return manifest_.tensors.find(tensor) != manifest_.tensors.end();
}

const ManifestTensor& CheckpointReader::find(std::string_view tensor) const {
  const auto found = manifest_.tensors.find(tensor);
  if (found == manifest_.tensors.end()) throw UserError(build_string("checkpoint ", path_, " has no tensor ", tensor));
  return found->second;
}

void CheckpointReader::read(const std::string& tensor, const Slice& slice, Tensor dst) {
  const ManifestTensor& found = find(tensor);
  if (!inside(slice, found.shape)) {
    throw UserError(build_string("checkpoint ", path_, ": slice ", slice.describe(), " of tensor ", tensor,
                                 " was asked for, but its shape there is ", describe_shape(found.shape),
                                 ": the model of the config is not the one that was saved"));
  }
  ensure(dst.numel() == slice.numel(), "the destination has the slice's elements");
  if (slice.numel() == 0) return;
  ensure(!dst.dry(), "the destination has memory");

  const std::string what = build_string("checkpoint ", path_, ": tensor ", tensor, " ", slice.describe());
  std::vector<Slice> parts;
  std::vector<const ManifestPiece*> sources;
  for (const ManifestPiece& piece : found.pieces) {
    if (auto part = intersection(piece.slice, slice)) {
      parts.push_back(std::move(*part));
      sources.push_back(&piece);
    }
  }
  const std::string problem = coverage_problem(slice, parts);
  if (!problem.empty()) throw UserError(build_string(what, ": ", problem));
  for (size_t i = 0; i < parts.size(); ++i) {
    verify(*sources[i], what);
    copy_part(*sources[i], found.dtype, parts[i], slice, dst, what);
  }
}

const PosixFile& CheckpointReader::file(int number) {
  PosixFile& wanted = files_[static_cast<size_t>(number)];
  if (wanted.is_open()) return wanted;
  if (open_files_ >= kMaxOpenFiles) {
    for (PosixFile& file : files_) file = PosixFile();
    open_files_ = 0;
  }
  const ManifestFile& expected = manifest_.files[static_cast<size_t>(number)];
  PosixFile opened = PosixFile::open_read(build_string(path_, "/", expected.name));
  if (opened.size() != expected.bytes) {
    throw UserError(build_string(opened.path(), " has ", opened.size(), " bytes, but its manifest says ",
                                 expected.bytes, ": it was changed or damaged"));
  }
  wanted = std::move(opened);
  ++open_files_;
  return wanted;
}

void CheckpointReader::verify(const ManifestPiece& piece, const std::string& what) {
  if (checksums_ == Checksums::trust || verified_.contains(&piece)) return;
  const PosixFile& source = file(piece.file);
  if (file_checksum(source, piece.offset, piece.bytes, window_) != piece.checksum) {
    throw UserError(build_string(what, ": bytes ", piece.offset, " to ", piece.offset + piece.bytes, " of ",
                                 source.path(), " do not match their checksum: the file was changed or damaged"));
  }
  verified_.insert(&piece);
}

void CheckpointReader::copy_part(const ManifestPiece& piece, DType type, const Slice& part, const Slice& slice,
                                 Tensor dst, const std::string& what) {
  const PosixFile& source = file(piece.file);
  const auto width = static_cast<int64_t>(dtype_bytes(type)), dst_width = static_cast<int64_t>(dtype_bytes(dst.dtype));
  const int64_t elements = piece.slice.numel(), capacity = static_cast<int64_t>(window_.size()) / width;
  auto* out = static_cast<char*>(dst.data);
  // A column cut has a short run in every row: what lies between is read along, in large portions.
  int64_t window_begin = 0, window_end = 0;  // elements of the piece in window_
  Runs runs(part, piece.slice, slice);
  while (const auto run = runs.next()) {
    for (int64_t done = 0; done < run->count;) {
      const int64_t first = run->from + done;
      if (first >= window_end) {
        window_begin = first;
        window_end = std::min(elements, first + capacity);
        source.read_at(piece.offset + static_cast<uint64_t>(first * width),
                       std::span(window_).first(static_cast<size_t>((window_end - first) * width)));
      }
      const int64_t n = std::min(run->count - done, window_end - first);
      convert_elements(dst.dtype, out + (run->to + done) * dst_width, type,
                       window_.data() + (first - window_begin) * width, n, what);
      done += n;
    }
  }
}

uint64_t file_checksum(const PosixFile& file, uint64_t offset, uint64_t bytes, std::vector<std::byte>& window) {
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> hash(XXH3_createState(), XXH3_freeState);
  XXH3_64bits_reset(hash.get());
  while (bytes > 0) {
    const auto portion = std::span(window).first(std::min<uint64_t>(window.size(), bytes));
    file.read_at(offset, portion);
    XXH3_64bits_update(hash.get(), portion.data(), portion.size());
    offset += portion.size();
    bytes -= portion.size();
  }
  return XXH3_64bits_digest(hash.get());
}

}  // namespace trident
