#include "core/data/text_input.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/error.h"

namespace trident {
namespace {

constexpr size_t kBlockBytes = size_t{1} << 20;
constexpr size_t kMessagesKept = 5;
constexpr std::string_view kBlanks = " \t\r\n";

void check_readable(const std::istream& in, const std::string& name) {
  if (in.bad()) throw RunError(build_string("reading ", name, " failed; is the disk or the pipe still there?"));
}

// Bytes of `block` up to and with the last line end, else the last blank, else all of them.
size_t piece_size(std::string_view block) {
  size_t at = block.rfind('\n');
  if (at == std::string_view::npos) at = block.find_last_of(kBlanks);
  return at == std::string_view::npos ? block.size() : at + 1;
}

// Calls `each(line)` with every line, its line end included where there is one. Returns the bytes read.
template <class Each>
int64_t for_each_line(std::istream& in, const std::string& name, Each each) {
  int64_t bytes = 0;
  std::string line;
  while (std::getline(in, line)) {
    if (!in.eof()) line.push_back('\n');
    bytes += static_cast<int64_t>(line.size());
    each(std::string_view(line));
  }
  check_readable(in, name);
  return bytes;
}

std::string_view without_line_end(std::string_view line) {
  if (line.ends_with('\n')) line.remove_suffix(1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

// Hands a piece on; what the tokenizer finds wrong in it is reported with the place.
void pass_on(DocumentSink& sink, std::string_view piece, const std::string& name, const char* unit, int64_t at) {
  try {
    sink.text(piece);
  } catch (const UserError& error) {
    throw UserError(build_string(name, ", from ", unit, " ", at, ": ", error.what()));
  }
}

// The text of one JSON line. Throws UserError with what is wrong.
std::string json_text(std::string_view line, const std::string& field) {
  nlohmann::json value;
  try {
    value = nlohmann::json::parse(line);
  } catch (const nlohmann::json::exception& error) {
    // "[json.exception...] parse error at line 1, column 9: what": only the column and what are news to the user.
    const std::string_view text = error.what();
    const size_t column = text.find("column ");
    throw UserError(build_string("not valid JSON at ", column == std::string_view::npos ? text : text.substr(column)));
  }
  if (!value.is_object()) {
    throw UserError(build_string("an object {\"", field, "\": \"...\"} is expected, not ", value.type_name()));
  }
  const auto found = value.find(field);
  if (found == value.end()) {
    std::string keys;
    for (const auto& item : value.items()) keys += (keys.empty() ? "" : ", ") + item.key();
    throw UserError(build_string("there is no field \"", field, "\"; the line has: ", keys.empty() ? "none" : keys,
                                 " (choose one with --field)"));
  }
  if (!found->is_string()) {
    throw UserError(build_string("field \"", field, "\" is ", found->type_name(), ", not a string"));
  }
  return found->get<std::string>();
}

}  // namespace

int64_t read_document(std::istream& in, const std::string& name, int64_t bytes, DocumentSink& sink) {
  std::string block;
  int64_t read = 0;
  bool more = true;
  while (more) {
    const size_t kept = block.size();
    const auto want = static_cast<size_t>(std::min<int64_t>(kBlockBytes, bytes - read));
    block.resize(kept + want);
    in.read(block.data() + kept, static_cast<std::streamsize>(want));
    check_readable(in, name);
    const auto got = static_cast<size_t>(in.gcount());
    block.resize(kept + got);
    read += static_cast<int64_t>(got);
    more = got == kBlockBytes;
    const size_t piece = more ? piece_size(block) : block.size();
    const auto at = read - static_cast<int64_t>(block.size());
    if (piece > 0) pass_on(sink, std::string_view(block).substr(0, piece), name, "byte", at);
    block.erase(0, piece);
  }
  sink.end_document();
  return read;
}

int64_t read_separated(std::istream& in, const std::string& name, std::string_view separator, DocumentSink& sink) {
  bool open = false;
  int64_t number = 0;
  const int64_t bytes = for_each_line(in, name, [&](std::string_view line) {
    ++number;
    if (without_line_end(line) != separator) {
      pass_on(sink, line, name, "line", number);
      open = true;
    } else if (open) {
      sink.end_document();
      open = false;
    }
  });
  if (open) sink.end_document();
  return bytes;
}

int64_t read_json_lines(std::istream& in, const std::string& name, JsonLines& how, DocumentSink& sink) {
  int64_t number = 0;
  return for_each_line(in, name, [&](std::string_view line) {
    ++number;
    if (line.find_first_not_of(kBlanks) == std::string_view::npos) return;
    try {
      sink.text(json_text(line, how.field));
    } catch (const UserError& error) {
      const std::string message = build_string(name, ":", number, ": ", error.what());
      if (!how.skip_bad_lines) throw UserError(message + "; correct the line or pass --skip-bad-lines");
      ++how.bad_lines;
      if (how.first_bad.size() < kMessagesKept) how.first_bad.push_back(message);
      return;
    }
    sink.end_document();
  });
}

int64_t tail_cut(std::istream& in, int64_t size, double fraction) {
  const auto border = static_cast<int64_t>(std::llround(static_cast<double>(size) * (1.0 - fraction)));
  int64_t line_cut = 0, blank_cut = 0;
  in.seekg(border);
  std::string block(kBlockBytes, '\0');
  for (int64_t at = border; line_cut == 0 && in;) {
    in.read(block.data(), static_cast<std::streamsize>(block.size()));
    const auto got = static_cast<size_t>(in.gcount());
    const std::string_view seen = std::string_view(block).substr(0, got);
    if (const size_t end = seen.find('\n'); end != std::string_view::npos)
      line_cut = at + static_cast<int64_t>(end) + 1;
    if (const size_t end = seen.find_first_of(kBlanks); blank_cut == 0 && end != std::string_view::npos) {
      blank_cut = at + static_cast<int64_t>(end) + 1;
    }
    at += static_cast<int64_t>(got);
  }
  in.clear();
  in.seekg(0);
  // A line end that closes the file leaves nothing behind it.
  for (const int64_t cut : {line_cut, blank_cut}) {
    if (cut > 0 && cut < size) return cut;
  }
  return border;
}

}  // namespace trident
