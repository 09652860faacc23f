// Reference GEMM: one dot product per element of c; the epilogues are the operations they stand for.
#include "kernels/check.h"
#include "kernels/reference/reference_table.h"
#include "kernels/reference/values.h"

namespace trident::reference {

void ReferenceOps::gemm(Stream stream, const GemmArgs& args) const {
  check(args);
  const size_t rows = static_cast<size_t>(args.c_MN.dim[0]), columns = static_cast<size_t>(args.c_MN.dim[1]);
  const size_t inner = static_cast<size_t>(args.transpose_a ? args.a.dim[0] : args.a.dim[1]);
  const Values a = load(args.a), b = load(args.b);
  Values c_MN(rows * columns, 0.0);
  if (args.accumulate) c_MN = load(args.c_MN);
  const Values bias_N = args.bias_N.defined() ? load(args.bias_N) : Values(columns, 0.0);
  for (size_t m = 0; m < rows; ++m) {
    for (size_t n = 0; n < columns; ++n) {
      double dot = 0;
      for (size_t k = 0; k < inner; ++k) {
        dot += (args.transpose_a ? a[k * rows + m] : a[m * inner + k]) *
               (args.transpose_b ? b[n * inner + k] : b[k * columns + n]);
      }
      c_MN[m * columns + n] += dot + bias_N[n];
    }
  }
  store(args.c_MN, c_MN);
  if (args.activated_MN.defined()) activation_forward(stream, args.activation, args.activated_MN, args.c_MN);
  if (args.bias_grad_M.defined()) bias_backward(stream, args.bias_grad_M, args.a, {});
}

}  // namespace trident::reference
