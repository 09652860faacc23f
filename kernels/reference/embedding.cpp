// Reference token and position embeddings: gather forward, scatter-add backward, tokens in ascending order.
#include "kernels/check.h"
#include "kernels/reference/reference_table.h"
#include "kernels/reference/values.h"

namespace trident::reference {
namespace {

/// The table's row of a token, or -1 when that row is on another rank.
int64_t local_row(const Tensor& id_T, size_t t, int64_t first_id, int64_t rows) {
  const int64_t row = int64_t{id_T.as<int32_t>()[t]} - first_id;
  return row >= 0 && row < rows ? row : -1;
}

}  // namespace

void ReferenceOps::embedding_forward(Stream, Tensor y_TD, Tensor id_T, Tensor table_VD, int64_t first_id) const {
  check_embedding_forward(y_TD, id_T, table_VD);
  const size_t tokens = static_cast<size_t>(y_TD.dim[0]), width = static_cast<size_t>(y_TD.dim[1]);
  const Values table = load(table_VD);
  Values y(tokens * width, 0.0);
  for (size_t t = 0; t < tokens; ++t) {
    const int64_t row = local_row(id_T, t, first_id, table_VD.dim[0]);
    if (row < 0) continue;
    for (size_t d = 0; d < width; ++d) y[t * width + d] = table[static_cast<size_t>(row) * width + d];
  }
  store(y_TD, y);
}

void ReferenceOps::embedding_backward(Stream, Tensor dtable_VD, Tensor id_T, Tensor dy_TD, int64_t first_id,
                                      Tensor scratch) const {
  check_embedding_backward(dtable_VD, id_T, dy_TD, scratch);
  const size_t tokens = static_cast<size_t>(dy_TD.dim[0]), width = static_cast<size_t>(dy_TD.dim[1]);
  const Values dy = load(dy_TD);
  Values dtable = load(dtable_VD);
  for (size_t t = 0; t < tokens; ++t) {
    const int64_t row = local_row(id_T, t, first_id, dtable_VD.dim[0]);
    if (row < 0) continue;
    for (size_t d = 0; d < width; ++d) dtable[static_cast<size_t>(row) * width + d] += dy[t * width + d];
  }
  store(dtable_VD, dtable);
}

void ReferenceOps::position_forward(Stream, Tensor y_TD, Tensor table_PD, int64_t first_row, int64_t context) const {
  check_position_forward(y_TD, table_PD, first_row, context);
  const size_t tokens = static_cast<size_t>(y_TD.dim[0]), width = static_cast<size_t>(y_TD.dim[1]);
  const Values table = load(table_PD);
  Values y = load(y_TD);
  for (size_t t = 0; t < tokens; ++t) {
    const size_t position = (static_cast<size_t>(first_row) + t) % static_cast<size_t>(context);
    for (size_t d = 0; d < width; ++d) y[t * width + d] += table[position * width + d];
  }
  store(y_TD, y);
}

void ReferenceOps::position_backward(Stream, Tensor dtable_PD, Tensor dy_TD, int64_t first_row, int64_t context) const {
  check_position_backward(dtable_PD, dy_TD, first_row, context);
  const size_t tokens = static_cast<size_t>(dy_TD.dim[0]), width = static_cast<size_t>(dy_TD.dim[1]);
  const Values dy = load(dy_TD);
  Values dtable = load(dtable_PD);
  for (size_t t = 0; t < tokens; ++t) {
    const size_t position = (static_cast<size_t>(first_row) + t) % static_cast<size_t>(context);
    for (size_t d = 0; d < width; ++d) dtable[position * width + d] += dy[t * width + d];
  }
  store(dtable_PD, dtable);
}

}  // namespace trident::reference
