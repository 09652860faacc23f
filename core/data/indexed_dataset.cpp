#include "core/data/indexed_dataset.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

#include "core/base/error.h"

namespace trident {
namespace {

constexpr int64_t kStride = 256;  // sequences per entry of the position table
constexpr const char* kRewrite = "the file is damaged or incomplete; copy it again or prepare the data again";

// Users often give one of the two file names where the prefix is wanted: say so instead of "x.idx.idx not found".
std::string checked_prefix(std::string prefix) {
  for (const char* suffix : {".bin", ".idx"}) {
    if (!prefix.ends_with(suffix) || std::filesystem::exists(prefix + ".idx")) continue;
    throw UserError(build_string("dataset ", prefix, ": give the common prefix of the .bin and .idx files, ",
                                 prefix.substr(0, prefix.size() - 4)));
  }
  for (const char* suffix : {".idx", ".bin"}) {
    std::error_code ignored;
    if (std::filesystem::exists(prefix + suffix, ignored)) continue;
    throw UserError(build_string("dataset ", prefix, ": there is no file ", prefix, suffix,
                                 ". `path` is the common prefix of a .bin and .idx pair; `trident data prepare` "
                                 "writes one from text"));
  }
  return prefix;
}

}  // namespace

IndexedDataset::IndexedDataset(std::string prefix)
    : prefix_(checked_prefix(std::move(prefix))), idx_(prefix_ + ".idx"), bin_(prefix_ + ".bin") {
  check_header();
  check_sequences();
  check_documents();
  const uint64_t sizes[] = {idx_.size(), bin_.size()};
  fingerprint_ = XXH64(sizes, sizeof sizes, XXH64(idx_.bytes().data(), idx_.size(), 0));
}

void IndexedDataset::fail(size_t offset, const std::string& what, const char* fix) const {
  throw UserError(build_string(prefix_, ".idx, byte ", offset, ": ", what, "; ", fix));
}

template <class T>
T IndexedDataset::idx_at(size_t offset) const {
  T value;
  std::memcpy(&value, idx_.bytes().data() + offset, sizeof value);
  return value;
}

void IndexedDataset::check_header() {
  const size_t size = idx_.size();
  if (size < kIndexHeaderBytes) {
    fail(0, build_string("the file has ", size, " bytes, the header alone needs ", kIndexHeaderBytes), kRewrite);
  }
  if (std::memcmp(idx_.bytes().data(), kIndexMagic.data(), kIndexMagic.size()) != 0) {
    fail(0, "the magic bytes \"MMIDIDX\" are missing", "this is not a Megatron index; prepare the data again");
  }
  if (const auto version = idx_at<uint64_t>(9); version != kIndexVersion) {
    fail(9, build_string("format version ", version, ", only version 1 is known"), kRewrite);
  }
  type_ = static_cast<TokenType>(idx_at<uint8_t>(17));
  if (token_type_bytes(type_) == 0) {
    fail(17, build_string("unknown token type code ", static_cast<int>(type_), " (1 to 8 are known)"), kRewrite);
  }
  if (type_ == TokenType::f32 || type_ == TokenType::f64) {
    fail(17, build_string("the dataset holds ", token_type_name(type_), " values, not tokens"),
         "tokens are integers; name another dataset");
  }
  // Bounded by the file before anything is multiplied, so nothing below overflows.
  const auto sequences = idx_at<uint64_t>(18), entries = idx_at<uint64_t>(26);
  const size_t body = size - kIndexHeaderBytes;
  if (sequences > body / 12) {
    fail(18, build_string(sequences, " sequences do not fit into a file of ", size, " bytes"), kRewrite);
  }
  if (entries < 1 || entries > body / 8) {
    fail(26, build_string(entries, " document entries: at least 1, and no more than a file of ", size, " bytes holds"),
         kRewrite);
  }
  const size_t plain = 12 * sequences + 8 * entries;
  if (body != plain && body != plain + sequences) {
    fail(18,
         build_string("the file has ", size, " bytes, but ", sequences, " sequences and ", entries,
                      " document entries take ", kIndexHeaderBytes + plain, " (", kIndexHeaderBytes + plain + sequences,
                      " with modes)"),
         kRewrite);
  }
  has_modes_ = body != plain;
  sequences_ = static_cast<int64_t>(sequences);
  document_entries_ = static_cast<int64_t>(entries);
}

void IndexedDataset::check_sequences() {
  const int64_t width = token_type_bytes(type_), bin_size = bin_bytes();
  stride_begin_.reserve(static_cast<size_t>(sequences_ / kStride + 1));
  for (int64_t s = 0; s < sequences_; ++s) {
    if (s % kStride == 0) stride_begin_.push_back(tokens_);
    const size_t length_at = kIndexHeaderBytes + 4 * static_cast<size_t>(s);
    const int64_t length = sequence_length(s), begin = byte_offset(s);
    if (length < 0) fail(length_at, build_string("sequence ", s, " has the negative length ", length), kRewrite);
    if (begin < 0 || begin > bin_size || length > (bin_size - begin) / width) {
      fail(length_at,
           build_string("sequence ", s, " (", length, " tokens of ", width, " bytes from byte ", begin,
                        ") reaches beyond the ", bin_size, " bytes of ", prefix_, ".bin"),
           ".bin and .idx do not belong together or one is incomplete; copy both again");
    }
    // Sequences may overlap in .bin, so only a sum beyond 2^63 could go wrong here: the same damage.
    if (__builtin_add_overflow(tokens_, length, &tokens_)) fail(length_at, "more than 2^63 tokens", kRewrite);
  }
}

void IndexedDataset::check_documents() const {
  int64_t before = 0;
  for (int64_t d = 0; d < document_entries_; ++d) {
    const int64_t begin = document_begin(d);
    const size_t at = kIndexHeaderBytes + 12 * static_cast<size_t>(sequences_) + 8 * static_cast<size_t>(d);
    if (d == 0 && begin != 0) fail(at, build_string("document 0 starts at sequence ", begin, ", not 0"), kRewrite);
    if (begin < before || begin > sequences_) {
      fail(at, build_string("document ", d, " starts at sequence ", begin, "; expected ", before, " to ", sequences_),
           kRewrite);
    }
    before = begin;
  }
  if (before != sequences_) {
    fail(26, build_string("the last document ends at sequence ", before, " of ", sequences_), kRewrite);
  }
}

int64_t IndexedDataset::sequence_length(int64_t sequence) const {
  ensure(sequence >= 0 && sequence < sequences_, "sequence number within the dataset");
  return idx_at<int32_t>(kIndexHeaderBytes + 4 * static_cast<size_t>(sequence));
}

int64_t IndexedDataset::byte_offset(int64_t sequence) const {
  return idx_at<int64_t>(kIndexHeaderBytes + 4 * static_cast<size_t>(sequences_) + 8 * static_cast<size_t>(sequence));
}

int8_t IndexedDataset::sequence_mode(int64_t sequence) const {
  ensure(sequence >= 0 && sequence < sequences_, "sequence number within the dataset");
  return has_modes_ ? idx_at<int8_t>(idx_.size() - static_cast<size_t>(sequences_ - sequence)) : int8_t{0};
}

int64_t IndexedDataset::document_begin(int64_t document) const {
  ensure(document >= 0 && document < document_entries_, "document number within the dataset");
  return idx_at<int64_t>(kIndexHeaderBytes + 12 * static_cast<size_t>(sequences_) + 8 * static_cast<size_t>(document));
}

IndexedDataset::Place IndexedDataset::locate(int64_t position) const {
  ensure(position >= 0 && position < tokens_, "token position within the dataset");
  // The last stride that begins at or before the position, then along its sequences. Zero-length sequences are passed.
  const auto after = std::upper_bound(stride_begin_.begin(), stride_begin_.end(), position);
  const int64_t stride = after - stride_begin_.begin() - 1;
  Place place{0, stride * kStride, position - stride_begin_[static_cast<size_t>(stride)]};
  for (int64_t length; place.offset >= (length = sequence_length(place.sequence)); ++place.sequence) {
    place.offset -= length;
  }
  int64_t low = 0, high = documents();  // the document d with begin(d) <= sequence < begin(d + 1)
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (document_begin(middle) <= place.sequence ? low : high) = middle;
  }
  place.document = low;
  return place;
}

