// Documents out of text files and JSON lines, streamed: memory is one block, or one line where lines matter.
#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <string_view>
#include <vector>

namespace trident {

/// Receives documents piece by piece.
class DocumentSink {
 public:
  virtual ~DocumentSink() = default;
  virtual void text(std::string_view piece) = 0;
  virtual void end_document() = 0;
};

/// Reads the next `bytes` bytes (or up to the end) as one document, in pieces that end at a line end, else at a blank.
/// `name` goes into messages. Returns the bytes read. Throws RunError when reading fails.
int64_t read_document(std::istream& in, const std::string& name, int64_t bytes, DocumentSink& sink);

/// Reads documents that end at lines equal to `separator` (which belong to no document; an empty separator is the blank
/// line). A carriage return before the line end is not compared. Returns the bytes read.
int64_t read_separated(std::istream& in, const std::string& name, std::string_view separator, DocumentSink& sink);

/// How to read JSON lines, and what was wrong with them.
struct JsonLines {
  std::string field = "text";
  bool skip_bad_lines = false;
  int64_t bad_lines = 0;                    ///< counted over all files
  std::vector<std::string> first_bad = {};  ///< the first few messages
};

/// Reads one JSON object a line; the string at `field` is a document. Blank lines are passed. A bad line throws
/// UserError with NAME:LINE and what is wrong, or is counted when skip_bad_lines is set. Returns the bytes read.
int64_t read_json_lines(std::istream& in, const std::string& name, JsonLines& how, DocumentSink& sink);

/// Where to cut a text file so that about its last `fraction` is behind the cut: after the first line end (else blank)
/// at or behind that byte, else exactly there. Leaves `in` at the beginning.
int64_t tail_cut(std::istream& in, int64_t size, double fraction);

}  // namespace trident
