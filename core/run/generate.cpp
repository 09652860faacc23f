#include "core/run/generate.h"

#include <algorithm>

#include "core/base/error.h"

namespace trident {
namespace {

struct Text {
  std::vector<int32_t> ids;
  bool hidden_start = false;  ///< the first token was put there for an empty prompt
  bool done = false;
};

Text start_text(const std::string& prompt, const Tokenizer& tokenizer, int64_t vocab) {
  Text text;
  tokenizer.encode(prompt, text.ids);
  if (text.ids.empty()) {
    text.ids.push_back(std::max(tokenizer.end_of_document(), 0));
    text.hidden_start = true;
  }
  for (const int32_t id : text.ids) {
    if (id < 0 || id >= vocab) {
      throw UserError(build_string("the prompt has token ", id, ", but the model's vocabulary is ", vocab,
                                   ": is data.tokenizer the one it was trained with?"));
    }
  }
  return text;
}

// The last `context` tokens of each text, left-aligned; positions behind a text's end hold 0 and are never looked at.
Batch window_batch(const std::vector<Text>& texts, size_t first, int64_t sequences, int64_t context,
                   std::vector<int64_t>& rows) {
  Batch batch{.tokens = std::vector<int32_t>(static_cast<size_t>(sequences * context), 0),
              .targets = std::vector<int32_t>(static_cast<size_t>(sequences * context), -1),
              .sequences = sequences,
              .context = context};
  rows.clear();
  for (int64_t s = 0; s < sequences && first + static_cast<size_t>(s) < texts.size(); ++s) {
    const auto& ids = texts[first + static_cast<size_t>(s)].ids;
    const int64_t count = std::min<int64_t>(static_cast<int64_t>(ids.size()), context);
    std::copy(ids.end() - count, ids.end(), batch.tokens.begin() + s * context);
    rows.push_back(s * context + count - 1);
  }
  return batch;
}

void grow_group(Run& run, const Tokenizer& tokenizer, std::vector<Text>& texts, size_t first,
                const GenerateOptions& options) {
  const Config& c = run.config();
  std::vector<int64_t> rows;
  for (int64_t n = 0; n < options.max_tokens; ++n) {
    const Batch batch = window_batch(texts, first, c.train.micro_batch, c.model.context, rows);
    const std::vector<float> logits_NV = run.logits(batch, rows);
    bool all_done = true;
    for (size_t i = 0; i < rows.size(); ++i) {
      Text& text = texts[first + i];
      if (text.done) continue;
      const std::span<const float> row(logits_NV.data() + i * static_cast<size_t>(c.model.vocab),
                                       static_cast<size_t>(c.model.vocab));
      const auto id = static_cast<int32_t>(
          sample_token(row, options.sampling, static_cast<uint32_t>(first + i), static_cast<int64_t>(text.ids.size())));
      text.done = id == tokenizer.end_of_document();
      if (!text.done) text.ids.push_back(id);
      all_done = all_done && text.done;
    }
    if (all_done) return;
  }
}

}  // namespace

std::vector<std::string> generate(Run& run, const Tokenizer& tokenizer, const std::vector<std::string>& prompts,
                                  const GenerateOptions& options) {
  check_sampling(options.sampling);
  std::vector<Text> texts;
  for (const std::string& prompt : prompts) texts.push_back(start_text(prompt, tokenizer, run.config().model.vocab));
  for (size_t first = 0; first < texts.size(); first += static_cast<size_t>(run.config().train.micro_batch)) {
    grow_group(run, tokenizer, texts, first, options);
  }
  std::vector<std::string> out;
  for (const Text& text : texts) {
    out.push_back(tokenizer.decode(std::span(text.ids).subspan(text.hidden_start ? 1 : 0)));
  }
  return out;
}

}  // namespace trident
