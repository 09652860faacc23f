#include "core/checkpoint/shard_file.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/base/error.h"
#include "core/checkpoint/convert.h"
#include "core/checkpoint/json_text.h"
#include "core/checkpoint/slice.h"

namespace trident {

using nlohmann::json;

namespace {

static_assert(std::endian::native == std::endian::little,
              "shard files are little endian, and so is every host we know");

constexpr size_t kLengthBytes = 8;
constexpr size_t kMaxDimensions = 16;             // of a foreign file; ours have at most Tensor::kMaxRank
constexpr int64_t kMaxNumber = int64_t{1} << 60;  // of any dimension or offset

struct TypeName {
  std::string_view name;
  std::optional<DType> dtype;  // absent: a type of the format that Trident lacks
  uint64_t bits;
};

constexpr TypeName kTypeNames[] = {
    {"F32", DType::f32, 32}, {"BF16", DType::bf16, 16}, {"F16", DType::f16, 16},
    {"F64", DType::f64, 64}, {"I32", DType::i32, 32},   {"I64", DType::i64, 64},
    {"U8", DType::u8, 8},    {"U16", DType::u16, 16},   {"BOOL", {}, 8},
    {"I8", {}, 8},           {"I16", {}, 16},           {"U32", {}, 32},
    {"U64", {}, 64},         {"F8_E4M3", {}, 8},        {"F8_E5M2", {}, 8},
    {"C64", {}, 64},
};

std::string_view type_name(DType dtype) {
  for (const TypeName& type : kTypeNames) {
    if (type.dtype == dtype) return type.name;
  }
  return "";
}

const TypeName& find_type(const std::string& name, const std::string& where) {
  for (const TypeName& type : kTypeNames) {
    if (type.name == name) return type;
  }
  throw UserError(build_string(where, " has the unknown element type \"", name, "\""));
}

/// One member of the header; `bits` comes out for types Trident lacks too.
ShardTensor parse_entry(const std::string& name, const json& entry, uint64_t data_bytes, const std::string& where,
                        std::string& lacking) {
  ShardTensor tensor;
  tensor.name = name;
  const std::string stored = json_string(entry, "dtype", where);
  const TypeName& type = find_type(stored, where);
  if (type.dtype) {
    tensor.dtype = *type.dtype;
  } else {
    lacking = stored;
  }
  tensor.shape = json_counts(entry, "shape", kMaxDimensions, kMaxNumber, where);
  const std::vector<int64_t> offsets = json_counts(entry, "data_offsets", 2, kMaxNumber, where);
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    throw UserError(build_string(where, ".data_offsets is not [begin, end] with begin <= end"));
  }
  tensor.begin = static_cast<uint64_t>(offsets[0]);
  tensor.end = static_cast<uint64_t>(offsets[1]);
  if (tensor.end > data_bytes) {
    throw UserError(build_string(where, " ends at byte ", tensor.end, " of a data section of ", data_bytes,
                                 " bytes: the file is truncated or damaged"));
  }
  // Divide rather than multiply: dimensions of a damaged file may overflow any product.
  uint64_t elements = tensor.bytes() * 8 / type.bits;
  bool fits = tensor.bytes() * 8 % type.bits == 0;
  const bool empty = std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end();
  for (const int64_t dim : tensor.shape) {
    if (empty || !fits) break;
    fits = elements % static_cast<uint64_t>(dim) == 0;
    elements /= static_cast<uint64_t>(dim);
  }
  if (!fits || elements != (empty ? 0 : 1)) {
    throw UserError(build_string(where, " has ", tensor.bytes(), " bytes, which is not what ", stored,
                                 describe_shape(tensor.shape), " takes"));
  }
  return tensor;
}

void check_no_gap(const std::vector<std::pair<uint64_t, uint64_t>>& sorted, uint64_t data_bytes,
                  const std::string& path) {
  uint64_t at = 0;
  for (const auto& [begin, end] : sorted) {
    if (begin != at) {
      throw UserError(build_string(path, ": tensors ", begin < at ? "overlap" : "leave a hole", " at byte ",
                                   std::min(begin, at), " of the data section"));
    }
    at = end;
  }
  if (at != data_bytes) {
    throw UserError(
        build_string(path, ": the tensors end at byte ", at, " of a data section of ", data_bytes, " bytes"));
  }
}

}  // namespace

int64_t ShardTensor::numel() const { return shape_numel(shape); }

std::string shard_header(std::vector<ShardTensor>& tensors, const ShardMetadata& metadata) {
  const auto quoted = [](const std::string& text) {
    return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
  };
  std::string text = "{";
  if (!metadata.empty()) {
    text += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      text += build_string(text.back() == '{' ? "" : ",", quoted(key), ":", quoted(value));
    }
    text += "}";
  }
  uint64_t at = 0;
  for (ShardTensor& tensor : tensors) {
    tensor.begin = at;
    at += static_cast<uint64_t>(tensor.numel()) * dtype_bytes(tensor.dtype);
    tensor.end = at;
    text += build_string(text.size() == 1 ? "" : ",", quoted(tensor.name), ":{\"dtype\":\"", type_name(tensor.dtype),
                         "\",\"shape\":", describe_shape(tensor.shape), ",\"data_offsets\":[", tensor.begin, ",",
                         tensor.end, "]}");
  }
  text += "}";
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  std::string header(kLengthBytes, '\0');
  std::memcpy(header.data(), &length, kLengthBytes);
  return header + text;
}

