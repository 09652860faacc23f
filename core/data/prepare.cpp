#include "core/data/prepare.h"

#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>

#include "core/base/error.h"
#include "core/data/indexed_writer.h"
#include "core/data/text_input.h"

namespace trident {
namespace {

namespace fs = std::filesystem;

// Tokenizes documents and deals them to the parts.
class Preparer final : public DocumentSink {
 public:
  Preparer(const Tokenizer& tokenizer, double valid_fraction) : tokenizer_(tokenizer), fraction_(valid_fraction) {}

  void add_part(const std::string& prefix, int64_t vocab) {
    parts_.push_back(std::make_unique<IndexedDatasetWriter>(prefix, vocab));
  }

  // Overrides the dealing for the documents that follow; -1 gives it back.
  void force_part(int part) { forced_ = part; }

  void text(std::string_view piece) override {
    ids_.clear();
    tokenizer_.encode(piece, ids_);
    if (ids_.empty()) return;
    current().append(ids_);
    open_ = true;
  }

  void end_document() override {
    if (!open_) {
      ++empty_;
      return;
    }
    if (const int32_t end = tokenizer_.end_of_document(); end >= 0) current().append(std::span(&end, 1));
    current().end_document();
    if (forced_ < 0) ++dealt_;
    open_ = false;
  }

  void finish(PrepareReport& report) {
    for (const auto& part : parts_) {
      if (part->tokens() > 0) continue;
      throw UserError(build_string("nothing to write to ", part->prefix(), ": ", report.input_bytes, " bytes with ",
                                   dealt_, " documents were read",
                                   parts_.size() == 1
                                       ? "; is the input empty?"
                                       : build_string(" and a valid fraction of ", fraction_,
                                                      " leaves one part empty; choose another fraction or more text")));
    }
    for (const auto& part : parts_) {
      part->finish();
      report.parts.push_back({part->prefix(), part->documents(), part->tokens()});
    }
    report.empty_documents = empty_;
  }

 private:
  // Document n is a valid one when the whole number of valid documents grows with it: evenly spread, no draw.
  IndexedDatasetWriter& current() {
    if (forced_ >= 0) return *parts_[static_cast<size_t>(forced_)];
    if (parts_.size() == 1) return *parts_[0];
    const auto n = static_cast<double>(dealt_);
    return *parts_[std::floor((n + 1) * fraction_) > std::floor(n * fraction_) ? 1 : 0];
  }

  const Tokenizer& tokenizer_;
  double fraction_;
  std::vector<std::unique_ptr<IndexedDatasetWriter>> parts_;
  std::vector<int32_t> ids_;
  int forced_ = -1;
  int64_t dealt_ = 0;
  int64_t empty_ = 0;
  bool open_ = false;
};

int64_t vocabulary(const PrepareOptions& options, const Tokenizer& tokenizer) {
  if (tokenizer.vocab_size() == 0) {
    if (options.vocab >= 1 && options.vocab <= INT32_MAX) return options.vocab;
    throw UserError(build_string("tokenizer ", tokenizer.name(), " needs the vocabulary size: --vocab N, 1 to ",
                                 INT32_MAX, " (given: ", options.vocab, ")"));
  }
  if (options.vocab != 0 && options.vocab != tokenizer.vocab_size()) {
    throw UserError(build_string("--vocab ", options.vocab, ": tokenizer ", tokenizer.name(), " has a vocabulary of ",
                                 tokenizer.vocab_size(), "; leave --vocab out"));
  }
  return tokenizer.vocab_size();
}

bool is_json_lines(const PrepareOptions& options, const std::string& input) {
  if (options.format != InputFormat::automatic) return options.format == InputFormat::jsonl;
  const std::string extension = fs::path(input).extension().string();
  return extension == ".jsonl" || extension == ".ndjson" || extension == ".json";
}

// The prefixes to write, after checking that nothing is in the way.
std::vector<std::string> output_prefixes(const PrepareOptions& options) {
  if (options.inputs.empty())
    throw UserError("no input is given; name text or .jsonl files, or - for the standard input");
  if (options.out.empty()) throw UserError("no output is given; pass --out PREFIX");
  if (!(options.valid_fraction >= 0 && options.valid_fraction < 1)) {
    throw UserError(build_string("--valid-fraction ", options.valid_fraction, " is not in [0, 1)"));
  }
  std::vector<std::string> prefixes = {options.out};
  if (options.valid_fraction > 0) prefixes.push_back(options.out + "-valid");
  for (const std::string& prefix : prefixes) {
    if (options.overwrite || !(fs::exists(prefix + ".idx") || fs::exists(prefix + ".bin"))) continue;
    throw UserError(build_string("there is a dataset ", prefix, " already; choose another --out or pass --overwrite"));
  }
  std::error_code error;
  const fs::path directory = fs::path(options.out).parent_path();
  if (!directory.empty()) fs::create_directories(directory, error);
  if (error) throw UserError(build_string("cannot make the directory ", directory.string(), ": ", error.message()));
  return prefixes;
}

std::ifstream open_input(const std::string& input) {
  if (fs::is_directory(input)) throw UserError(build_string(input, " is a directory; name the files in it"));
  std::ifstream file(input, std::ios::binary);
  if (!file) throw UserError(build_string("cannot open the input ", input, ": ", std::strerror(errno)));
  return file;
}

int64_t read_text(const PrepareOptions& options, const std::string& input, std::istream& in, const std::string& name,
                  Preparer& preparer) {
  constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
  if (options.document_separator) return read_separated(in, name, *options.document_separator, preparer);
  if (options.valid_fraction == 0) return read_document(in, name, kAll, preparer);
  if (input == "-" || !fs::is_regular_file(input)) {
    throw UserError(build_string("--valid-fraction: the end of ", name,
                                 " is not known in advance; save it to a file first or pass --document-separator"));
  }
  const int64_t cut = tail_cut(in, static_cast<int64_t>(fs::file_size(input)), options.valid_fraction);
  preparer.force_part(0);
  int64_t bytes = read_document(in, name, cut, preparer);
  preparer.force_part(1);
  in.clear();
  in.seekg(cut);
  bytes += read_document(in, name, kAll, preparer);
  preparer.force_part(-1);
  return bytes;
}

}  // namespace

PrepareReport prepare_data(const PrepareOptions& options, std::istream& standard_input) {
  const auto start = std::chrono::steady_clock::now();
  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(options.tokenizer);
  PrepareReport report;
  report.vocab = vocabulary(options, *tokenizer);
  Preparer preparer(*tokenizer, options.valid_fraction);
  for (const std::string& prefix : output_prefixes(options)) preparer.add_part(prefix, report.vocab);
  JsonLines json{options.field, options.skip_bad_lines, 0, {}};
  for (const std::string& input : options.inputs) {
    std::ifstream file;
    if (input != "-") file = open_input(input);
    std::istream& in = input == "-" ? standard_input : file;
    const std::string name = input == "-" ? "<stdin>" : input;
    report.input_bytes += is_json_lines(options, input) ? read_json_lines(in, name, json, preparer)
                                                        : read_text(options, input, in, name, preparer);
  }
  report.bad_lines = json.bad_lines;
  report.first_bad = json.first_bad;
  preparer.finish(report);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace trident
