// Elementwise operations, dropout and column sums. All are bound by memory: each element is read once, written once.
#include <cmath>

#include "kernels/cpu/activation.h"
#include "kernels/cpu/dropout.h"
#include "kernels/cpu/families.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace trident::cpu {
namespace {

constexpr int64_t kPiece = 64;  // elements; shares of a flat range begin at its multiples

/// Calls body(i, Whole | Part) over [0, n), in parallel.
template <class Body>
void parallel_elements(int64_t n, Body body) {
  parallel_range((n + kPiece - 1) / kPiece, n,
                 [&](int64_t begin, int64_t end) { vector_steps(begin * kPiece, std::min(end * kPiece, n), body); });
}

/// Calls body(row, column, lanes) over a [T, F] grid, rows in parallel.
template <class Body>
void parallel_rows(int64_t rows, int64_t columns, Body body) {
  parallel_range(rows, rows * columns, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      vector_steps(0, columns, [&](int64_t i, auto lanes) { body(t, i, lanes); });
    }
  });
}

}  // namespace

void activation_forward(ActivationKind kind, Tensor y_TF, Tensor x) {
  const bool gated = kind == ActivationKind::swiglu;
  with_float(x.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    T* y = y_TF.as<T>();
    const T* in = x.as<T>();
    if (gated) {
      const int64_t f = y_TF.row_size();
      parallel_rows(y_TF.dim[0], f, [&](int64_t t, int64_t i, auto lanes) {
        const T* in_i = in + t * 2 * f + i;
        T* y_i = y + t * f + i;
        fetch_ahead(in_i), fetch_ahead(in_i + f), claim_ahead(y_i);
        const VecF gate = load(in_i, lanes), up = load(in_i + f, lanes);
        store(y_i, gate * sigmoid(gate) * up, lanes);
      });
      return;
    }
    with_activation(kind, [&](auto f) {
      parallel_elements(x.numel(), [&](int64_t i, auto lanes) {
        fetch_ahead(in + i), claim_ahead(y + i);
        store(y + i, f.value(load(in + i, lanes)), lanes);
      });
    });
  });
}

void activation_backward(ActivationKind kind, Tensor dx, Tensor dy_TF, Tensor x) {
  const bool gated = kind == ActivationKind::swiglu;
  with_float(x.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    T* out = dx.as<T>();
    const T* dy = dy_TF.as<T>();
    const T* in = x.as<T>();
    if (gated) {
      const int64_t f = dy_TF.row_size();
      parallel_rows(dy_TF.dim[0], f, [&](int64_t t, int64_t i, auto lanes) {
        const int64_t at = t * 2 * f + i;
        fetch_ahead(in + at), fetch_ahead(in + at + f), fetch_ahead(dy + t * f + i);
        const VecF gate = load(in + at, lanes), up = load(in + at + f, lanes), d = load(dy + t * f + i, lanes);
        const VecF s = sigmoid(gate);
        store(out + at, d * up * (s + gate * s * (1.0f - s)), lanes);
        store(out + at + f, d * gate * s, lanes);
      });
      return;
    }
    with_activation(kind, [&](auto f) {
      parallel_elements(x.numel(), [&](int64_t i, auto lanes) {
        fetch_ahead(in + i), fetch_ahead(dy + i), claim_ahead(out + i);
        store(out + i, load(dy + i, lanes) * f.derivative(load(in + i, lanes)), lanes);
      });
    });
  });
}

void dropout_add(Tensor y_TN, Tensor x_TN, Tensor z_TN, const DropoutSpec& drop) {
  constexpr int64_t kRun = 512;  // elements; shares begin at its multiples
  const int64_t n = z_TN.numel();
  const uint64_t first = static_cast<uint64_t>(drop.first_row) * static_cast<uint64_t>(z_TN.row_size());
  with_float(z_TN.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    T* y = y_TN.as<T>();
    const T* z = z_TN.as<T>();
    const T* x = x_TN.defined() ? x_TN.as<T>() : nullptr;
    parallel_range((n + kRun - 1) / kRun, n, [&](int64_t begin, int64_t end) {
      const int64_t at = begin * kRun, count = std::min(end * kRun, n) - at;
      dropout_add_run(y + at, x == nullptr ? nullptr : x + at, z + at, count, drop, first + static_cast<uint64_t>(at));
    });
  });
}

void bias_backward(Tensor db_N, Tensor dy_TN) {
  const int64_t n = db_N.numel(), rows = dy_TN.dim[0];
  // Columns whose sums stay in L1, as few strips as possible, so that rows are read in long runs; rows added to a
  // sum while it is in a register.
  constexpr int64_t kStrip = 2048, kRowsAtOnce = 8;
  float* db = db_N.as<float>();
  with_float(dy_TN.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    const T* dy = dy_TN.as<T>();
    parallel_range((n + kPiece - 1) / kPiece, rows * n, [&](int64_t begin, int64_t end) {
      for (int64_t col = begin * kPiece; col < std::min(end * kPiece, n); col += kStrip) {
        const int64_t width = std::min({kStrip, end * kPiece - col, n - col});
        for (int64_t row = 0; row < rows; row += kBiasChunkRows) {
          float sum[kStrip] = {};
          const int64_t chunk_end = std::min(rows, row + kBiasChunkRows);
          for (int64_t t = row; t < chunk_end; t += kRowsAtOnce) {
            const T* dy_t = dy + t * n + col;
            const int64_t count = std::min(kRowsAtOnce, chunk_end - t);
            vector_steps(0, width, [&](int64_t i, auto lanes) {
              VecF total = load(sum + i, lanes);
              for (int64_t r = 0; r < count; ++r) total += load(dy_t + r * n + i, lanes);
              store(sum + i, total, lanes);
            });
          }
          for (int64_t i = 0; i < width; ++i) db[col + i] += sum[i];
        }
      }
    });
  });
}

void bias_add(Tensor x_TN, Tensor b_N) {
  const int64_t n = b_N.numel();
  with_float(x_TN.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    T* x = x_TN.as<T>();
    const T* b = b_N.as<T>();
    parallel_rows(x_TN.dim[0], n, [&](int64_t t, int64_t i, auto lanes) {
      store(x + t * n + i, load(x + t * n + i, lanes) + load(b + i, lanes), lanes);
    });
  });
}

void add(Tensor y, Tensor x) {
  with_float(y.dtype, [&](auto y_tag) {
    with_float(x.dtype, [&](auto x_tag) {
      auto* out = y.as<TypeOf<decltype(y_tag)>>();
      const auto* in = x.as<TypeOf<decltype(x_tag)>>();
      parallel_elements(
          y.numel(), [&](int64_t i, auto lanes) { store(out + i, load(out + i, lanes) + load(in + i, lanes), lanes); });
    });
  });
}

void scale(Tensor y, Tensor x, float factor) {
  with_float(y.dtype, [&](auto y_tag) {
    with_float(x.dtype, [&](auto x_tag) {
      auto* out = y.as<TypeOf<decltype(y_tag)>>();
      const auto* in = x.as<TypeOf<decltype(x_tag)>>();
      parallel_elements(y.numel(), [&](int64_t i, auto lanes) { store(out + i, load(in + i, lanes) * factor, lanes); });
    });
  });
}

}  // namespace trident::cpu
