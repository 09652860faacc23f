#include "core/checkpoint/manifest.h"

#include <xxhash.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <system_error>

#include "core/base/error.h"
#include "core/checkpoint/json_text.h"
#include "core/checkpoint/posix_file.h"

namespace trident {

using nlohmann::json;

namespace {

constexpr std::string_view kFormat = "trident-checkpoint";
constexpr uint64_t kMaxManifestBytes = uint64_t{1} << 30;
constexpr int64_t kMaxElements = int64_t{1} << 50;  // of one tensor; products of dimensions cannot overflow
constexpr int64_t kMaxBytes = int64_t{1} << 56;     // of one file
constexpr int64_t kMaxFiles = 1'000'000;
constexpr int64_t kMaxProbe = int64_t{1} << 24;  // tokens

// The fixed text around the body; compared byte for byte when read.
constexpr std::string_view kBefore = "{\"xxh3\":\"", kBetween = "\",\"manifest\":", kAfter = "}\n";

std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

json records_json(const Manifest& manifest) {
  json files = json::array(), tensors = json::object();
  for (const ManifestFile& file : manifest.files) {
    files.push_back({{"name", file.name},
                     {"bytes", file.bytes},
                     {"header_bytes", file.header_bytes},
                     {"header_xxh3", checksum_text(file.header_checksum)}});
  }
  for (const auto& [name, tensor] : manifest.tensors) {
    json pieces = json::array();
    for (const ManifestPiece& piece : tensor.pieces) {
      pieces.push_back({{"file", piece.file},
                        {"offset", piece.offset},
                        {"bytes", piece.bytes},
                        {"begin", piece.slice.begin},
                        {"size", piece.slice.size},
                        {"xxh3", checksum_text(piece.checksum)}});
    }
    tensors[name] = {{"shape", tensor.shape}, {"dtype", dtype_name(tensor.dtype)}, {"pieces", std::move(pieces)}};
  }
  return {{"files", std::move(files)}, {"tensors", std::move(tensors)}};
}

uint64_t parse_checksum(const json& object, const char* key, const std::string& where) {
  const std::string text = json_string(object, key, where);
  uint64_t value = 0;
  bool ok = text.size() == 16;
  for (const char c : text) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    ok = ok && digit >= 0;
    value = value << 4 | static_cast<uint64_t>(digit & 15);
  }
  if (!ok) throw UserError(build_string(where, ".", key, " is not 16 lower-case hex digits"));
  return value;
}

DType parse_dtype(const json& object, const std::string& where) {
  const std::string name = json_string(object, "dtype", where);
  for (const DType type :
       {DType::f32, DType::bf16, DType::f16, DType::f64, DType::i32, DType::i64, DType::u8, DType::u16}) {
    if (dtype_name(type) == name) return type;
  }
  throw UserError(build_string(where, ".dtype is the unknown \"", name, "\""));
}

ManifestFile parse_file(const json& entry, const std::string& where) {
  ManifestFile file;
  file.name = json_string(entry, "name", where);
  if (file.name.empty() || file.name.size() > 200 || file.name[0] == '.' ||
      file.name.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
    throw UserError(build_string(where, ".name is not a plain file name"));
  }
  file.bytes = static_cast<uint64_t>(json_count(entry, "bytes", kMaxBytes, where));
  file.header_bytes = static_cast<uint64_t>(json_count(entry, "header_bytes", kMaxBytes, where));
  if (file.header_bytes > file.bytes) throw UserError(build_string(where, ".header_bytes is more than the file's"));
  file.header_checksum = parse_checksum(entry, "header_xxh3", where);
  return file;
}

ManifestPiece parse_piece(const json& entry, const ManifestTensor& tensor, const std::vector<ManifestFile>& files,
                          const std::string& where) {
  ManifestPiece piece;
  piece.file = static_cast<int>(json_count(entry, "file", static_cast<int64_t>(files.size()) - 1, where));
  const ManifestFile& file = files[static_cast<size_t>(piece.file)];
  piece.offset = static_cast<uint64_t>(json_count(entry, "offset", kMaxBytes, where));
  piece.bytes = static_cast<uint64_t>(json_count(entry, "bytes", kMaxBytes, where));
  piece.checksum = parse_checksum(entry, "xxh3", where);
  piece.slice.begin = json_counts(entry, "begin", Tensor::kMaxRank, kMaxElements, where);
  piece.slice.size = json_counts(entry, "size", Tensor::kMaxRank, kMaxElements, where);
  if (!inside(piece.slice, tensor.shape) || piece.slice.numel() == 0) {
    throw UserError(build_string(where, " is not a slice of ", describe_shape(tensor.shape)));
  }
  const uint64_t bytes = static_cast<uint64_t>(piece.slice.numel()) * dtype_bytes(tensor.dtype);
  if (piece.bytes != bytes || piece.offset < file.header_bytes || piece.offset + piece.bytes > file.bytes) {
    throw UserError(build_string(where, ": bytes ", piece.offset, " to ", piece.offset + piece.bytes, " of ", file.name,
                                 " (", file.bytes, " bytes) do not fit slice ", piece.slice.describe(), " of ",
                                 dtype_name(tensor.dtype)));
  }
  return piece;
}

ManifestTensor parse_tensor(const json& entry, const std::vector<ManifestFile>& files, const std::string& where) {
  ManifestTensor tensor;
  tensor.dtype = parse_dtype(entry, where);
  tensor.shape = json_counts(entry, "shape", Tensor::kMaxRank, kMaxElements, where);
  int64_t room = kMaxElements;
  for (const int64_t dim : tensor.shape) room /= dim > 0 ? dim : 1;
  if (tensor.shape.empty() || room == 0) {
    throw UserError(build_string(where, ".shape ", describe_shape(tensor.shape), " is not 1 to ", Tensor::kMaxRank,
                                 " dimensions of at most ", kMaxElements, " elements together"));
  }
  const json& pieces = json_member(entry, "pieces", where);
  if (!pieces.is_array() || (!pieces.empty() && files.empty())) {
    throw UserError(build_string(where, ".pieces is not a list of parts of files"));
  }
  tensor.pieces.reserve(pieces.size());
  for (size_t i = 0; i < pieces.size(); ++i) {
    tensor.pieces.push_back(parse_piece(pieces[i], tensor, files, build_string(where, ".pieces[", i, "]")));
  }
  return tensor;
}

void parse_records(const json& root, Manifest& manifest, const std::string& path) {
  const json& files = json_member(root, "files", path);
  if (!files.is_array() || files.size() > kMaxFiles) throw UserError(build_string(path, ".files is not a list"));
  for (size_t i = 0; i < files.size(); ++i) {
    manifest.files.push_back(parse_file(files[i], build_string(path, ": files[", i, "]")));
  }
  const json& tensors = json_member(root, "tensors", path);
  if (!tensors.is_object()) throw UserError(build_string(path, ": tensors is not an object"));
  for (const auto& [name, entry] : tensors.items()) {
    manifest.tensors[name] = parse_tensor(entry, manifest.files, build_string(path, ": tensors.", name));
  }
}

std::vector<int32_t> parse_tokens(const json& object, const char* key, int64_t count, const std::string& where) {
  const json& list = json_member(object, key, where);
  std::vector<int32_t> tokens;
  if (list.is_array() && list.size() == static_cast<size_t>(count)) {
    for (const json& value : list) {
      const int64_t token = value.is_number_integer() ? value.get<int64_t>() : std::numeric_limits<int64_t>::max();
      if (token < std::numeric_limits<int32_t>::min() || token > std::numeric_limits<int32_t>::max()) break;
      tokens.push_back(static_cast<int32_t>(token));
    }
  }
  if (tokens.size() != static_cast<size_t>(count)) {
    throw UserError(build_string(where, ".", key, " is not a list of ", count, " token ids"));
  }
  return tokens;
}

std::optional<ProbeBatch> parse_probe(const json& root, const std::string& path) {
  const json& entry = json_member(root, "probe", path);
  if (entry.is_null()) return std::nullopt;
  const std::string where = path + ": probe";
  ProbeBatch probe;
  probe.sequences = json_count(entry, "sequences", kMaxProbe, where);
  probe.context = json_count(entry, "context", kMaxProbe, where);
  probe.tokens = parse_tokens(entry, "tokens", probe.sequences * probe.context, where);
  probe.targets = parse_tokens(entry, "targets", probe.sequences * probe.context, where);
  const json& loss = json_member(entry, "loss", where);
  if (!loss.is_number() && !loss.is_null()) throw UserError(build_string(where, ".loss is not a number"));
  // JSON has no NaN; a diverged run's loss is written as null.
  probe.loss = loss.is_null() ? std::numeric_limits<double>::quiet_NaN() : loss.get<double>();
  return probe;
}

CheckpointMeta parse_meta(const json& root, const std::string& path) {
  CheckpointMeta meta;
  meta.step = json_count(root, "step", int64_t{1} << 53, path);
  meta.config = json_string(root, "config", path);
  meta.grid = json_string(root, "grid", path);
  meta.ranks = static_cast<int>(json_count(root, "ranks", kMaxFiles, path));
  const json& counters = json_member(root, "counters", path);
  if (!counters.is_object()) throw UserError(build_string(path, ": counters is not an object"));
  for (const auto& [name, value] : counters.items()) {
    if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX)) {
      throw UserError(build_string(path, ": counters.", name, " is not an integer of 64 bits"));
    }
    meta.counters[name] = value.get<int64_t>();
  }
  const json& labels = json_member(root, "labels", path);
  if (!labels.is_object()) throw UserError(build_string(path, ": labels is not an object"));
  for (const auto& [name, value] : labels.items()) {
    if (!value.is_string()) throw UserError(build_string(path, ": labels.", name, " is not a string"));
    meta.labels[name] = value.get<std::string>();
  }
  meta.probe = parse_probe(root, path);
  return meta;
}

