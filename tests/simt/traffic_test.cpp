// The memory-bound kernels, counted on aligned tensors of realistic rows: at most 1.1 times the least bytes, whole
// sectors only, no bank conflict. What is beyond that is argued beside its number.
//
// Legend: R rows, N columns, E bytes of an element of the compute dtype.
#include "traffic.h"
#include "kernels/cuda/families.h"

using namespace trident;
using namespace trident::simt_tests;

namespace {

constexpr int64_t kRows = 256, kColumns = 1024, kFloat = 4;

/// Calls f(dtype, its bytes, its name) for the compute dtypes whose kernels differ in more than rounding.
template <class F>
void for_dtypes(F f) {
  for (const DType dtype : {DType::bf16, DType::f32}) {
    f(dtype, static_cast<int64_t>(dtype_bytes(dtype)), " " + std::string(dtype_name(dtype)));
  }
}

NormArgs norm_args(TrafficBench& bench, NormKind kind, DType dtype) {
  NormArgs args{.kind = kind, .y_TD = bench.tensor(dtype, {kRows, kColumns}), .drop = {}};
  args.rstd_T = bench.tensor(DType::f32, {kRows});
  args.x_TD = bench.tensor(dtype, {kRows, kColumns});
  args.w_D = bench.tensor(dtype, {kColumns});
  if (kind == NormKind::layer_norm) {
    args.mean_T = bench.tensor(DType::f32, {kRows});
    args.b_D = bench.tensor(dtype, {kColumns});
  }
  return args;
}

/// Out of order, each row as often as the others: 7 has no factor in common with the powers of two here.
std::vector<int32_t> ids(int64_t count, int64_t rows) {
  std::vector<int32_t> list;
  for (int64_t t = 0; t < count; ++t) list.push_back(static_cast<int32_t>(t * 7 % rows));
  return list;
}

}  // namespace

TEST_CASE("traffic: norm forward", "[traffic]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  for_dtypes([&](DType dtype, int64_t e, const std::string& name) {
    for (const NormKind kind : {NormKind::layer_norm, NormKind::rms_norm}) {
      for (const bool joined : {false, true}) {
        const bool centred = kind == NormKind::layer_norm;
        NormArgs args = norm_args(bench, kind, dtype);
        if (joined) {
          args.stream_TD = bench.tensor(dtype, {kRows, kColumns});
          args.addend_TD = bench.tensor(dtype, {kRows, kColumns});
          args.drop = {.p = 0.1f, .key = {}, .first_row = 0};
        }
        const int64_t vectors = (centred ? 2 : 1) * kColumns * e;  // weight and bias
        // One block a row up to 2048 rows, each of which reads the vectors again: 4 KiB that the caches keep. With more
        // rows a block takes several and reads them once.
        bench.measure(
            {.operation = (centred ? "layer_norm_forward" : "rms_norm_forward") + name + (joined ? " residual" : ""),
             .minimum = (joined ? 4 : 2) * kRows * kColumns * e + vectors + (centred ? 2 : 1) * kRows * kFloat,
             .cached = (kRows - 1) * vectors},
            [&] { bench.ops().norm_forward(bench.stream(), args); });
      }
    }
  });
}