template <class T>
void IndexedDataset::copy_tokens(int64_t byte, std::span<int32_t> out, int64_t vocab) const {
  for (size_t i = 0; i < out.size(); ++i) {
    T value;
    const size_t at = static_cast<size_t>(byte) + i * sizeof(T);
    std::memcpy(&value, bin_.bytes().data() + at, sizeof value);
    if (static_cast<int64_t>(value) < 0 || static_cast<int64_t>(value) >= vocab) {
      throw UserError(build_string(prefix_, ".bin, byte ", at, ": token ", static_cast<int64_t>(value),
                                   " is outside the vocabulary of ", vocab,
                                   "; set model.vocab to the tokenizer's size or prepare the data with the right one"));
    }
    out[i] = static_cast<int32_t>(value);
  }
}

void IndexedDataset::read(int64_t first, std::span<int32_t> out, int64_t vocab) const {
  if (out.empty()) return;
  const auto count = static_cast<int64_t>(out.size());
  ensure(first >= 0 && count <= tokens_ && first <= tokens_ - count, "token range within the dataset");
  vocab = std::min<int64_t>(vocab, INT32_MAX);
  Place at = locate(first);
  while (!out.empty()) {
    const int64_t take = std::min(sequence_length(at.sequence) - at.offset, static_cast<int64_t>(out.size()));
    const std::span<int32_t> part = out.first(static_cast<size_t>(take));
    const int64_t byte = byte_offset(at.sequence) + at.offset * token_type_bytes(type_);
    switch (type_) {
      case TokenType::u8: copy_tokens<uint8_t>(byte, part, vocab); break;
      case TokenType::i8: copy_tokens<int8_t>(byte, part, vocab); break;
      case TokenType::i16: copy_tokens<int16_t>(byte, part, vocab); break;
      case TokenType::u16: copy_tokens<uint16_t>(byte, part, vocab); break;
      case TokenType::i32: copy_tokens<int32_t>(byte, part, vocab); break;
      case TokenType::i64: copy_tokens<int64_t>(byte, part, vocab); break;
      case TokenType::f32:
      case TokenType::f64: ensure(false, "floating-point datasets are refused when opened");
    }
    out = out.subspan(static_cast<size_t>(take));
    ++at.sequence;
    at.offset = 0;
  }
}

}  // namespace trident
