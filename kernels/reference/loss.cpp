// Reference vocabulary-parallel softmax cross-entropy, in the three passes of ops.h.
#include "kernels/check.h"
#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_table.h"
#include "kernels/reference/values.h"

namespace trident::reference {
namespace {

/// The valid columns of one row.
std::span<const double> valid_row(const Values& logits_TV, size_t t, size_t width, int64_t valid) {
  return {logits_TV.data() + t * width, static_cast<size_t>(valid)};
}

/// The column of a row's target on this rank, or -1 (another rank's, or ignored).
int64_t target_column(int32_t id, int64_t first_id, int64_t valid) {
  const int64_t column = int64_t{id} - first_id;
  return id >= 0 && column >= 0 && column < valid ? column : -1;
}

}  // namespace

void ReferenceOps::softmax_max(Stream, Tensor max_T, Tensor logits_TV, int64_t valid) const {
  check_softmax_max(max_T, logits_TV, valid);
  const size_t rows = static_cast<size_t>(logits_TV.dim[0]), width = static_cast<size_t>(logits_TV.dim[1]);
  const Values logits = load(logits_TV);
  Values max(rows);
  for (size_t t = 0; t < rows; ++t) max[t] = row_max(valid_row(logits, t, width, valid));
  store(max_T, max);
}

void ReferenceOps::softmax_sum(Stream, Tensor sum_T, Tensor target_T, Tensor logits_TV, Tensor max_T, Tensor id_T,
                               int64_t first_id, int64_t valid) const {
  check_softmax_sum(sum_T, target_T, logits_TV, max_T, id_T, valid);
  const size_t rows = static_cast<size_t>(logits_TV.dim[0]), width = static_cast<size_t>(logits_TV.dim[1]);
  const Values logits = load(logits_TV), max = load(max_T);
  Values sum(rows), target(rows, 0.0);
  for (size_t t = 0; t < rows; ++t) {
    const std::span<const double> row = valid_row(logits, t, width, valid);
    sum[t] = row_exp_sum(row, max[t]);
    const int64_t column = target_column(id_T.as<int32_t>()[t], first_id, valid);
    if (column >= 0) target[t] = row[static_cast<size_t>(column)] - max[t];
  }
  store(sum_T, sum);
  store(target_T, target);
}

void ReferenceOps::softmax_loss(Stream, Tensor loss_T, Tensor logits_TV, Tensor max_T, Tensor sum_T, Tensor target_T,
                                Tensor id_T, int64_t first_id, int64_t valid, bool gradient) const {
  check_softmax_loss(loss_T, logits_TV, max_T, sum_T, target_T, id_T, valid);
  const size_t rows = static_cast<size_t>(logits_TV.dim[0]), width = static_cast<size_t>(logits_TV.dim[1]);
  const Values logits = load(logits_TV), max = load(max_T), sum = load(sum_T), target = load(target_T);
  Values loss(rows, 0.0), dlogits(rows * width, 0.0);
  for (size_t t = 0; t < rows; ++t) {
    const int32_t id = id_T.as<int32_t>()[t];
    if (id < 0) continue;
    loss[t] = std::log(sum[t]) - target[t];
    const std::span<const double> row = valid_row(logits, t, width, valid);
    for (size_t v = 0; v < row.size(); ++v) dlogits[t * width + v] = std::exp(row[v] - max[t]) / sum[t];
    const int64_t column = target_column(id, first_id, valid);
    if (column >= 0) dlogits[t * width + static_cast<size_t>(column)] -= 1.0;
  }
  store(loss_T, loss);
  if (gradient) store(logits_TV, dlogits);
}

}  // namespace trident::reference