TEST_CASE("traffic: norm backward", "[traffic]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  for_dtypes([&](DType dtype, int64_t e, const std::string& name) {
    for (const NormKind kind : {NormKind::layer_norm, NormKind::rms_norm}) {
      const int64_t sums = kind == NormKind::layer_norm ? 2 : 1;
      NormBackwardArgs args{.forward = norm_args(bench, kind, dtype)};
      args.dx_TD = bench.tensor(dtype, {kRows, kColumns});
      args.dy_TD = bench.tensor(dtype, {kRows, kColumns});
      args.residual_TD = bench.tensor(dtype, {kRows, kColumns});
      args.dw_D = bench.tensor(DType::f32, {kColumns});
      if (sums == 2) args.db_D = bench.tensor(DType::f32, {kColumns});
      args.scratch = bench.scratch(bench.ops().scratch_bytes(args));
      // 8 rows a block. Each block reads the weight again, and leaves its sums of dw and db for the second kernel: at
      // most 864 blocks do, 7 MiB that the L2 (40 MiB on an A100) holds between the kernels. Fewer and longer blocks
      // would leave SMs idle for a few thousand rows; with more rows, the share falls.
      const int64_t blocks = kRows / 8, partials = 2 * blocks * sums * kColumns * kFloat;
      bench.measure({.operation = (sums == 2 ? "layer_norm_backward" : "rms_norm_backward") + name,
                     .minimum = 4 * kRows * kColumns * e + kColumns * e + sums * (kRows + 2 * kColumns) * kFloat,
                     .cached = (blocks - 1) * kColumns * e + partials},
                    [&] { bench.ops().norm_backward(bench.stream(), args); });
    }
  });
}

TEST_CASE("traffic: rope", "[traffic]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  for_dtypes([&](DType dtype, int64_t e, const std::string& name) {
    for (const int64_t head_size : {64, 128}) {
      const int64_t heads = kColumns / head_size, row = kColumns + 2 * head_size;  // values are not turned
      const RopeArgs args{
          .qkv = bench.tensor(dtype, {kRows, row}), .context = 128, .heads = heads, .head_size = head_size};
      bench.measure({.operation = "rope" + name + " " + std::to_string(head_size), .minimum = 2 * kRows * kColumns * e},
                    [&] { bench.ops().rope(bench.stream(), args); });
    }
  });
}

TEST_CASE("traffic: activations", "[traffic]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  constexpr std::pair<ActivationKind, const char*> kKinds[] = {{ActivationKind::gelu_tanh, "gelu"},
                                                               {ActivationKind::swiglu, "swiglu"},
                                                               {ActivationKind::relu, "relu"},
                                                               {ActivationKind::silu, "silu"}};
  for_dtypes([&](DType dtype, int64_t e, const std::string& name) {
    for (const auto& [kind, kind_name] : kKinds) {
      const int64_t inputs = is_gated(kind) ? 2 : 1, bytes = kRows * kColumns * e;
      const Tensor x = bench.tensor(dtype, {kRows, inputs * kColumns});
      const Tensor dx = bench.tensor(dtype, {kRows, inputs * kColumns});
      const Tensor y = bench.tensor(dtype, {kRows, kColumns});
      const ActivationKind f = kind;
      bench.measure({.operation = kind_name + ("_forward" + name), .minimum = (inputs + 1) * bytes},
                    [&] { bench.ops().activation_forward(bench.stream(), f, y, x); });
      bench.measure({.operation = kind_name + ("_backward" + name), .minimum = (2 * inputs + 1) * bytes},
                    [&] { bench.ops().activation_backward(bench.stream(), f, dx, y, x); });
    }
  });
}

TEST_CASE("traffic: dropout, bias", "[traffic]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  const DropoutSpec drop{.p = 0.1f, .key = {}, .first_row = 0};
  for_dtypes([&](DType dtype, int64_t e, const std::string& name) {
    const int64_t bytes = kRows * kColumns * e;
    const Tensor x = bench.tensor(dtype, {kRows, kColumns}), y = bench.tensor(dtype, {kRows, kColumns});
    const Tensor b = bench.tensor(dtype, {kColumns}), db = bench.tensor(DType::f32, {kColumns});
    const Tensor scratch = bench.scratch(bench.ops().bias_scratch_bytes(kRows, kColumns));
    bench.measure({.operation = "dropout_add" + name, .minimum = 3 * bytes},
                  [&] { bench.ops().dropout_add(bench.stream(), y, y, x, drop); });
    bench.measure({.operation = "dropout" + name, .minimum = 2 * bytes},
                  [&] { bench.ops().dropout_add(bench.stream(), y, {}, x, drop); });
    bench.measure({.operation = "dropout_backward" + name, .minimum = 2 * bytes},
                  [&] { bench.ops().dropout_backward(bench.stream(), x, y, drop); });
    bench.measure({.operation = "bias_add" + name, .minimum = 2 * bytes + kColumns * e},
                  [&] { bench.ops().bias_add(bench.stream(), x, b); });
    bench.measure({.operation = "bias_backward" + name, .minimum = bytes + 2 * kColumns * kFloat},
                  [&] { bench.ops().bias_backward(bench.stream(), db, x, scratch); });
  });
}