ShardFileWriter::ShardFileWriter(const std::string& path, std::vector<ShardTensor> tensors,
                                 const ShardMetadata& metadata)
    : path_(path), tensors_(std::move(tensors)), header_(shard_header(tensors_, metadata)) {
  file_ = PosixFile::create(path_);
  file_.write(std::as_bytes(std::span(header_)));
}

uint64_t ShardFileWriter::file_bytes() const { return header_.size() + (tensors_.empty() ? 0 : tensors_.back().end); }

void ShardFileWriter::append(std::span<const std::byte> bytes) {
  ensure(written_ + bytes.size() <= file_bytes() - header_.size(), "a shard file gets no more bytes than its layout");
  file_.write(bytes);
  written_ += bytes.size();
}

void ShardFileWriter::append(const Tensor& host_contiguous) {
  ensure(next_ < tensors_.size() && tensors_[next_].begin == written_, "tensors are appended in the layout's order");
  const ShardTensor& expected = tensors_[next_++];
  ensure(host_contiguous.dtype == expected.dtype && host_contiguous.bytes() == expected.bytes(),
         "a tensor has the dtype and size of its place in the layout");
  append(std::span(static_cast<const std::byte*>(host_contiguous.data), host_contiguous.bytes()));
}

void ShardFileWriter::finish() {
  ensure(written_ == file_bytes() - header_.size(), "a shard file gets all the bytes of its layout");
  file_.sync_and_close();
}

ShardHeader parse_shard_header(std::string_view text, uint64_t data_bytes, const std::string& path) {
  if (text.empty() || text[0] != '{') throw UserError(build_string(path, " is not a safetensors file: no header"));
  const json parsed = parse_json(text, path, 4);
  ShardHeader header;
  std::vector<std::pair<uint64_t, uint64_t>> places;
  for (const auto& [name, entry] : parsed.items()) {
    const std::string where = build_string(path, ": ", name);
    if (name == "__metadata__") {
      if (!entry.is_object()) throw UserError(build_string(where, " is not an object"));
      for (const auto& [key, value] : entry.items()) {
        header.metadata[key] = json_string(entry, key.c_str(), where);
      }
      continue;
    }
    std::string lacking;
    ShardTensor tensor = parse_entry(name, entry, data_bytes, where, lacking);
    places.emplace_back(tensor.begin, tensor.end);
    if (lacking.empty()) {
      header.tensors.push_back(std::move(tensor));
    } else {
      header.unsupported[name] = lacking;
    }
  }
  std::sort(places.begin(), places.end());
  check_no_gap(places, data_bytes, path);
  std::stable_sort(header.tensors.begin(), header.tensors.end(),
                   [](const ShardTensor& a, const ShardTensor& b) { return a.begin < b.begin; });
  return header;
}

ShardFileReader::ShardFileReader(const std::string& path) : file_(PosixFile::open_read(path)) {
  const uint64_t size = file_.size();
  if (size < kLengthBytes) {
    throw UserError(build_string(path, " is not a safetensors file: it has only ", size, " bytes"));
  }
  uint64_t length = 0;
  file_.read_at(0, std::as_writable_bytes(std::span(&length, 1)));
  if (length > kMaxHeaderBytes || length > size - kLengthBytes) {
    throw UserError(build_string(path, " is not a safetensors file, or truncated: a header of ", length,
                                 " bytes in a file of ", size));
  }
  std::string text(length, '\0');
  file_.read_at(kLengthBytes, std::as_writable_bytes(std::span(text)));
  data_begin_ = kLengthBytes + length;
  ShardHeader header = parse_shard_header(text, size - data_begin_, path);
  tensors_ = std::move(header.tensors);
  unsupported_ = std::move(header.unsupported);
  metadata_ = std::move(header.metadata);
  for (size_t i = 0; i < tensors_.size(); ++i) index_[tensors_[i].name] = i;
}

bool ShardFileReader::has(std::string_view name) const { return index_.find(name) != index_.end(); }

const ShardTensor& ShardFileReader::find(std::string_view name) const {
  const auto found = index_.find(name);
  if (found != index_.end()) return tensors_[found->second];
  if (const auto other = unsupported_.find(name); other != unsupported_.end()) {
    throw UserError(build_string(path(), ": tensor ", name, " is of type ", other->second,
                                 ", which Trident does not read (F32, BF16, F16, F64, I32, I64, U8, U16 are)"));
  }
  throw UserError(build_string(path(), " has no tensor ", name));
}

void ShardFileReader::read_bytes(const ShardTensor& tensor, uint64_t offset, std::span<std::byte> dst) const {
  ensure(offset <= tensor.bytes() && dst.size() <= tensor.bytes() - offset, "a read stays inside its tensor");
  file_.read_at(data_begin_ + tensor.begin + offset, dst);
}

void ShardFileReader::read(const ShardTensor& tensor, Tensor dst) const {
  ensure(dst.numel() == tensor.numel() && dst.data != nullptr, "the destination has as many elements as the tensor");
  auto* out = static_cast<std::byte*>(dst.data);
  if (dst.dtype == tensor.dtype) return read_bytes(tensor, 0, {out, dst.bytes()});
  const size_t width = dtype_bytes(tensor.dtype);
  std::vector<std::byte> window(std::min<size_t>(tensor.bytes(), size_t{1} << 20));
  for (uint64_t at = 0; at < tensor.bytes(); at += window.size()) {
    const size_t bytes = std::min<size_t>(window.size(), tensor.bytes() - at);
    read_bytes(tensor, at, {window.data(), bytes});
    convert_elements(dst.dtype, out + at / width * dtype_bytes(dst.dtype), tensor.dtype, window.data(),
                     static_cast<int64_t>(bytes / width), build_string(path(), ": tensor ", tensor.name));
  }
}

}  // namespace trident
