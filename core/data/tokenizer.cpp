#include "core/data/tokenizer.h"

#include <charconv>

#include "core/base/error.h"

namespace trident {
namespace {

class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr int32_t kEndOfDocument = 256;

  std::string_view name() const override { return "byte"; }
  int64_t vocab_size() const override { return 257; }
  int32_t end_of_document() const override { return kEndOfDocument; }

  void encode(std::string_view text, std::vector<int32_t>& ids) const override {
    const size_t before = ids.size();
    ids.resize(before + text.size());
    for (size_t i = 0; i < text.size(); ++i) ids[before + i] = static_cast<uint8_t>(text[i]);
  }

  std::string decode(std::span<const int32_t> ids) const override {
    std::string text;
    for (const int32_t id : ids) {
      if (id >= 0 && id < kEndOfDocument) {
        text.push_back(static_cast<char>(id));
      } else if (id != kEndOfDocument) {
        text += "\xEF\xBF\xBD";
      }
    }
    return text;
  }
};

class NoTokenizer final : public Tokenizer {
 public:
  std::string_view name() const override { return "none"; }
  int64_t vocab_size() const override { return 0; }
  int32_t end_of_document() const override { return -1; }

  void encode(std::string_view text, std::vector<int32_t>& ids) const override {
    constexpr std::string_view kBlanks = " \t\r\n";
    for (size_t at = text.find_first_not_of(kBlanks); at != std::string_view::npos;
         at = text.find_first_not_of(kBlanks, at)) {
      const size_t end = std::min(text.find_first_of(kBlanks, at), text.size());
      int32_t id = -1;
      const auto [stop, error] = std::from_chars(text.data() + at, text.data() + end, id);
      if (error != std::errc{} || stop != text.data() + end || id < 0) {
        throw UserError(build_string("tokenizer none: \"", text.substr(at, std::min<size_t>(end - at, 40)),
                                     "\" is not a token id (0 to 2147483647); for text use --tokenizer byte"));
      }
      ids.push_back(id);
      at = end;
    }
  }

  std::string decode(std::span<const int32_t> ids) const override {
    std::string text;
    for (const int32_t id : ids) text += (text.empty() ? "" : " ") + std::to_string(id);
    return text;
  }
};

}  // namespace

std::unique_ptr<Tokenizer> make_tokenizer(std::string_view kind) {
  if (kind == "byte") return std::make_unique<ByteTokenizer>();
  if (kind == "none") return std::make_unique<NoTokenizer>();
  throw UserError(build_string("unknown tokenizer kind \"", kind, "\"; this build knows byte and none"));
}

}  // namespace trident