TEST_CASE("traffic: add, scale and casts", "[traffic]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  for_dtypes([&](DType to, int64_t to_bytes, const std::string& to_name) {
    for_dtypes([&](DType from, int64_t from_bytes, const std::string& from_name) {
      const Tensor x = bench.tensor(from, {kRows, kColumns}), y = bench.tensor(to, {kRows, kColumns});
      bench.measure(
          {.operation = "add" + to_name + from_name, .minimum = kRows * kColumns * (2 * to_bytes + from_bytes)},
          [&] { bench.ops().add(bench.stream(), y, x); });
      bench.measure({.operation = "scale" + to_name + from_name, .minimum = kRows * kColumns * (to_bytes + from_bytes)},
                    [&] { bench.ops().scale(bench.stream(), y, x, 0.5f); });
    });
  });
}

TEST_CASE("traffic: embedding", "[traffic]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  for_dtypes([&](DType dtype, int64_t e, const std::string& name) {
    for (const int64_t vocabulary : {kRows, kRows / 4}) {  // each row of the table once, or four times
      const std::string rows = name + " " + std::to_string(vocabulary) + " rows";
      const Tensor id = bench.vector(ids(kRows, vocabulary)), y = bench.tensor(dtype, {kRows, kColumns});
      const Tensor table = bench.tensor(dtype, {vocabulary, kColumns});
      const Tensor dtable = bench.tensor(DType::f32, {vocabulary, kColumns});
      const Tensor scratch = bench.scratch(bench.ops().embedding_scratch_bytes(kRows, vocabulary));
      // Tokens of one id read the same row of the table: memory sends it once, as long as the caches have it.
      bench.measure({.operation = "embedding_forward" + rows,
                     .minimum = kRows * (4 + kColumns * e) + vocabulary * kColumns * e,
                     .cached = (kRows - vocabulary) * kColumns * e},
                    [&] { bench.ops().embedding_forward(bench.stream(), y, id, table, 0); });
      // The sorted list (8 bytes a token) is scattered word by word, two sectors a token instead of a quarter, and read
      // from wherever a run begins, at most two sectors too many a look at either half.
      bench.measure({.operation = "embedding_backward" + rows,
                     .minimum = kRows * (4 + kColumns * e) + 2 * vocabulary * kColumns * kFloat,
                     .scattered = kRows * 2 + kRows * 4},
                    [&] { bench.ops().embedding_backward(bench.stream(), dtable, id, y, 0, scratch); });
    }
  });
}

TEST_CASE("traffic: positions", "[traffic]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  constexpr int64_t kContext = 64;
  for_dtypes([&](DType dtype, int64_t e, const std::string& name) {
    const Tensor y = bench.tensor(dtype, {kRows, kColumns}), table = bench.tensor(dtype, {kContext, kColumns});
    const Tensor dtable = bench.tensor(DType::f32, {kContext, kColumns});
    bench.measure({.operation = "position_forward" + name, .minimum = (2 * kRows + kContext) * kColumns * e},
                  [&] { bench.ops().position_forward(bench.stream(), y, table, 0, kContext); });
    bench.measure(
        {.operation = "position_backward" + name, .minimum = kRows * kColumns * e + 2 * kContext * kColumns * kFloat},
        [&] { bench.ops().position_backward(bench.stream(), dtable, y, 0, kContext); });
  });
}

