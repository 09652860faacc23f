// What the config tests share: the error of a text, and a text that is legal as it stands.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/config/load.h"

namespace trident {

/// The message of load_config_text for a file called "c.yaml"; "" when the text loads.
inline std::string error_of(std::string_view text, int ranks = 0, const std::vector<std::string>& overrides = {}) {
  try {
    load_config_text(text, "c.yaml", overrides, ranks);
  } catch (const UserError& e) {
    return e.what();
  }
  return "";
}

/// The config of a legal text, for any number of ranks.
inline Config load_text(std::string_view text, int ranks = 0, const std::vector<std::string>& overrides = {}) {
  return load_config_text(text, "c.yaml", overrides, ranks);
}

/// Legal on 8 ranks (pp 2, tp 2, dp 2), and with every section that the checks across keys look at. Tests break one
/// key of it by an override, so that exactly one complaint is expected.
inline constexpr std::string_view kLegal =
    "model: {layers: 4, hidden: 64, heads: 4, vocab: 257, context: 32}\n"
    "parallel: {pipeline: 2, tensor: 2}\n"
    "train: {steps: 100, global_batch: 16, micro_batch: 2}\n"
    "data: {train: [{path: d}]}\n";

}  // namespace trident
