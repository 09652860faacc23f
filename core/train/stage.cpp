#include "core/train/stage.h"

#include <algorithm>

#include "core/train/flops.h"
#include "core/train/schedule.h"

namespace trident {
namespace {

/// The head's arithmetic as a multiple of a layer's.
double head_in_layers(const ModelShape& shape) {
  const FlopShape layer{.layers = 1,
                        .hidden = shape.hidden,
                        .heads = shape.heads,
                        .kv_heads = shape.kv_heads,
                        .head_dim = shape.head_size,
                        .ffn_hidden = shape.ffn,
                        .vocab = 0,
                        .context = shape.context,
                        .gated = is_gated(shape.activation)};
  FlopShape with_head = layer;
  with_head.vocab = shape.vocab;
  return flops_per_token(with_head) / flops_per_token(layer) - 1;
}

}  // namespace

Stage::Stage(const ModelShape& shape, int stages, int stage, int chunks) : shape_(shape) {
  const std::vector<BlockRange> all = partition_blocks(shape.layers, stages * chunks, head_in_layers(shape));
  for (int c = 0; c < chunks; ++c) {
    const BlockRange range = all[static_cast<size_t>(chunk_of(stages, stage, c))];
    ranges_.push_back(range);
    for (int64_t block = range.begin; block < range.end; ++block) {
      blocks_.push_back(block);
      modules_.push_back(make_block(shape, block));
    }
  }
}

const Module& Stage::module(int64_t block) const {
  const auto found = std::lower_bound(blocks_.begin(), blocks_.end(), block);
  ensure(found != blocks_.end() && *found == block, "a stage runs its own blocks");
  return *modules_[static_cast<size_t>(found - blocks_.begin())];
}

std::vector<BlockLayout> Stage::layouts(int data) const {
  std::vector<BlockLayout> layouts;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    layouts.push_back(make_block_layout(blocks_[i], modules_[i]->params(), shape_.tensor, data, blocks_.front() == 0));
  }
  return layouts;
}

Tensor Stage::forward_dropping(Exec& ex, int64_t block, bool layer_follows, const BlockParams& params, Tensor x_RD,
                               Saved& saved, Redo& redo) const {
  redo.saved.reset();
  const Tensor y_RD = module(block).forward(ex, params, x_RD, redo.saved);
  const bool parts = keeps_parts(ex.tokens());
  const int64_t rows = x_RD.dim[0] / (parts ? shape_.tensor : 1), first = parts ? ex.tensor.rank() * rows : 0;
  if (redo.inputs != nullptr) {
    const bool comes_back = ex.micro.mode == HeadMode::train;
    if (comes_back) saved.push(redo.inputs->send(x_RD.rows(first, first + rows), x_RD, ex.stream));
    if (layer_follows) return redo.inputs->keep(y_RD, ex.stream);
  } else if (parts) {
    const Tensor mine = saved.alloc(x_RD.dtype, {rows, x_RD.dim[1]});
    ex.device.copy(mine, x_RD.rows(first, first + rows), ex.stream);
    saved.push(mine);
  } else {
    saved.push(x_RD);
  }
  // The head keeps its input, and a send takes its time: only a layer's input may lie in the one room for all.
  const Tensor kept = parts && layer_follows ? redo.input_TD : saved.alloc(y_RD.dtype, {y_RD.dim[0], y_RD.dim[1]});
  ex.device.copy(kept, y_RD, ex.stream);
  return kept;
}

void Stage::backward_redoing(Exec& ex, int64_t block, const BlockParams& params, Tensor dx_RD, Saved& saved,
                             Redo& redo) const {
  Tensor x_RD = saved.pop();
  if (redo.inputs != nullptr) {
    const bool more = !saved.empty() && saved.kept().back().place == Place::pinned;
    x_RD = redo.inputs->fetch(x_RD, more ? saved.kept().back() : Tensor{}, ex.stream);
  }
  if (x_RD.dim[0] != dx_RD.dim[0]) {
    ex.tensor.all_gather(redo.input_TD, x_RD, ex.stream);
    x_RD = redo.input_TD;
  }
  redo.saved.reset();
  module(block).forward(ex, params, x_RD, redo.saved);
  module(block).backward(ex, params, dx_RD, redo.saved);
  if (redo.inputs != nullptr) redo.inputs->done(ex.stream);
}

Tensor Stage::forward(Exec& ex, BlockStore& store, Ledger& ledger, int chunk, int micro, Tensor x_RD, Saved& saved,
                      Redo* redo, Inspector* inspector) const {
  const BlockRange range = ranges_.at(static_cast<size_t>(chunk));
  for (int64_t block = range.begin; block < range.end; ++block) {
    ledger.at(ex.step, "forward", static_cast<int>(block), micro);
    const Range range_of_block(ex.device, "forward of block", block);
    const BlockParams& params = store.acquire(block, Pass::forward, ex.stream);
    if (block + 1 < range.end) store.prefetch(block + 1);
    if (inspector != nullptr) inspector->before_forward(block, module(block), params);
    const size_t kept = saved.kept().size();
    const bool dropping = redo != nullptr && is_layer(block);
    x_RD = dropping
               ? forward_dropping(ex, block, block + 1 < range.end && is_layer(block + 1), params, x_RD, saved, *redo)
               : module(block).forward(ex, params, x_RD, saved);
    if (inspector != nullptr) {
      const bool head = block == shape_.layers + 1;
      inspector->after_forward(block, micro, dropping ? redo->saved.kept() : saved.kept().subspan(kept), x_RD,
                               head ? ex.micro.loss_N : Tensor{});
    }
    store.release(block, ex.stream);
  }
  return x_RD;
}

void Stage::backward(Exec& ex, BlockStore& store, Ledger& ledger, int chunk, int micro, bool last_micro, Tensor dx_RD,
                     Saved& saved, Redo* redo, Inspector* inspector) const {
  const BlockRange range = ranges_.at(static_cast<size_t>(chunk));
  for (int64_t block = range.end - 1; block >= range.begin; --block) {
    ledger.at(ex.step, "backward", static_cast<int>(block), micro);
    const Range range_of_block(ex.device, "backward of block", block);
    const BlockParams& params = store.acquire(block, Pass::backward, ex.stream);
    if (block > range.begin) store.prefetch(block - 1);
    if (redo != nullptr && is_layer(block)) {
      backward_redoing(ex, block, params, dx_RD, saved, *redo);
    } else {
      module(block).backward(ex, params, dx_RD, saved);
    }
    if (inspector != nullptr) inspector->after_backward(block, micro, module(block), params, dx_RD);
    store.release(block, ex.stream);
    if (last_micro) store.grads_ready(block, ex.stream);
  }
}

}  // namespace trident