TEST_CASE("traffic: softmax cross-entropy", "[traffic]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  constexpr int64_t kTokens = 16, kVocabulary = 16384, kValid = kVocabulary - 64;
  for_dtypes([&](DType dtype, int64_t e, const std::string& name) {
    const Tensor logits = bench.tensor(dtype, {kTokens, kVocabulary}), id = bench.vector(ids(kTokens, kValid));
    const Tensor max = bench.tensor(DType::f32, {kTokens}), sum = bench.tensor(DType::f32, {kTokens});
    const Tensor target = bench.tensor(DType::f32, {kTokens}), loss = bench.tensor(DType::f32, {kTokens});
    const int64_t valid_bytes = kTokens * kValid * e;
    bench.measure({.operation = "softmax_max" + name, .minimum = valid_bytes + kTokens * kFloat},
                  [&] { bench.ops().softmax_max(bench.stream(), max, logits, kValid); });
    bench.measure({.operation = "softmax_sum" + name, .minimum = valid_bytes + 4 * kTokens * kFloat},
                  [&] { bench.ops().softmax_sum(bench.stream(), sum, target, logits, max, id, 0, kValid); });
    bench.measure(
        {.operation = "softmax_loss" + name, .minimum = valid_bytes + kTokens * kVocabulary * e + 5 * kTokens * kFloat},
        [&] { bench.ops().softmax_loss(bench.stream(), loss, logits, max, sum, target, id, 0, kValid, true); });
  });
  const int64_t tokens = 4096;
  const auto column = [&] { return bench.tensor(DType::f32, {tokens}); };
  const Tensor logits = bench.tensor(DType::bf16, {tokens, 8}), id = bench.vector(ids(tokens, 8));
  const Tensor loss = column(), max = column(), sum = column(), target = column();
  bench.measure({.operation = "softmax_loss without gradient", .minimum = 4 * tokens * kFloat},
                [&] { bench.ops().softmax_loss(bench.stream(), loss, logits, max, sum, target, id, 0, 8, false); });
}

TEST_CASE("traffic: AdamW", "[traffic]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  constexpr int64_t kLength = kRows * kColumns;
  const auto floats = [&] { return bench.tensor(DType::f32, {kLength}); };
  AdamWArgs args{.master = floats(), .m = floats(), .v = floats(), .grad = floats(), .weight = {}};
  const auto measure = [&](const std::string& name, int64_t bytes_each) {
    bench.measure({.operation = "adamw" + name, .minimum = bytes_each * kLength},
                  [&] { bench.ops().adamw(bench.stream(), args); });
  };
  constexpr int64_t kState = 4 * kFloat + 3 * kFloat;  // master, m, v, grad read; the first three written
  measure(" without weight", kState);
  args.weight = bench.tensor(DType::bf16, {kLength});
  measure(" bf16", kState + 2);
  args.control_4 = bench.vector<float>({1, 1, 1, 1});
  measure(" bf16, control", kState + 2);
  args.stochastic_rounding = true;
  measure(" bf16, control, stochastic", kState + 2);
  args.stochastic_state = true;
  args.m = bench.tensor(DType::bf16, {kLength}), args.v = bench.tensor(DType::bf16, {kLength});
  measure(" bf16, control, stochastic, moments too", kState - 2 * kFloat + 2);
}

TEST_CASE("traffic: sums", "[traffic]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  const Tensor out = bench.tensor(DType::f64, {1}), scratch = bench.scratch(bench.ops().sum_scratch_bytes());
  for_dtypes([&](DType dtype, int64_t e, const std::string& name) {
    const Tensor x = bench.tensor(dtype, {kRows * kColumns});
    const int64_t minimum = x.numel() * e + 8;
    bench.measure({.operation = "sum" + name, .minimum = minimum},
                  [&] { bench.ops().sum(bench.stream(), out, x, scratch); });
    bench.measure({.operation = "sum_squares" + name, .minimum = minimum},
                  [&] { bench.ops().sum_squares(bench.stream(), out, x, scratch); });
  });
}

