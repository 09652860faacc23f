#include "core/checkpoint/json_text.h"

#include <set>

#include "core/base/error.h"

namespace trident {

using nlohmann::json;

namespace {

int64_t to_count(const json& value, int64_t limit, const std::string& where) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(limit)) {
    throw UserError(build_string(where, " is ", value.dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 40),
                                 ", not an integer from 0 to ", limit));
  }
  return value.get<int64_t>();
}

}  // namespace

json parse_json(std::string_view text, const std::string& what, int max_depth) {
  // The library keeps the last of two members with one name; a file that says two things is damaged.
  std::vector<std::set<std::string>> keys;
  const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > max_depth) throw UserError(build_string(what, " nests deeper than ", max_depth, " levels"));
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      throw UserError(build_string(what, " has two members named \"", parsed.get<std::string>(), "\""));
    }
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), check);
  } catch (const json::exception& error) {
    throw UserError(build_string(what, " is not valid JSON: ", error.what()));
  }
}

const json& json_member(const json& object, const char* key, const std::string& where) {
  if (!object.is_object()) throw UserError(build_string(where, " is not an object"));
  const auto found = object.find(key);
  if (found == object.end()) throw UserError(build_string(where, " has no member \"", key, "\""));
  return *found;
}

std::string json_string(const json& object, const char* key, const std::string& where) {
  const json& value = json_member(object, key, where);
  if (!value.is_string()) throw UserError(build_string(where, ".", key, " is not a string"));
  return value.get<std::string>();
}

int64_t json_count(const json& object, const char* key, int64_t limit, const std::string& where) {
  return to_count(json_member(object, key, where), limit, build_string(where, ".", key));
}

std::vector<int64_t> json_counts(const json& object, const char* key, size_t max_length, int64_t limit,
                                 const std::string& where) {
  const json& value = json_member(object, key, where);
  if (!value.is_array() || value.size() > max_length) {
    throw UserError(build_string(where, ".", key, " is not a list of at most ", max_length, " integers"));
  }
  std::vector<int64_t> counts;
  counts.reserve(value.size());
  for (const json& element : value) counts.push_back(to_count(element, limit, build_string(where, ".", key)));
  return counts;
}

}  // namespace trident
