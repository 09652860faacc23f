// What the data tests share: a directory of their own, hand-made .bin/.idx bytes, and the text of an expected error.
#pragma once

#include <stdlib.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "support/catch.h"

namespace trident::test {

/// A directory that goes with the test case.
class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "trident-data-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  std::string file(const std::string& name) const { return (path_ / name).string(); }

  /// Number of entries: what a failed write must not leave behind.
  int64_t entries() const {
    return std::distance(std::filesystem::directory_iterator(path_), std::filesystem::directory_iterator());
  }

 private:
  std::filesystem::path path_;
};

inline void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The bytes of one number, little endian.
template <class T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

/// The message of the E that `action` throws; the test fails when it throws none.
template <class E, class Action>
std::string message_of(Action action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  }
  FAIL("no error was thrown");
  return {};
}

/// True when `text` has every one of `parts`; otherwise shows the text.
inline bool has_all(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    if (text.find(part) != std::string::npos) continue;
    UNSCOPED_INFO("missing \"" << part << "\" in: " << text);
    return false;
  }
  return true;
}

/// An .idx by hand, field by field, so that a test can spoil any of them.
struct HandIndex {
  std::string magic = std::string("MMIDIDX\0\0", 9);
  uint64_t version = 1;
  uint8_t type = 8;
  std::vector<int32_t> lengths = {};
  std::vector<int64_t> offsets = {};
  std::vector<int64_t> documents = {};
  std::vector<int8_t> modes = {};

  std::string bytes() const {
    std::string out =
        magic + raw(version) + raw(type) + raw(uint64_t{lengths.size()}) + raw(uint64_t{documents.size()});
    for (const int32_t x : lengths) out += raw(x);
    for (const int64_t x : offsets) out += raw(x);
    for (const int64_t x : documents) out += raw(x);
    for (const int8_t x : modes) out += raw(x);
    return out;
  }
};

/// Two documents of u16 tokens: [10 11 12 | (empty)] and [13 14], in .bin order.
inline HandIndex hand_index() {
  return {.lengths = {3, 0, 2}, .offsets = {0, 6, 6}, .documents = {0, 2, 3}, .modes = {}};
}
inline std::string hand_tokens() {
  std::string out;
  for (uint16_t token = 10; token < 15; ++token) out += raw(token);
  return out;
}

}  // namespace trident::test
