// Reader of the Megatron .bin/.idx pair (layout: indexed_format.h). Files written by megatron-core load unchanged.
//
// Policy: everything the files claim is checked once, when they are opened; after that reading cannot leave the
// mapping. Memory beyond the two mappings is one number per 256 sequences.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/data/indexed_format.h"
#include "core/data/mapped_file.h"

namespace trident {

/// The token stream of one dataset: all its sequences, concatenated in file order.
class IndexedDataset {
 public:
  /// Opens PREFIX.bin and PREFIX.idx. Throws UserError naming the file, the byte offset, the values and the fix when
  /// anything in them is not as the format says.
  explicit IndexedDataset(std::string prefix);

  const std::string& prefix() const { return prefix_; }
  TokenType token_type() const { return type_; }
  int64_t tokens() const { return tokens_; }
  int64_t sequences() const { return sequences_; }
  int64_t documents() const { return document_entries_ - 1; }
  bool has_modes() const { return has_modes_; }
  int64_t bin_bytes() const { return static_cast<int64_t>(bin_.size()); }

  /// xxHash64 of the .idx content and both file sizes: names this dataset in the sample order.
  uint64_t fingerprint() const { return fingerprint_; }

  int64_t sequence_length(int64_t sequence) const;
  int8_t sequence_mode(int64_t sequence) const;  ///< 0 where the file has no modes

  /// First sequence of the document; `document` may be documents(), which gives sequences().
  int64_t document_begin(int64_t document) const;

  /// Copies out.size() tokens from stream position `first`. Throws InternalError when the range leaves the stream and
  /// UserError (dataset, byte offset, value) when a token is negative or not below `vocab`.
  void read(int64_t first, std::span<int32_t> out, int64_t vocab = INT32_MAX) const;

  /// Where a stream position lies.
  struct Place {
    int64_t document = 0;
    int64_t sequence = 0;
    int64_t offset = 0;  ///< tokens from the start of the sequence
  };
  Place locate(int64_t position) const;

 private:
  void check_header();
  void check_sequences();
  void check_documents() const;
  [[noreturn]] void fail(size_t offset, const std::string& what, const char* fix) const;
  template <class T>
  T idx_at(size_t offset) const;
  int64_t byte_offset(int64_t sequence) const;
  template <class T>
  void copy_tokens(int64_t byte, std::span<int32_t> out, int64_t vocab) const;

  std::string prefix_;
  MappedFile idx_;
  MappedFile bin_;
  TokenType type_ = TokenType::u16;
  int64_t sequences_ = 0;
  int64_t document_entries_ = 1;
  bool has_modes_ = false;
  int64_t tokens_ = 0;
  uint64_t fingerprint_ = 0;
  std::vector<int64_t> stride_begin_;  ///< stream position of every 256th sequence
};

}  // namespace trident
