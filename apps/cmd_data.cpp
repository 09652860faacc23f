// trident data prepare|info: text into token datasets, and a look into them.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "apps/commands.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/data/indexed_dataset.h"
#include "core/data/prepare.h"
#include "core/data/sampler.h"
#include "core/data/tokenizer.h"

namespace trident {
namespace {

constexpr int64_t kExcerptTokens = 300;

void print_row(const char* label, const std::string& value) { std::printf("  %-20s %s\n", label, value.c_str()); }

// 4137850 -> "4,137,850".
std::string grouped(int64_t number) {
  std::string text = std::to_string(number);
  for (int64_t at = static_cast<int64_t>(text.size()) - 3; at > 0; at -= 3) text.insert(static_cast<size_t>(at), ",");
  return text;
}

void prepare(const PrepareOptions& options) {
  const PrepareReport report = prepare_data(options, std::cin);
  for (const std::string& message : report.first_bad) log::warn("left out: " + message);
  for (const PrepareReport::Part& part : report.parts) {
    std::printf("%s.bin, %s.idx\n", part.prefix.c_str(), part.prefix.c_str());
    print_row("documents", grouped(part.documents));
    print_row("tokens", grouped(part.tokens));
  }
  std::printf("%s bytes of input\n", grouped(report.input_bytes).c_str());
  print_row("vocabulary", build_string(grouped(report.vocab), " (tokenizer ", options.tokenizer, ")"));
  if (report.empty_documents > 0) print_row("empty, left out", grouped(report.empty_documents));
  if (report.bad_lines > 0) print_row("bad lines, left out", grouped(report.bad_lines));
  char time[64];
  std::snprintf(time, sizeof time, "%.2f s, %.1f MB/s", report.seconds,
                static_cast<double>(report.input_bytes) / 1e6 / std::max(report.seconds, 1e-9));
  print_row("time", time);
}

struct InfoOptions {
  std::string prefix;
  std::string tokenizer = "byte";
  int64_t context = 1024;
};

// The beginning of the first document that has any tokens.
std::string excerpt(const IndexedDataset& dataset, const Tokenizer& tokenizer) {
  const int64_t document = dataset.locate(0).document;
  int64_t length = 0;
  for (int64_t s = dataset.document_begin(document); s < dataset.document_begin(document + 1); ++s) {
    length += dataset.sequence_length(s);
  }
  std::vector<int32_t> tokens(static_cast<size_t>(std::min(length, kExcerptTokens)));
  dataset.read(0, tokens);
  return tokenizer.decode(tokens);
}

void info(const InfoOptions& options) {
  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(options.tokenizer);
  const IndexedDataset dataset(options.prefix);
  std::printf("%s\n", options.prefix.c_str());
  print_row("documents", grouped(dataset.documents()));
  print_row("sequences", grouped(dataset.sequences()) + (dataset.has_modes() ? " (with modes)" : ""));
  print_row("tokens", grouped(dataset.tokens()));
  print_row("token type", std::string(token_type_name(dataset.token_type())));
  print_row(".bin bytes", grouped(dataset.bin_bytes()));
  char fingerprint[20];
  std::snprintf(fingerprint, sizeof fingerprint, "%016llx", static_cast<unsigned long long>(dataset.fingerprint()));
  print_row("fingerprint", fingerprint);
  print_row("samples an epoch", build_string(grouped(SampleOrder::count(dataset.tokens(), options.context)),
                                             " of context ", options.context));
  if (dataset.tokens() > 0) std::printf("first text:\n%s\n", excerpt(dataset, *tokenizer).c_str());
}

void add_prepare(CLI::App& data) {
  auto options = std::make_shared<PrepareOptions>();
  auto format = std::make_shared<std::string>("auto");
  auto separator = std::make_shared<std::string>();
  CLI::App* command = data.add_subcommand("prepare", "Turn text or JSON lines into a token dataset (PREFIX.bin, .idx)");
  command
      ->add_option("input", options->inputs,
                   "Files, or - for the standard input; .jsonl, .ndjson and .json hold one JSON object a line")
      ->required();
  command->add_option("--out", options->out, "Prefix of the dataset to write")->required();
  command->add_option("--tokenizer", options->tokenizer, "byte (ids 0-255, 256 ends a document) or none (decimal ids)")
      ->capture_default_str();
  command->add_option("--vocab", options->vocab, "Vocabulary size, for --tokenizer none");
  command->add_option("--format", *format, "auto (by file name), text or jsonl")
      ->check(CLI::IsMember({"auto", "text", "jsonl"}))
      ->capture_default_str();
  command->add_option("--field", options->field, "JSON lines: the field that holds the text")->capture_default_str();
  command->add_flag("--skip-bad-lines", options->skip_bad_lines, "JSON lines: leave bad lines out and count them");
  CLI::Option* separated =
      command->add_option("--document-separator", *separator,
                          "Text: the line between two documents (\"\" = blank line); else a file is one");
  command->add_option(
      "--valid-fraction", options->valid_fraction,
      "Part for validation, written to PREFIX-valid: every 1/F-th document, or the last F of a one-document file");
  command->add_flag("--overwrite", options->overwrite, "Replace a dataset that exists");
  command->callback([options, format, separator, separated] {
    if (*format == "text") options->format = InputFormat::text;
    if (*format == "jsonl") options->format = InputFormat::jsonl;
    if (separated->count() > 0) options->document_separator = *separator;
    prepare(*options);
  });
}

void add_info(CLI::App& data) {
  auto options = std::make_shared<InfoOptions>();
  CLI::App* command = data.add_subcommand("info", "Check a dataset and show its size, type and first text");
  command->add_option("prefix", options->prefix, "Prefix of the .bin and .idx files")->required();
  command->add_option("--context", options->context, "Tokens a sample, for the number of samples")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--tokenizer", options->tokenizer, "How to show the first text: byte or none")
      ->capture_default_str();
  command->callback([options] { info(*options); });
}

}  // namespace

void add_data_command(CLI::App& app) {
  CLI::App* data = app.add_subcommand("data", "Prepare and inspect training data");
  data->require_subcommand(1);
  add_prepare(*data);
  add_info(*data);
}

}  // namespace trident
