// Block 0: vocabulary-parallel token embedding, learned positions, dropout.
//
// Legend: T tokens, R rows outside tensor-parallel regions, D hidden, V local vocabulary rows, P position rows.
#pragma once

#include <vector>

#include "core/model/module.h"

namespace trident {

class Embedding final : public Module {
 public:
  explicit Embedding(const ModelShape&);

  std::vector<ParamSpec> params() const override { return specs_; }
  Tensor forward(Exec&, const BlockParams&, Tensor absent, Saved&) const override;
  void backward(Exec&, const BlockParams&, Tensor dx_RD, Saved&) const override;

 private:
  static constexpr size_t kToken = 0, kPosition = 1;

  ModelShape shape_;
  std::vector<ParamSpec> specs_;
  uint32_t dropout_purpose_;
};

/// The token table's spec; the tied head uses the same one as a copy.
ParamSpec token_table_spec(const ModelShape&);

}  // namespace trident
