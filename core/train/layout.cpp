#include "core/train/layout.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/integer.h"

namespace trident {
namespace {

constexpr int64_t kAlign = 32;  // elements: 64 bytes of bf16, what wide loads and the GEMMs like

Tensor slice(Tensor flat, const Placement& at) {
  Tensor t = flat.rows(at.offset, at.end());
  return Tensor(t.data, t.dtype, std::span<const int64_t>(at.shape), t.place);
}

}  // namespace

BlockLayout make_block_layout(int64_t block, const std::vector<ParamSpec>& specs, int tensor, int data,
                              bool owner_here) {
  BlockLayout layout{.block = block, .params = {}, .numel = 0, .data = data};
  int64_t at = 0;
  for (const ParamSpec& spec : specs) {
    Placement p{.spec = spec, .shape = local_shape(spec, tensor), .offset = 0, .numel = 1, .alias = false};
    for (const int64_t extent : p.shape) p.numel *= extent;
    p.alias = spec.tied_copy && owner_here;
    if (!p.alias) {
      p.offset = spec.fused ? at : round_up(at, kAlign);
      at = p.end();
    }
    layout.params.push_back(std::move(p));
  }
  layout.numel = round_up(at, kAlign * data);
  return layout;
}

std::vector<BlockRange> partition_blocks(int64_t layers, int chunks, double head_layers) {
  if (layers < chunks) {
    throw UserError(build_string("model.layers is ", layers, " but the pipeline has ", chunks,
                                 " chunks (parallel.pipeline x parallel.virtual_stages): use at most ", layers));
  }
  // As many layers beside the head as an even cut gives, or fewer while that makes the costliest chunk cheaper.
  const int64_t others = chunks - 1;
  const auto costliest = [&](int64_t last) {
    const int64_t most = others == 0 ? 0 : ceil_div(layers - last, others);
    return std::max(static_cast<double>(most), static_cast<double>(last) + head_layers);
  };
  int64_t last = layers / chunks;
  while (others > 0 && last > 1 && costliest(last - 1) < costliest(last)) --last;
  std::vector<BlockRange> ranges;
  int64_t next = 1;
  for (int64_t i = 0; i < chunks; ++i) {
    const int64_t rest = layers - last;
    const int64_t count = i == others ? last : rest / others + (i < rest % others ? 1 : 0);
    ranges.push_back({next, next + count});
    next += count;
  }
  ranges.front().begin = 0;
  ranges.back().end = layers + 2;
  return ranges;
}

BlockParams bind_block(const BlockLayout& layout, Tensor value, Tensor grad, const BlockParams* owner) {
  BlockParams params;
  for (const Placement& at : layout.params) {
    // A tied parameter is its owner's first: the token table of the embedding.
    ensure(!at.alias || owner != nullptr, "an alias has its owner on this rank");
    params.value.push_back(at.alias ? owner->value.front() : slice(value, at));
    if (grad.defined()) params.grad.push_back(at.alias ? owner->grad.front() : slice(grad, at));
  }
  return params;
}

}  // namespace trident