/// The body between the fixed texts, its checksum verified.
std::string_view checked_body(std::string_view text, const std::string& path) {
  const size_t around = kBefore.size() + 16 + kBetween.size() + kAfter.size();
  if (text.size() <= around || !text.starts_with(kBefore) || !text.ends_with(kAfter) ||
      text.substr(kBefore.size() + 16, kBetween.size()) != kBetween) {
    throw UserError(build_string(path, " is not a manifest, or truncated"));
  }
  const std::string_view body = text.substr(around - kAfter.size(), text.size() - around);
  const std::string actual = checksum_text(XXH3_64bits(body.data(), body.size()));
  if (text.substr(kBefore.size(), 16) != actual) {
    throw UserError(build_string(path, " was changed or damaged after it was written: its checksum says ",
                                 text.substr(kBefore.size(), 16), ", its bytes give ", actual));
  }
  return body;
}

}  // namespace

std::string checksum_text(uint64_t checksum) {
  std::string text(16, '0');
  for (size_t i = 0; i < 16; ++i) text[15 - i] = "0123456789abcdef"[checksum >> (4 * i) & 15];
  return text;
}

uint64_t Manifest::bytes() const {
  uint64_t total = 0;
  for (const ManifestFile& file : files) total += file.bytes;
  return total;
}

