// 10,000 mutations of the shipped configs: each one loads, or is refused with a message that has a place.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "config/helpers.h"
#include "core/config/dump.h"
#include "support/catch.h"

namespace trident {
namespace {

std::vector<std::string> shipped_texts() {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(TRIDENT_SOURCE_DIR) + "/configs")) {
    if (entry.path().extension() == ".yaml") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());  // the directory's order is not the same everywhere
  std::vector<std::string> texts;
  for (const std::filesystem::path& path : paths) {
    std::ifstream stream(path, std::ios::binary);
    texts.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
  }
  return texts;
}

class Mutator {
 public:
  explicit Mutator(std::vector<std::string> texts) : texts_(std::move(texts)) {}

  /// One to four mutations of one of the texts.
  std::string next() {
    std::string text = texts_[below(texts_.size())];
    for (uint64_t i = 1 + below(4); i > 0; --i) mutate(text);
    return text;
  }

 private:
  uint64_t below(uint64_t n) { return random_() % n; }
  size_t position(const std::string& text) { return below(text.size() + 1); }

  void mutate(std::string& text) {
    switch (below(10)) {
      case 0: flip_bits(text); break;
      case 1: text.resize(position(text)); break;
      case 2: splice(text); break;
      case 3: text.insert(position(text), nested()); break;
      case 4: text.insert(position(text), token()); break;
      case 5: replace_number(text); break;
      case 6: erase(text); break;
      case 7: text.insert(position(text), 1 + below(3), static_cast<char>(below(256))); break;
      case 8: move_line(text); break;
      case 9: text.insert(position(text), token() + std::string(below(3000), static_cast<char>(32 + below(95)))); break;
    }
  }

  void flip_bits(std::string& text) {
    for (uint64_t i = 1 + below(8); i > 0 && !text.empty(); --i) {
      char& c = text[below(text.size())];
      c = static_cast<char>(c ^ (1 << below(8)));
    }
  }

  void splice(std::string& text) {
    const std::string& other = texts_[below(texts_.size())];
    const size_t begin = position(other);
    text.insert(position(text), other, begin, below(other.size() - begin + 1));
  }

  std::string nested() {
    static const std::vector<std::string> kOpenings = {"[",  "{",     "{a: ",    "- ",   "? ",
                                                       "[{", "\n - ", "!!map {", "&a [", "a: {"};
    const std::string& opening = kOpenings[below(kOpenings.size())];
    std::string text;
    for (uint64_t i = 1ULL << below(12); i > 0; --i) text += opening;
    return text;
  }

  std::string token() {
    static const std::vector<std::string> kTokens = {":",
                                                     ": ",
                                                     "- ",
                                                     "? ",
                                                     "&a ",
                                                     "*a",
                                                     "!!str ",
                                                     "!<x> ",
                                                     "|\n",
                                                     ">-\n",
                                                     "---\n",
                                                     "...\n",
                                                     "%YAML 1.2\n",
                                                     "'",
                                                     "\"",
                                                     "#",
                                                     "\t",
                                                     "\r\n",
                                                     "\n",
                                                     "{",
                                                     "}",
                                                     "[",
                                                     "]",
                                                     ",",
                                                     "null",
                                                     "~",
                                                     "\\",
                                                     "@",
                                                     "<<: ",
                                                     "1e9",
                                                     "-1",
                                                     ".nan",
                                                     "auto",
                                                     "\0",
                                                     "\xff",
                                                     "\xef\xbb\xbf",
                                                     "\xc2\x85",
                                                     "\"\\x00\"",
                                                     "99999999999999999999",
                                                     "model: {layers: 2}\n",
                                                     "  heads: 3\n",
                                                     "\xe2\x80\xa8"};
    return kTokens[below(kTokens.size())];
  }

  void replace_number(std::string& text) {
    const size_t at = text.find_first_of("0123456789", position(text));
    if (at == std::string::npos) return;
    const size_t end = std::min(text.find_first_not_of("0123456789", at), text.size());
    static const std::vector<std::string> kNumbers = {"0",     "1",     "2",          "3",  "7",
                                                      "16384", "65536", "1000000000", "-5", "1e400"};
    text.replace(at, end - at, kNumbers[below(kNumbers.size())]);
  }

  void erase(std::string& text) {
    const size_t begin = position(text);
    text.erase(begin, below(40));
  }

  void move_line(std::string& text) {
    const size_t begin = std::min(text.find('\n', position(text)), text.size());
    const size_t end = std::min(text.find('\n', std::min(begin + 1, text.size())), text.size());
    const std::string line = text.substr(begin, end - begin);
    text.insert(std::min(text.find('\n', position(text)), text.size()), line);
  }

  std::mt19937_64 random_{20200910};
  std::vector<std::string> texts_;
};

/// Whether a message's line begins with "c.yaml:LINE:COLUMN: ".
bool has_place(const std::string& message) {
  const size_t at = message.find("c.yaml:");
  if (at == std::string::npos) return false;
  size_t i = at + 7;
  const auto digits = [&] {
    const size_t begin = i;
    while (i < message.size() && message[i] >= '0' && message[i] <= '9') ++i;
    return i > begin && message[begin] != '0';
  };
  return digits() && message.compare(i++, 1, ":") == 0 && digits() && message.compare(i, 2, ": ") == 0;
}

}  // namespace

TEST_CASE("10,000 mutated configs load or are refused at a place", "[fuzz]") {
  Mutator mutator(shipped_texts());
  int loaded = 0, refused = 0;
  for (int i = 0; i < 10000; ++i) {
    const std::string text = mutator.next();
    try {
      const Config c = load_config_text(text, "c.yaml", {}, static_cast<int>(i % 3));
      ++loaded;
      if (!(load_text(dump_config(c)) == c)) FAIL("case " << i << " changes in its dump:\n" << text);
    } catch (const UserError& e) {
      ++refused;
      const std::string message = e.what();
      if (!has_place(message)) FAIL("case " << i << " has no place: " << message << "\n" << text);
    }
  }
  // Both outcomes must be common, or the mutations test nothing.
  CHECK(loaded > 300);
  CHECK(refused > 3000);
}

TEST_CASE("random bytes are refused at a place", "[fuzz]") {
  std::mt19937_64 random(3);
  int loaded = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string text(random() % 400, ' ');
    const uint64_t alphabet = i % 2 == 0 ? 256 : 128;
    for (char& c : text) c = static_cast<char>(random() % alphabet);
    try {
      load_config_text(text, "c.yaml", {}, 1);
      ++loaded;  // blank, or a comment: every key has a default
    } catch (const UserError& e) {
      if (!has_place(e.what())) FAIL("case " << i << " has no place: " << e.what());
    }
  }
  CHECK(loaded <= 40);
}

TEST_CASE("random overrides are refused at a place or obeyed", "[fuzz]") {
  std::mt19937_64 random(5);
  const std::string alphabet = "abmodel.layers=[0]{}:,\"' \n\x01\xff-_train";
  for (int i = 0; i < 3000; ++i) {
    std::string text(random() % 24, ' ');
    for (char& c : text) c = alphabet[random() % alphabet.size()];
    if (i % 2 == 0) text = "model." + text;
    const std::string message = error_of(kLegal, 0, {text});
    if (!message.empty() && message.find("--set ") == std::string::npos) FAIL("case " << i << ": " << message);
  }
}

}  // namespace trident
