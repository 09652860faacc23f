// JSON from files nobody vouches for: bounded depth, no duplicate keys, typed access; every failure is a UserError that
// names the file and the place in it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace trident {

/// Parses strict JSON (UTF-8, no comments) of at most `max_depth` nested containers. `what` names the file.
nlohmann::json parse_json(std::string_view text, const std::string& what, int max_depth = 16);

/// Member access on a parsed object; `where` says file and place for messages ("x.json: tensors.w").
const nlohmann::json& json_member(const nlohmann::json& object, const char* key, const std::string& where);
std::string json_string(const nlohmann::json& object, const char* key, const std::string& where);
/// An integer of [0, limit].
int64_t json_count(const nlohmann::json& object, const char* key, int64_t limit, const std::string& where);
/// An array of at most `max_length` integers of [0, limit].
std::vector<int64_t> json_counts(const nlohmann::json& object, const char* key, size_t max_length, int64_t limit,
                                 const std::string& where);

}  // namespace trident
