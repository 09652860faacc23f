#include "core/train/stage.h"

#include <algorithm>

#include "core/train/schedule.h"

namespace trident {

Stage::Stage(const ModelShape& shape, int stages, int stage, int chunks) : shape_(shape) {
  const std::vector<BlockRange> all = partition_blocks(shape.layers, stages * chunks);
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

Tensor Stage::forward(Exec& ex, BlockStore& store, Ledger& ledger, int chunk, int micro, Tensor x_RD, Saved& saved,
                      Inspector* inspector) const {
  const BlockRange range = ranges_.at(static_cast<size_t>(chunk));
  for (int64_t block = range.begin; block < range.end; ++block) {
    ledger.at(ex.step, "forward", static_cast<int>(block), micro);
    const BlockParams& params = store.acquire(block, Pass::forward, ex.stream);
    if (block + 1 < range.end) store.prefetch(block + 1);
    if (inspector != nullptr) inspector->before_forward(block, module(block), params);
    const size_t kept = saved.kept().size();
    x_RD = module(block).forward(ex, params, x_RD, saved);
    if (inspector != nullptr) {
      const bool head = block == shape_.layers + 1;
      inspector->after_forward(block, micro, saved.kept().subspan(kept), x_RD, head ? ex.micro.loss_N : Tensor{});
    }
    store.release(block, ex.stream);
  }
  return x_RD;
}

void Stage::backward(Exec& ex, BlockStore& store, Ledger& ledger, int chunk, int micro, bool last_micro, Tensor dx_RD,
                     Saved& saved, Inspector* inspector) const {
  const BlockRange range = ranges_.at(static_cast<size_t>(chunk));
  for (int64_t block = range.end - 1; block >= range.begin; --block) {
    ledger.at(ex.step, "backward", static_cast<int>(block), micro);
    const BlockParams& params = store.acquire(block, Pass::backward, ex.stream);
    if (block > range.begin) store.prefetch(block - 1);
    module(block).backward(ex, params, dx_RD, saved);
    if (inspector != nullptr) inspector->after_backward(block, micro, module(block), params, dx_RD);
    store.release(block, ex.stream);
    if (last_micro) store.grads_ready(block, ex.stream);
  }
}

}  // namespace trident
