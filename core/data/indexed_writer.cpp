#include "core/data/indexed_writer.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "core/base/error.h"

namespace trident {

IndexedDatasetWriter::IndexedDatasetWriter(std::string prefix, int64_t vocab_size, int64_t longest_sequence)
    : prefix_(std::move(prefix)),
      vocab_size_(vocab_size),
      longest_sequence_(longest_sequence),
      type_(vocab_size < kU16VocabLimit ? TokenType::u16 : TokenType::i32),
      bin_(prefix_ + ".bin"),
      idx_(prefix_ + ".idx"),
      lengths_(prefix_ + ".idx.lengths"),
      offsets_(prefix_ + ".idx.offsets"),
      document_begins_(prefix_ + ".idx.documents") {
  ensure(vocab_size >= 1 && longest_sequence >= 1 && longest_sequence <= INT32_MAX,
         "a vocabulary and a sequence length");
  document_begins_.write_number(int64_t{0});
}

void IndexedDatasetWriter::append(std::span<const int32_t> tokens) {
  for (const int32_t token : tokens) {
    if (token >= 0 && token < vocab_size_) continue;
    throw UserError(build_string("token ", token, " of document ", documents_, " is outside the vocabulary of ",
                                 vocab_size_, "; give the vocabulary that the tokens were made with"));
  }
  while (!tokens.empty()) {
    if (sequence_tokens_ == longest_sequence_) end_sequence();
    const auto take = std::min(tokens.size(), static_cast<size_t>(longest_sequence_ - sequence_tokens_));
    const std::span<const int32_t> part = tokens.first(take);
    if (type_ == TokenType::u16) {
      narrow_.resize(take);
      std::transform(part.begin(), part.end(), narrow_.begin(), [](int32_t t) { return static_cast<uint16_t>(t); });
      bin_.write(std::as_bytes(std::span(narrow_)));
    } else {
      bin_.write(std::as_bytes(part));
    }
    sequence_tokens_ += static_cast<int64_t>(take);
    tokens = tokens.subspan(take);
  }
}

void IndexedDatasetWriter::end_sequence() {
  lengths_.write_number(static_cast<int32_t>(sequence_tokens_));
  offsets_.write_number(tokens_ * token_type_bytes(type_));
  tokens_ += sequence_tokens_;
  sequence_tokens_ = 0;
  ++sequences_;
  document_has_sequence_ = true;
}

void IndexedDatasetWriter::end_document() {
  if (sequence_tokens_ > 0 || !document_has_sequence_) end_sequence();
  document_begins_.write_number(sequences_);
  ++documents_;
  document_has_sequence_ = false;
}

void IndexedDatasetWriter::finish() {
  if (sequence_tokens_ > 0 || document_has_sequence_) end_document();
  idx_.write(std::as_bytes(std::span(kIndexMagic)));
  idx_.write_number(kIndexVersion);
  idx_.write_number(static_cast<uint8_t>(type_));
  idx_.write_number(static_cast<uint64_t>(sequences_));
  idx_.write_number(static_cast<uint64_t>(documents_ + 1));
  for (FileWriter* part : {&lengths_, &offsets_, &document_begins_}) {
    part->copy_to(idx_);
    part->discard();
  }
  // Between the two renames no index may stand beside a .bin that is not its own.
  std::remove((prefix_ + ".idx").c_str());
  bin_.commit();
  idx_.commit();
}

}  // namespace trident
