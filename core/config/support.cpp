#include "core/config/support.h"

#include "core/base/error.h"

namespace trident {

namespace {

/// One line per feature: when it is asked for, which key asks, and the nearest that works.
struct Missing {
  bool asked;
  const char* key;
  std::string what;
  const char* instead;
};

}  // namespace

std::vector<Problem> unsupported(const Config& c) {
  const auto name = [](auto e) { return std::string(enum_name(e)); };
  const Missing table[] = {
      {c.model.arch == Arch::phi3 || c.model.arch == Arch::mixtral, "model.arch", name(c.model.arch), "llama"},
      {c.model.attention.kind != AttentionKind::dense, "model.attention.kind", name(c.model.attention.kind), "dense"},
      {c.parallel.context > 1, "parallel.context", std::to_string(c.parallel.context), "1, with a larger tensor"},
      {c.parallel.expert > 1, "parallel.expert", std::to_string(c.parallel.expert), "1"},
      {c.train.offload_activations == Offload::nvme, "train.offload_activations", name(c.train.offload_activations),
       "host"},
      {c.train.precision == Precision::fp16, "train.precision", name(c.train.precision), "bf16"},
      {c.data.tokenizer.kind == TokenizerKind::sentencepiece || c.data.tokenizer.kind == TokenizerKind::gpt2,
       "data.tokenizer.kind", name(c.data.tokenizer.kind), "byte, or none for data that is tokens already"},
  };
  std::vector<Problem> problems;
  for (const Missing& m : table) {
    if (m.asked)
      problems.push_back(
          {{m.key}, build_string(m.what, " is not in this build; the nearest that works is ", m.instead)});
  }
  return problems;
}

}  // namespace trident
