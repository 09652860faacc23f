// Text from a trained model, on any grid.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/data/tokenizer.h"
#include "core/run/run.h"
#include "core/train/sampling.h"

namespace trident {

struct GenerateOptions {
  int64_t max_tokens = 200;  ///< new ones per text; a text also ends at the end-of-document token
  SamplingOptions sampling;
};

/// Continues each prompt. Every rank calls it with the same arguments and gets the same texts (prompt included). The
/// model sees the last model.context tokens of a text that grows beyond it. An empty prompt starts from the
/// end-of-document token, or from id 0 where the tokenizer has none. Throws UserError for ids outside the vocabulary.
std::vector<std::string> generate(Run&, const Tokenizer&, const std::vector<std::string>& prompts,
                                  const GenerateOptions&);

}  // namespace trident
