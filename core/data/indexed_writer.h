// Writer of the Megatron .bin/.idx pair (layout: indexed_format.h), byte for byte what megatron-core would write.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/data/file_writer.h"
#include "core/data/indexed_format.h"

namespace trident {

/// Streams documents into PREFIX.bin and PREFIX.idx. Memory is constant: the index arrays wait in temporary files
/// beside the output. The pair appears when `finish` returns, or not at all.
class IndexedDatasetWriter {
 public:
  /// Tokens are stored as u16 when vocab_size < 65,500, else as i32. A document longer than `longest_sequence` tokens
  /// becomes several sequences (the format counts a sequence's tokens in 31 bits). Throws UserError when the files
  /// cannot be made.
  explicit IndexedDatasetWriter(std::string prefix, int64_t vocab_size, int64_t longest_sequence = int64_t{1} << 30);

  /// Adds tokens to the document being written. Throws UserError when one is negative or not below vocab_size,
  /// RunError when the disk is full.
  void append(std::span<const int32_t> tokens);

  /// Ends the document; one without tokens becomes one sequence of length zero.
  void end_document();

  /// Ends an open document, writes the index and puts both files in place, replacing older ones.
  void finish();

  const std::string& prefix() const { return prefix_; }
  int64_t documents() const { return documents_; }
  int64_t tokens() const { return tokens_; }
  TokenType token_type() const { return type_; }

 private:
  void end_sequence();

  std::string prefix_;
  int64_t vocab_size_;
  int64_t longest_sequence_;
  TokenType type_;
  FileWriter bin_, idx_;
  FileWriter lengths_, offsets_, document_begins_;  ///< the arrays of the index, while they grow; never committed
  std::vector<uint16_t> narrow_;                    ///< conversion buffer
  int64_t sequences_ = 0;
  int64_t documents_ = 0;
  int64_t tokens_ = 0;
  int64_t sequence_tokens_ = 0;         ///< of the sequence being written
  bool document_has_sequence_ = false;  ///< the document being written has ended a sequence already
};

}  // namespace trident