std::string manifest_text(const Manifest& manifest) {
  const CheckpointMeta& meta = manifest.meta;
  json root = records_json(manifest);
  root["format"] = kFormat;
  root["version"] = Manifest::kVersion;
  root["step"] = meta.step;
  root["config"] = meta.config;
  root["grid"] = meta.grid;
  root["ranks"] = meta.ranks;
  root["counters"] = meta.counters.empty() ? json::object() : json(meta.counters);
  root["labels"] = meta.labels.empty() ? json::object() : json(meta.labels);
  root["probe"] = nullptr;
  if (meta.probe) {
    root["probe"] = {{"sequences", meta.probe->sequences},
                     {"context", meta.probe->context},
                     {"tokens", meta.probe->tokens},
                     {"targets", meta.probe->targets},
                     {"loss", meta.probe->loss}};
  }
  const std::string body = dump(root);
  return build_string(kBefore, checksum_text(XXH3_64bits(body.data(), body.size())), kBetween, body, kAfter);
}

Manifest parse_manifest(std::string_view text, const std::string& path) {
  const json root = parse_json(checked_body(text, path), path, 8);
  if (json_string(root, "format", path) != kFormat) throw UserError(path + " is not a Trident checkpoint's manifest");
  const int64_t version = json_count(root, "version", INT32_MAX, path);
  if (version != Manifest::kVersion) {
    throw UserError(
        build_string(path, " has format version ", version, "; this binary reads version ", Manifest::kVersion));
  }
  Manifest manifest;
  manifest.meta = parse_meta(root, path);
  parse_records(root, manifest, path);
  return manifest;
}

bool is_checkpoint(const std::string& directory) {
  std::error_code unreadable;
  return std::filesystem::exists(directory + "/manifest.json", unreadable);
}

Manifest read_manifest(const std::string& directory) {
  const std::string path = directory + "/manifest.json";
  return parse_manifest(read_text(path, kMaxManifestBytes), path);
}

std::string manifest_records(const Manifest& manifest) { return dump(records_json(manifest)); }

void merge_records(Manifest& into, std::string_view records) {
  Manifest part;
  parse_records(parse_json(records, "a rank's records", 8), part, "a rank's records");
  const int shift = static_cast<int>(into.files.size());
  for (ManifestFile& file : part.files) into.files.push_back(std::move(file));
  for (auto& [name, tensor] : part.tensors) {
    const auto [at, added] = into.tensors.try_emplace(name, ManifestTensor{tensor.shape, tensor.dtype, {}});
    ensure(at->second.shape == tensor.shape && at->second.dtype == tensor.dtype,
           "all ranks give a tensor the same shape and dtype");
    for (ManifestPiece& piece : tensor.pieces) {
      piece.file += shift;
      at->second.pieces.push_back(std::move(piece));
    }
  }
}

}  // namespace trident
