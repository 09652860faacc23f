// Reference LayerNorm and RMSNorm, row by row. Parameter gradients accumulate, activation gradients are overwritten.
#include "kernels/check.h"
#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_table.h"
#include "kernels/reference/values.h"

namespace trident::reference {
namespace {

std::span<const double> row_of(const Values& x_TD, size_t t, size_t width) { return {x_TD.data() + t * width, width}; }
std::span<double> row_of(Values& x_TD, size_t t, size_t width) { return {x_TD.data() + t * width, width}; }

}  // namespace

void ReferenceOps::norm_forward(Stream stream, const NormArgs& args) const {
  check_norm_forward(args);
  // The addend's x goes through its own dtype: the norm is of the rounded numbers, as it will be in backward.
  if (args.addend_TD.defined()) dropout_add(stream, args.x_TD, args.stream_TD, args.addend_TD, args.drop);
  const bool centered = args.kind == NormKind::layer_norm;
  const size_t rows = static_cast<size_t>(args.x_TD.dim[0]), width = static_cast<size_t>(args.x_TD.dim[1]);
  const Values x_TD = load(args.x_TD), w_D = load(args.w_D), b_D = args.b_D.defined() ? load(args.b_D) : Values();
  Values y_TD(rows * width), mean_T(rows), rstd_T(rows);
  for (size_t t = 0; t < rows; ++t) {
    const NormStatistics<double> s = norm_row<double>(row_of(y_TD, t, width), row_of(x_TD, t, width), w_D, b_D,
                                                      static_cast<double>(args.eps), centered);
    mean_T[t] = s.mean;
    rstd_T[t] = s.rstd;
  }
  store(args.y_TD, y_TD);
  store(args.rstd_T, rstd_T);
  if (centered) store(args.mean_T, mean_T);
}

void ReferenceOps::norm_backward(Stream, const NormBackwardArgs& args) const {
  check(args);
  const NormArgs& f = args.forward;
  const bool centered = f.kind == NormKind::layer_norm;
  const size_t rows = static_cast<size_t>(f.x_TD.dim[0]), width = static_cast<size_t>(f.x_TD.dim[1]);
  const Values x_TD = load(f.x_TD), w_D = load(f.w_D), rstd_T = load(f.rstd_T), dy_TD = load(args.dy_TD);
  const Values mean_T = centered ? load(f.mean_T) : Values(rows, 0.0);
  const Values residual_TD = args.residual_TD.defined() ? load(args.residual_TD) : Values(rows * width, 0.0);
  Values dx_TD(rows * width), dw_D = load(args.dw_D), db_D = args.db_D.defined() ? load(args.db_D) : Values(width, 0.0);
  for (size_t t = 0; t < rows; ++t) {
    const NormStatistics<double> s{mean_T[t], rstd_T[t]};
    norm_row_backward<double>(row_of(dx_TD, t, width), row_of(dy_TD, t, width), row_of(x_TD, t, width), w_D, s,
                              centered);
    for (size_t d = 0; d < width; ++d) {
      const size_t at = t * width + d;
      dx_TD[at] += residual_TD[at];
      dw_D[d] += dy_TD[at] * (x_TD[at] - s.mean) * s.rstd;
      db_D[d] += dy_TD[at];
    }
  }
  store(args.dx_TD, dx_TD);
  store(args.dw_D, dw_D);
  if (args.db_D.defined()) store(args.db_D, db_D);
}

}  // namespace trident::reference
