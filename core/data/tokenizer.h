// Text to token ids and back.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trident {

/// Stateless and thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// The value of `tokenizer.kind` that makes it.
  virtual std::string_view name() const = 0;

  /// Number of ids; 0 when only the user knows (kind `none`).
  virtual int64_t vocab_size() const = 0;

  /// The id written after each document; -1 when there is none.
  virtual int32_t end_of_document() const = 0;

  /// Appends the ids of `text`. Text cut at a line end or a blank may be given piece by piece.
  virtual void encode(std::string_view text, std::vector<int32_t>& ids) const = 0;

  /// The text of `ids`. End of document is no text; an id outside the vocabulary becomes U+FFFD.
  virtual std::string decode(std::span<const int32_t> ids) const = 0;
};

/// Kinds: "byte" (ids 0 to 255 are the bytes of the text, whatever its encoding; 256 is the end of a document) and
/// "none" (the text is decimal ids between blanks). Throws UserError for any other.
std::unique_ptr<Tokenizer> make_tokenizer(std::string_view kind);

}  // namespace trident
