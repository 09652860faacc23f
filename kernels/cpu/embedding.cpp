// Token and position embeddings. Backward adds tokens in ascending order: threads share out the columns (tokens) or the
// table rows (positions), never the order.
#include "kernels/cpu/families.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace trident::cpu {
namespace {

/// Token ids relative to this rank's first table row.
class LocalIds {
 public:
  LocalIds(Tensor id_T, int64_t first_id, int64_t rows) : id_T_(id_T.as<int32_t>()), first_(first_id), rows_(rows) {}
  /// The table row of token t, or -1 when another rank holds it.
  int64_t operator[](int64_t t) const {
    const int64_t row = id_T_[t] - first_;
    return row >= 0 && row < rows_ ? row : -1;
  }

 private:
  const int32_t* id_T_;
  int64_t first_, rows_;
};

}  // namespace

void embedding_forward(Tensor y_TD, Tensor id_T, Tensor table_VD, int64_t first_id) {
  const int64_t d = table_VD.dim[1], tokens = id_T.numel();
  const LocalIds row(id_T, first_id, table_VD.dim[0]);
  with_float(y_TD.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    T* y = y_TD.as<T>();
    const T* table = table_VD.as<T>();
    parallel_range(tokens, tokens * d, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        if (row[t] < 0) {
          std::fill(y + t * d, y + (t + 1) * d, T(0.0f));
        } else {
          std::copy(table + row[t] * d, table + (row[t] + 1) * d, y + t * d);
        }
      }
    });
  });
}

void embedding_backward(Tensor dtable_VD, Tensor id_T, Tensor dy_TD, int64_t first_id) {
  const int64_t d = dtable_VD.dim[1], tokens = id_T.numel();
  const LocalIds row(id_T, first_id, dtable_VD.dim[0]);
  float* dtable = dtable_VD.as<float>();
  constexpr int64_t kStrip = 64;  // columns
  with_float(dy_TD.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    const T* dy = dy_TD.as<T>();
    parallel_range(ceil_div(d, kStrip), tokens * d, [&](int64_t begin, int64_t end) {
      for (int64_t t = 0; t < tokens; ++t) {
        if (row[t] < 0) continue;
        float* out = dtable + row[t] * d;
        vector_steps(begin * kStrip, std::min(end * kStrip, d), [&](int64_t i, auto lanes) {
          store(out + i, load(out + i, lanes) + load(dy + t * d + i, lanes), lanes);
        });
      }
    });
  });
}

void position_forward(Tensor y_TD, Tensor table_PD, int64_t first_row, int64_t context) {
  const int64_t d = table_PD.dim[1], rows = y_TD.dim[0];
  with_float(y_TD.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    T* y = y_TD.as<T>();
    const T* table = table_PD.as<T>();
    parallel_range(rows, rows * d, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const T* position = table + (first_row + t) % context * d;
        vector_steps(0, d, [&](int64_t i, auto lanes) {
          store(y + t * d + i, load(y + t * d + i, lanes) + load(position + i, lanes), lanes);
        });
      }
    });
  });
}

void position_backward(Tensor dtable_PD, Tensor dy_TD, int64_t first_row, int64_t context) {
  const int64_t d = dtable_PD.dim[1], rows = dy_TD.dim[0];
  float* dtable = dtable_PD.as<float>();
  with_float(dy_TD.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    const T* dy = dy_TD.as<T>();
    parallel_range(context, rows * d, [&](int64_t begin, int64_t end) {
      for (int64_t position = begin; position < end; ++position) {
        float* out = dtable + position * d;
        // The first row t >= 0 with (first_row + t) % context == position.
        int64_t t = (position - first_row % context + context) % context;
        for (; t < rows; t += context) {
          vector_steps(0, d, [&](int64_t i, auto lanes) {
            store(out + i, load(out + i, lanes) + load(dy + t * d + i, lanes), lanes);
          });
        }
      }
    });
  });
}

}  // namespace trident::cpu
