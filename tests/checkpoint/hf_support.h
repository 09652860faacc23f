// What the HuggingFace tests share: the recorded fixtures and ways to spoil a copy of them.
#pragma once

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/support.h"
#include "core/base/error.h"
#include "core/checkpoint/shard_file.h"
#include "support/catch.h"

namespace trident::hf_test {

namespace fs = std::filesystem;
using test::TempDir;

/// What transformers wrote: tests/oracle/fixtures/gpt2 or llama.
inline std::string fixture(const std::string& arch) { return TRIDENT_SOURCE_DIR "/tests/oracle/fixtures/" + arch; }

inline nlohmann::json read_json(const std::string& path) {
  std::ifstream in(path);
  REQUIRE(in.good());
  return nlohmann::json::parse(in);
}

inline void write_json(const std::string& path, const nlohmann::json& value) {
  std::ofstream out(path);
  out << value.dump(2) << "\n";
  REQUIRE(out.good());
}

/// A HuggingFace directory to spoil: config.json of the fixture, then `edit`.
inline void copy_config(const std::string& arch, const std::string& to,
                        const std::function<void(nlohmann::json&)>& edit = {}) {
  fs::create_directories(to);
  nlohmann::json config = read_json(fixture(arch) + "/config.json");
  if (edit) edit(config);
  write_json(to + "/config.json", config);
}

/// One tensor in memory, as bytes of its type.
struct NamedTensor {
  ShardTensor record;
  std::vector<std::byte> bytes;
};

inline std::vector<NamedTensor> read_tensors(const std::string& path) {
  const ShardFileReader file(path);
  std::vector<NamedTensor> tensors;
  for (const ShardTensor& record : file.tensors()) {
    NamedTensor& tensor = tensors.emplace_back();
    tensor.record = record;
    tensor.bytes.resize(record.bytes());
    file.read_bytes(record, 0, tensor.bytes);
  }
  return tensors;
}

inline void write_tensors(const std::string& path, const std::vector<NamedTensor>& tensors) {
  std::vector<ShardTensor> records;
  for (const NamedTensor& tensor : tensors) records.push_back(tensor.record);
  ShardFileWriter file(path, records, {{"format", "pt"}});
  for (const NamedTensor& tensor : tensors) file.append(tensor.bytes);
  file.finish();
}

/// The tensor of this name; fails the test when absent.
inline NamedTensor& find_tensor(std::vector<NamedTensor>& tensors, const std::string& name) {
  for (NamedTensor& tensor : tensors) {
    if (tensor.record.name == name) return tensor;
  }
  FAIL("no tensor " << name);
  throw InternalError("unreachable");
}

/// A directory with the fixture's config and weights, both edited.
inline void copy_model(const std::string& arch, const std::string& to,
                       const std::function<void(std::vector<NamedTensor>&)>& edit_weights = {},
                       const std::function<void(nlohmann::json&)>& edit_config = {}) {
  copy_config(arch, to, edit_config);
  std::vector<NamedTensor> tensors = read_tensors(fixture(arch) + "/model.safetensors");
  if (edit_weights) edit_weights(tensors);
  write_tensors(to + "/model.safetensors", tensors);
}

/// The message of the UserError that `act` throws; fails the test when it throws none.
inline std::string user_error(const std::function<void()>& act) {
  try {
    act();
  } catch (const UserError& error) {
    return error.what();
  }
  FAIL("expected a UserError");
  return "";
}

/// Checks that every one of the words is in the message.
inline void check_says(const std::string& message, const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    INFO(message);
    CHECK(message.find(word) != std::string::npos);
  }
}

}  // namespace trident::hf_test
