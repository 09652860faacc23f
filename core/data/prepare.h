// Text and JSON lines into token datasets (`trident data prepare`).
#pragma once

#include <cstdint>
#include <istream>
#include <optional>
#include <string>
#include <vector>

#include "core/data/tokenizer.h"

namespace trident {

enum class InputFormat { automatic, text, jsonl };

struct PrepareOptions {
  std::vector<std::string> inputs = {};  ///< files; "-" is the standard input
  std::string out = {};                  ///< prefix of the dataset; its directory is made
  std::string tokenizer = "byte";
  int64_t vocab = 0;                            ///< vocabulary size, for tokenizer none only
  InputFormat format = InputFormat::automatic;  ///< automatic: .jsonl, .ndjson and .json are JSON lines, the rest text
  std::string field = "text";                   ///< JSON lines: where the text is
  bool skip_bad_lines = false;                  ///< JSON lines: count bad lines instead of stopping
  /// Text: the line between two documents. Without it a file is one document.
  std::optional<std::string> document_separator = {};
  double valid_fraction = 0;  ///< in [0, 1): see prepare_data
  bool overwrite = false;
};

struct PrepareReport {
  struct Part {
    std::string prefix;
    int64_t documents = 0;
    int64_t tokens = 0;
  };
  std::vector<Part> parts;  ///< one, or train and valid
  int64_t vocab = 0;
  int64_t input_bytes = 0;
  int64_t empty_documents = 0;  ///< left out
  int64_t bad_lines = 0;        ///< left out
  std::vector<std::string> first_bad;
  double seconds = 0;
};

/// Writes OUT.bin/.idx; with a valid_fraction F, the validation part goes to OUT-valid.bin/.idx. Then every 1/F-th
/// document goes whole to valid, by its number, so the same input always splits alike; only a text file that is one
/// document is cut, its last F (at a line end) becoming valid. Each document is followed by the tokenizer's
/// end-of-document token. Memory is constant (one line, for JSON lines and separated documents). Throws UserError for
/// wrong options, unreadable inputs, bad lines (FILE:LINE), an output that exists, and when a part would be empty;
/// RunError when the disk is full. No file is left behind then.
PrepareReport prepare_data(const PrepareOptions& options, std::istream& standard_input);

}  // namespace trident
