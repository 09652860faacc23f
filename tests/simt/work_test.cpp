// No work for nothing: what the kernels do on ragged shapes, counted exactly. A tile, a turn, a row or a launch too
// many gives the right numbers and is seen here alone.
//
// Legend: C context, K head size, E bytes of an element, "a warp takes a tile": it multiplies it.
#include <algorithm>

#include "kernels/cuda/families.h"
#include "traffic.h"

using namespace trident;
using namespace trident::simt_tests;

namespace {

/// The counters of the one kernel whose name holds `part`.
simt::Counters kernel(const std::map<std::string, simt::Counters>& all, const std::string& part) {
  simt::Counters found;
  int count = 0;
  for (const auto& [name, counters] : all) {
    if (name.find(part) == std::string::npos) continue;
    found = counters;
    ++count;
  }
  CHECK(count == 1);
  return found;
}

uint64_t launches_of(const std::map<std::string, simt::Counters>& all) {
  uint64_t launches = 0;
  for (const auto& [name, counters] : all) launches += counters.launches;
  return launches;
}

/// One sequence with one head of ones; forward has run.
struct AttentionCall {
  AttentionBackwardArgs args;
  std::map<std::string, simt::Counters> forward, backward;

  AttentionCall(TrafficBench& bench, DType dtype, int64_t context, int64_t head_size, bool causal) {
    AttentionArgs& f = args.forward;
    f = {.out = bench.tensor(dtype, {context, head_size}),
         .lse = bench.tensor(DType::f32, {1, 1, context}),
         .qkv = bench.tensor(dtype, {context, 3 * head_size}),
         .context = context,
         .heads = 1,
         .kv_heads = 1,
         .head_size = head_size,
         .causal = causal,
         .dropout_key = {},
         .heads_total = 1};
    args.dqkv = bench.tensor(dtype, {context, 3 * head_size});
    args.dout = bench.tensor(dtype, {context, head_size});
    args.scratch = bench.scratch(bench.ops().scratch_bytes(args));
    forward = bench.run("attention_forward", [&] { bench.ops().attention_forward(bench.stream(), f); });
    backward = bench.run("attention_backward", [&] { bench.ops().attention_backward(bench.stream(), args); });
  }
};

/// What a kernel that owns tiles of one side has to do. Rows are queries when `own_queries`, else keys.
struct TileWork {
  uint64_t tiles = 0;       ///< that stream past, over all blocks
  uint64_t warp_tiles = 0;  ///< that a warp takes
  uint64_t rows = 0;        ///< of one operand that are inside the context, own and streamed
};

TileWork tile_work(int64_t context, bool causal, bool own_queries, int64_t own, int64_t warp_rows, int64_t stream) {
  TileWork work;
  for (int64_t first = 0; first < context; first += own) {
    work.rows += static_cast<uint64_t>(std::min(own, context - first));
    for (int64_t at = 0; at < context; at += stream) {
      // Does any row of the block see any of the tile?
      if (causal && (own_queries ? at >= first + own : at + stream <= first)) continue;
      ++work.tiles;
      work.rows += static_cast<uint64_t>(std::min(stream, context - at));
      for (int64_t row = first; row < first + own; row += warp_rows) {
        const bool sees = !causal || (own_queries ? at <= row + warp_rows - 1 : at + stream > row);
        work.warp_tiles += row < context && sees ? 1 : 0;
      }
    }
  }
  return work;
}

uint64_t products(int64_t rows, int64_t columns, int64_t inner) {
  return static_cast<uint64_t>(rows * columns * inner) / (16 * 8 * 16);
}

}  // namespace

TEST_CASE("work: attention on tensor cores copies and multiplies the tiles that are seen", "[work]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  constexpr int64_t kContext = 130, kHead = 64, kRow = kHead * 2, kChunks = kHead / 8;
  for (const bool causal : {false, true}) {
    INFO((causal ? "causal" : "full"));
    const AttentionCall call(bench, DType::bf16, kContext, kHead, causal);
    // Tiles as their shapes in attention_forward.cu and attention_backward.cu say. A tile that streams past brings two
    // operands, and so does the own one in backward.
    const auto check = [&](const simt::Counters& c, const TileWork& work, uint64_t own_rows, int64_t stream,
                           uint64_t other_copies) {
      CHECK(c.async_copies == (own_rows + 2 * work.tiles * static_cast<uint64_t>(stream)) * kChunks + other_copies);
    };
    {
      const TileWork work = tile_work(kContext, causal, true, 128, 32, 64);
      const simt::Counters c = kernel(call.forward, "forward_kernel");
      check(c, work, 2 * 128, 64, 0);
      CHECK(c.mma == work.warp_tiles * 2 * products(32, 64, kHead));
      CHECK(c.loads.bytes == (kContext + 2 * (work.rows - kContext)) * kRow);
    }
    {
      const TileWork work = tile_work(kContext, causal, false, 64, 16, 64);
      const simt::Counters c = kernel(call.backward, "key_kernel");
      check(c, work, 2 * 3 * 64, 64, work.tiles * 64 * 2 / 4);
      CHECK(c.mma == work.warp_tiles * 4 * products(16, 64, kHead));
      CHECK(c.loads.bytes == 2 * work.rows * kRow + work.tiles * 64 * 2 * 4);
    }
    {
      const TileWork work = tile_work(kContext, causal, true, 128, 32, 32);
      const simt::Counters c = kernel(call.backward, "query_kernel");
      check(c, work, 2 * 2 * 128, 32, 0);
      CHECK(c.mma == work.warp_tiles * 3 * products(32, 32, kHead));
    }
  }
}

