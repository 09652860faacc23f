#include "kernels/attention_kernel.h"

#include <string>

#include "core/base/error.h"
#include "support/catch.h"

namespace trident {
namespace {

/// GPT-2 124M's, which cuDNN takes.
AttentionArgs gpt2() {
  AttentionArgs args;
  args.context = 1024, args.heads = args.kv_heads = args.heads_total = 12, args.head_size = 64;
  args.qkv = Tensor(nullptr, DType::bf16, {4 * args.context, 3 * 12 * 64});
  args.scale = 0.125f;
  return args;
}

CudnnOffer willing() { return {.forward_bytes = 448, .backward_bytes = size_t{96} << 20}; }

CudnnOffer never() {
  FAIL("cuDNN is asked for a call that the contract keeps from it");
  return {};
}

AttentionChoice automatic(const AttentionArgs& args, const std::function<CudnnOffer()>& ask) {
  return choose_attention(AttentionKernel::automatic, args, ask);
}

bool says(const AttentionChoice& choice, const std::string& part) {
  INFO(choice.reason);
  return !choice.cudnn && choice.reason.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("cuDNN takes an attention that it has engines for") {
  const AttentionChoice choice = automatic(gpt2(), willing);
  CHECK(choice.cudnn);
  CHECK(choice.reason.empty());
  AttentionArgs half = gpt2();
  half.qkv.dtype = DType::f16;
  half.causal = false;
  half.kv_heads = 4;
  CHECK(automatic(half, willing).cudnn);
}

TEST_CASE("what the contract keeps from cuDNN is never asked for") {
  AttentionArgs single = gpt2();
  single.qkv.dtype = DType::f32;
  CHECK(says(automatic(single, never), "not in f32"));

  AttentionArgs drops = gpt2();
  drops.dropout = 0.1f;
  CHECK(says(automatic(drops, never), "dropout 0.1"));

  for (const int64_t size : {4, 60, 100, 264}) {
    AttentionArgs odd = gpt2();
    odd.head_size = size;
    CHECK(says(automatic(odd, never), "not " + std::to_string(size)));
  }

  AttentionArgs empty = gpt2();
  empty.qkv = Tensor(nullptr, DType::bf16, {0, 3 * 12 * 64});
  CHECK(says(automatic(empty, never), "no tokens"));

  CHECK(says(choose_attention(AttentionKernel::own, gpt2(), never), "attention_kernel: own"));
}

TEST_CASE("cuDNN's own refusal is passed on, and more workspace than is set aside is one") {
  CHECK(says(automatic(gpt2(), [] { return CudnnOffer{.refusal = "cuDNN 9.19.0 says: no engine"}; }), "no engine"));
  const size_t aside = cudnn_backward_bytes(gpt2());
  CHECK(automatic(gpt2(), [&] { return CudnnOffer{.backward_bytes = aside}; }).cudnn);
  CHECK(says(automatic(gpt2(), [&] { return CudnnOffer{.backward_bytes = aside + 1}; }), "set aside"));
  CHECK(says(automatic(gpt2(), [&] { return CudnnOffer{.forward_bytes = 4097}; }), "set aside"));
}

TEST_CASE("a long context takes too much of cuDNN's workspace, unless it was asked for") {
  AttentionArgs longer = gpt2();
  longer.context = 4096;
  longer.qkv = Tensor(nullptr, DType::bf16, {longer.context, 3 * 12 * 64});
  CHECK(says(automatic(longer, never), "256.0 MiB"));
  CHECK(choose_attention(AttentionKernel::cudnn, longer, willing).cudnn);
}

TEST_CASE("what is set aside for cuDNN is what cuDNN 9.19 asked for when it planned for an H100") {
  struct Seen {
    int64_t sequences, context, heads, kv_heads, head_size;
    size_t bytes;
  };
  const Seen seen[] = {{4, 1024, 12, 12, 64, 100860352}, {1, 4096, 32, 8, 128, 1141375424},
                       {2, 1000, 6, 2, 96, 29822272},    {2, 7, 4, 4, 64, 131744},
                       {1, 129, 4, 2, 40, 478416},       {1, 512, 4, 2, 256, 4202944},
                       {1, 512, 4, 2, 192, 3678656},     {2, 33, 4, 4, 8, 132576}};
  for (const Seen& s : seen) {
    AttentionArgs args = gpt2();
    args.context = s.context, args.heads = s.heads, args.kv_heads = s.kv_heads, args.head_size = s.head_size;
    args.qkv = Tensor(nullptr, DType::bf16, {s.sequences * s.context, (s.heads + 2 * s.kv_heads) * s.head_size});
    CAPTURE(s.context, s.head_size);
    CHECK(cudnn_backward_bytes(args) >= s.bytes);
    CHECK(cudnn_backward_bytes(args) - s.bytes <= 4096);
  }
}

TEST_CASE("scratch is set aside for cuDNN only where it may be asked") {
  const auto bytes = [](AttentionKernel wanted, const AttentionArgs& args) {
    return attention_scratch_bytes(wanted,
                                   AttentionBackwardArgs{.forward = args, .dqkv = {}, .dout = {}, .scratch = {}});
  };
  AttentionArgs drops = gpt2();
  drops.dropout = 0.1f;
  const size_t own = bytes(AttentionKernel::own, gpt2());
  CHECK(own < cudnn_backward_bytes(gpt2()));
  CHECK(bytes(AttentionKernel::automatic, gpt2()) == cudnn_backward_bytes(gpt2()));
  CHECK(bytes(AttentionKernel::automatic, drops) == own);
}

TEST_CASE("cuDNN that was asked for and can't be had is the user's mistake") {
  const auto message = [](const AttentionArgs& args, const std::function<CudnnOffer()>& ask) {
    try {
      choose_attention(AttentionKernel::cudnn, args, ask);
    } catch (const UserError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(message(gpt2(), [] { return CudnnOffer{.refusal = "this binary was built without cuDNN"}; }) ==
        "train.attention_kernel: cudnn, but cuDNN can't take this attention: this binary was built without cuDNN; set "
        "it to auto or own");
  AttentionArgs drops = gpt2();
  drops.dropout = 0.25f;
  CHECK(message(drops, never).find("dropout 0.25") != std::string::npos);
  CHECK(message(gpt2(), willing).empty());
}

}  // namespace trident