TEST_CASE("traffic: attention's row statistics; the audit's figures of attention", "[traffic]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  constexpr int64_t kContext = 128;
  for_dtypes([&](DType dtype, int64_t, const std::string& name) {
    for (const int64_t head_size : {64, 96, 128, 256}) {
      const std::string shape = name + " " + std::to_string(head_size);
      AttentionArgs forward{.out = bench.tensor(dtype, {kContext, head_size}),
                            .lse = bench.tensor(DType::f32, {1, 1, kContext}),
                            .qkv = bench.tensor(dtype, {kContext, 3 * head_size}),
                            .context = kContext,
                            .heads = 1,
                            .kv_heads = 1,
                            .head_size = head_size,
                            .dropout_key = {},
                            .heads_total = 1};
      forward.scratch = bench.scratch(bench.ops().scratch_bytes(forward));
      (void)bench.run("attention_forward" + shape, [&] { bench.ops().attention_forward(bench.stream(), forward); });
      AttentionBackwardArgs backward{.forward = forward,
                                     .dqkv = bench.tensor(dtype, {kContext, 3 * head_size}),
                                     .dout = bench.tensor(dtype, {kContext, head_size})};
      backward.scratch = bench.scratch(bench.ops().scratch_bytes(backward));
      const auto kernels =
          bench.run("attention_backward" + shape, [&] { bench.ops().attention_backward(bench.stream(), backward); });
      bool found = false;
      for (const auto& [kernel, c] : kernels) {
        if (kernel.find("statistics_kernel") == std::string::npos) continue;
        found = true;
        INFO(kernel);
        // Four rows of a warp share half a sector of lse, of which the next warp has the other half.
        CHECK(c.traffic_ratio() <= 1.1);
        CHECK(c.loads.sectors == c.loads.ideal_sectors);
        CHECK(c.stores.sectors == c.stores.ideal_sectors);
      }
      CHECK(found);
    }
  });
}

TEST_CASE("the hand-written gemm: all products on tensor cores, no bank conflict, whole sectors read", "[traffic]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  constexpr int64_t kM = 128, kN = 192, kK = 96;
  for_dtypes([&](DType dtype, int64_t, const std::string& name) {
    for (const auto& [transpose_a, transpose_b] :
         {std::pair{false, false}, {false, true}, {true, false}, {true, true}}) {
      const std::string layout = name + (transpose_a ? " T" : " N") + (transpose_b ? "T" : "N");
      const Tensor c = bench.tensor(DType::f32, {kM, kN});
      const Tensor a = transpose_a ? bench.tensor(dtype, {kK, kM}) : bench.tensor(dtype, {kM, kK});
      const Tensor b = transpose_b ? bench.tensor(dtype, {kN, kK}) : bench.tensor(dtype, {kK, kN});
      const GemmArgs args{.c_MN = c, .a = a, .b = b, .transpose_a = transpose_a, .transpose_b = transpose_b};
      const auto kernels = bench.run("gemm_handwritten" + layout, [&] {
        cuda::gemm_handwritten(static_cast<cudaStream_t>(bench.stream().handle), args);
      });
      REQUIRE(kernels.size() == 1);
      const auto& [kernel, counted] = *kernels.begin();
      INFO(kernel << layout);
      CHECK(counted.mma * 16 * 8 * 16 == (dtype == DType::f32 ? 0 : kM * kN * kK));
      CHECK(counted.shared.conflicts() + counted.ldmatrix_rows.conflicts() == 0);
      CHECK(counted.loads.sectors == counted.loads.ideal_sectors);
    }
  });
}
