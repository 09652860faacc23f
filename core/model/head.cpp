#include "core/model/head.h"

#include <algorithm>

#include "core/base/integer.h"
#include "core/model/embedding.h"
#include "core/model/linear.h"

namespace trident {

namespace {

constexpr int64_t kLeastTokens = 16;

}  // namespace

int64_t head_chunk_tokens(const ModelShape& shape, DType dtype, int64_t tokens) {
  // Every chunk reads the whole table twice and its gradient once: few chunks, but small ones beside a step's memory.
  constexpr int64_t kChunkBytes = int64_t{128} << 20;
  const int64_t most = kChunkBytes / (shape.local_vocab() * static_cast<int64_t>(dtype_bytes(dtype)));
  const int64_t chunks = ceil_div(tokens, std::max(kLeastTokens, most / kLeastTokens * kLeastTokens));
  return std::max(kLeastTokens, round_up(ceil_div(tokens, chunks), kLeastTokens));
}

int64_t head_chunks(const ModelShape& shape, DType dtype, int64_t tokens) {
  return ceil_div(tokens, head_chunk_tokens(shape, dtype, tokens));
}

Head::Head(const ModelShape& shape) : shape_(shape), norm_(shape, "final_norm", specs_), weight_(specs_.size()) {
  ParamSpec table = token_table_spec(shape);
  if (shape.tied) {
    table.tied_copy = true;
  } else {
    table.name = "head.weight";
  }
  specs_.push_back(table);
}

Tensor Head::forward(Exec& ex, const BlockParams& p, Tensor x_RD, Saved& saved) const {
  const int64_t tokens = ex.tokens(), rows = x_RD.dim[0];
  Tensor h_RD = saved.alloc(ex.dtype, {rows, shape_.hidden});
  const NormState norm = norm_.forward(ex, p, h_RD, x_RD, saved);
  NormLayer::push(ex, norm, saved);
  // The gradient outlives forward; the gathered rows do not.
  Tensor dh_TD = ex.training() ? saved.alloc(ex.dtype, {tokens, shape_.hidden}) : Tensor{};
  const ScratchScope scope(ex.scratch);
  Tensor h_TD = enter(ex, h_RD);
  if (ex.micro.mode == HeadMode::logits) {
    logits_of_rows(ex, p, h_TD);
    return {};
  }
  const trace::Product of(trace::Activity::gemm_head);
  const int64_t chunk = head_chunk_tokens(shape_, ex.dtype, tokens);
  for (int64_t begin = 0, i = 0; begin < tokens; begin += chunk, ++i) {
    const int64_t end = std::min(begin + chunk, tokens);
    loss_of_chunk(ex, p, h_TD.rows(begin, end), ex.micro.targets_T.rows(begin, end),
                  ex.training() ? dh_TD.rows(begin, end) : Tensor{}, ex.micro.loss_N.rows(i, i + 1));
  }
  if (ex.training()) saved.push(leave(ex, dh_TD, rows));
  return {};
}

void Head::loss_of_chunk(Exec& ex, const BlockParams& p, Tensor h_ND, Tensor target_N, Tensor dh_ND,
                         Tensor loss_1) const {
  const ScratchScope scope(ex.scratch);
  const int64_t n = h_ND.dim[0];
  Tensor logits_NV = ex.scratch.alloc(ex.dtype, {n, shape_.local_vocab()});
  Tensor loss_N = ex.scratch.alloc(ex.wide(), {n});

  run_gemm(ex, {.c_MN = logits_NV, .a = h_ND, .b = p.value.at(weight_), .transpose_b = true});
  const int64_t at_once = ex.tensor.size() > 1 ? n : ex.ops.softmax_rows(logits_NV);
  for (int64_t begin = 0; begin < n; begin += at_once) {
    const int64_t end = std::min(begin + at_once, n);
    loss_of_rows(ex, logits_NV.rows(begin, end), target_N.rows(begin, end), loss_N.rows(begin, end));
  }
  ex.ops.sum(ex.stream, loss_1, loss_N, ex.scratch_for(ex.ops.sum_scratch_bytes()));
  if (!ex.training()) return;

  run_gemm(ex, {.c_MN = dh_ND, .a = logits_NV, .b = p.value.at(weight_)});
  run_gemm(ex, {.c_MN = p.grad.at(weight_), .a = logits_NV, .b = h_ND, .transpose_a = true, .accumulate = true});
}

void Head::loss_of_rows(Exec& ex, Tensor logits_BV, Tensor target_B, Tensor loss_B) const {
  const ScratchScope scope(ex.scratch);
  const int64_t rows = logits_BV.dim[0], local = shape_.local_vocab(), first_id = ex.tensor.rank() * local;
  const int64_t valid = std::clamp<int64_t>(shape_.vocab - first_id, 0, local);
  Tensor max_B = ex.scratch.alloc(ex.wide(), {rows});
  Tensor sum_2B = ex.scratch.alloc(ex.wide(), {2, rows});
  Tensor sum_B = sum_2B.rows(0, 1).flat(), at_target_B = sum_2B.rows(1, 2).flat();
  ex.ops.softmax_max(ex.stream, max_B, logits_BV, valid);
  ex.tensor.all_reduce(max_B, Reduce::max, ex.stream);
  ex.ops.softmax_sum(ex.stream, sum_B, at_target_B, logits_BV, max_B, target_B, first_id, valid);
  ex.tensor.all_reduce(sum_2B, Reduce::sum, ex.stream);
  ex.ops.softmax_loss(ex.stream, loss_B, logits_BV, max_B, sum_B, at_target_B, target_B, first_id, valid,
                      ex.training());
}

void Head::logits_of_rows(Exec& ex, const BlockParams& p, Tensor h_TD) const {
  const int64_t n = static_cast<int64_t>(ex.micro.logit_rows.size()), local = shape_.local_vocab();
  Tensor h_ND = ex.scratch.alloc(ex.dtype, {n, shape_.hidden});
  Tensor logits_NV = ex.scratch.alloc(ex.dtype, {n, local});
  for (int64_t i = 0; i < n; ++i) {
    const int64_t row = ex.micro.logit_rows[static_cast<size_t>(i)];
    ex.device.copy(h_ND.rows(i, i + 1), h_TD.rows(row, row + 1), ex.stream);
  }
  run_gemm(ex, {.c_MN = logits_NV, .a = h_ND, .b = p.value.at(weight_), .transpose_b = true});
  Tensor mine = ex.micro.logits_PNV.rows(ex.tensor.rank(), ex.tensor.rank() + 1);
  ex.ops.scale(ex.stream, mine.reshape({n, local}), logits_NV, 1.0f);
  ex.tensor.all_gather(ex.micro.logits_PNV, mine, ex.stream);
}

void Head::backward(Exec& ex, const BlockParams& p, Tensor dx_RD, Saved& saved) const {
  const Tensor dh_RD = saved.pop();
  norm_.backward(ex, p, dx_RD, dh_RD, Tensor{}, NormLayer::pop(ex, saved));
}

}  // namespace trident