TEST_CASE("work: the plain attention kernels take the tiles that are seen", "[work]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  constexpr int64_t kContext = 70, kTile = 32;
  for (const bool causal : {false, true}) {
    INFO((causal ? "causal" : "full"));
    const AttentionCall call(bench, DType::f32, kContext, 16, causal);
    const uint64_t tiles = tile_work(kContext, causal, true, kTile, kTile, kTile).tiles;
    // Two barriers a tile: its memory is free, it is there.
    CHECK(kernel(call.forward, "forward_kernel").barriers == 2 * tiles);
    CHECK(kernel(call.backward, "key_kernel").barriers == 2 * tiles);
    CHECK(kernel(call.backward, "query_kernel").barriers == 2 * tiles);
  }
}

TEST_CASE("work: the hand-written gemm stops at K", "[work]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  constexpr int64_t kM = 64, kN = 64;
  const auto run = [&](DType dtype, int64_t k) {
    const GemmArgs args{.c_MN = bench.tensor(DType::f32, {kM, kN}),
                        .a = bench.tensor(dtype, {kM, k}),
                        .b = bench.tensor(dtype, {k, kN})};
    return bench.run("gemm_handwritten K " + std::to_string(k),
                     [&] { cuda::gemm_handwritten(static_cast<cudaStream_t>(bench.stream().handle), args); });
  };
  for (const int64_t k : {16, 64, 80, 96, 104}) {
    INFO("K " << k);
    const simt::Counters c = kernel(run(DType::bf16, k), "gemm_mma_kernel");
    CHECK(c.mma == products(kM, kN, (k + 15) / 16 * 16));
    CHECK(c.barriers == static_cast<uint64_t>(k + 63) / 64);
    const simt::Counters fma = kernel(run(DType::f32, k), "gemm_fma_kernel");
    CHECK(fma.barriers == static_cast<uint64_t>(k + 15) / 16);
    CHECK(fma.loads.bytes == static_cast<uint64_t>((kM + kN) * k) * 4);
  }
}

TEST_CASE("work: embedding's sort looks at each tile of tokens once", "[work]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  constexpr int64_t kTokens = 768, kWidth = 8, kRows = 5, kTiles = 3;  // of 256
  std::vector<int32_t> ids;
  for (int64_t t = 0; t < kTokens; ++t) ids.push_back(static_cast<int32_t>(t % kRows));
  const Tensor id = bench.vector(ids), dy = bench.tensor(DType::bf16, {kTokens, kWidth});
  const Tensor dtable = bench.tensor(DType::f32, {kRows, kWidth});
  const Tensor scratch = bench.scratch(bench.ops().embedding_scratch_bytes(kTokens, kRows));
  const auto all = bench.run("embedding_backward",
                             [&] { bench.ops().embedding_backward(bench.stream(), dtable, id, dy, 0, scratch); });
  CHECK(kernel(all, "order_kernel").barriers == kTiles * kTiles * 2);
}

TEST_CASE("work: padding columns and ignored rows of logits are not read", "[work]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  constexpr int64_t kTokens = 4, kVocabulary = 256, kValid = 128;
  const Tensor logits = bench.tensor(DType::bf16, {kTokens, kVocabulary});
  const Tensor id = bench.vector(std::vector<int32_t>{0, 5, -1, 127}), loss = bench.tensor(DType::f32, {kTokens});
  const Tensor max = bench.tensor(DType::f32, {kTokens}), sum = bench.tensor(DType::f32, {kTokens});
  const Tensor target = bench.tensor(DType::f32, {kTokens});
  const auto all = bench.run("softmax_loss", [&] {
    bench.ops().softmax_loss(bench.stream(), loss, logits, max, sum, target, id, 0, kValid, true);
  });
  const simt::Counters c = kernel(all, "loss_gradient_kernel");
  CHECK(c.loads.unique_bytes <= 3 * kValid * 2 + kTokens * 4 * 4);  // the third row is ignored
}

TEST_CASE("work: positions without a token are not touched", "[work]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  constexpr int64_t kTokens = 16, kContext = 64, kWidth = 8;
  const Tensor dy = bench.tensor(DType::bf16, {kTokens, kWidth}), dtable = bench.tensor(DType::f32, {kContext, kWidth});
  const auto all =
      bench.run("position_backward", [&] { bench.ops().position_backward(bench.stream(), dtable, dy, 40, kContext); });
  const simt::Counters c = kernel(all, "position_backward_kernel");
  CHECK(c.loads.unique_bytes == kTokens * kWidth * (2 + 4));
  CHECK(c.stores.unique_bytes == kTokens * kWidth * 4);
}

TEST_CASE("work: one block's sum needs one launch, and no token none", "[work]") {
  if (!TrafficBench::counts()) return;
  TrafficBench bench;
  const Tensor out = bench.tensor(DType::f64, {1}), scratch = bench.scratch(bench.ops().sum_scratch_bytes());
  const Tensor x = bench.tensor(DType::f32, {100});
  CHECK(launches_of(bench.run("sum", [&] { bench.ops().sum(bench.stream(), out, x, scratch); })) == 1);

  const Tensor y = bench.tensor(DType::bf16, {0, 8}), dtable = bench.tensor(DType::f32, {16, 8});
  const Tensor table = bench.tensor(DType::bf16, {16, 8});
  simt::reset_counters();
  bench.ops().position_forward(bench.stream(), y, table, 0, 16);
  bench.ops().position_backward(bench.stream(), dtable, y, 0, 16);
  REQUIRE(cudaStreamSynchronize(static_cast<cudaStream_t>(bench.stream().handle)) == cudaSuccess);
  CHECK(launches_of(simt::counters()) == 0);
}
