// Every shape and dtype rule: a call that is right passes on dry tensors, and each way to break a rule is refused with
// the operation, the rule and the tensors in the message.
#include "kernels/check.h"

#include <functional>

#include "core/base/error.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/dry_ops.h"
#include "kernels/reference/reference_ops.h"
#include "support/catch.h"

using namespace trident;

namespace {

constexpr DType kHalf = DType::bf16, kFull = DType::f32, kIds = DType::i32;

Tensor dry(DType dtype, std::initializer_list<int64_t> shape) { return {nullptr, dtype, shape}; }

/// What a call throws; "" when it does not.
std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const InternalError& error) {
    return error.what();
  }
  return "";
}

/// `args` passes, and after `change` is refused with `rule` in the message.
template <class Args, class Check>
void refuses(Args args, Check check_args, const std::function<void(Args&)>& change, const std::string& rule) {
  CHECK(refusal([&] { check_args(args); }) == "");
  change(args);
  const std::string text = refusal([&] { check_args(args); });
  CAPTURE(text);
  CHECK(text.find(rule) != std::string::npos);
}

GemmArgs gemm_args() {
  GemmArgs a;
  a.c_MN = dry(kFull, {2, 3});
  a.a = dry(kHalf, {2, 4});
  a.b = dry(kHalf, {4, 3});
  return a;
}

NormBackwardArgs norm_args(NormKind kind) {
  NormBackwardArgs a;
  a.forward.kind = kind;
  a.forward.x_TD = a.forward.y_TD = a.dx_TD = a.dy_TD = dry(kHalf, {2, 3});
  a.forward.w_D = dry(kHalf, {3});
  a.forward.rstd_T = dry(kFull, {2});
  a.dw_D = dry(kFull, {3});
  if (kind == NormKind::layer_norm) {
    a.forward.b_D = dry(kHalf, {3});
    a.forward.mean_T = dry(kFull, {2});
    a.db_D = dry(kFull, {3});
  }
  return a;
}

AttentionBackwardArgs attention_args() {
  AttentionBackwardArgs a;
  a.forward.context = 3;
  a.forward.heads = 4;
  a.forward.kv_heads = 2;
  a.forward.head_size = 5;
  a.forward.heads_total = 4;
  a.forward.qkv = a.dqkv = dry(kHalf, {6, 40});
  a.forward.out = a.dout = dry(kHalf, {6, 20});
  a.forward.lse = dry(kFull, {2, 4, 3});
  return a;
}

AdamWArgs adamw_args() {
  AdamWArgs a;
  a.master = a.m = a.v = a.grad = dry(kFull, {7});
  a.weight = dry(kHalf, {7});
  return a;
}

}  // namespace

TEST_CASE("gemm's rules") {
  const auto rule = [](const std::function<void(GemmArgs&)>& change, const std::string& text) {
    refuses<GemmArgs>(
        gemm_args(), [](const GemmArgs& a) { check(a); }, change, text);
  };
  rule([](GemmArgs& a) { a.c_MN = dry(kFull, {6}); }, "c, a and b are matrices");
  rule([](GemmArgs& a) { a.transpose_a = true; }, "op(a) is [M, K]");
  rule([](GemmArgs& a) { a.transpose_b = true; }, "op(b) is [K, N]");
  rule([](GemmArgs& a) { a.a = dry(kFull, {2, 4}); }, "a and b share a float dtype");
  rule([](GemmArgs& a) { a.c_MN = dry(DType::f16, {2, 3}); }, "c has a's dtype or f32");
  rule([](GemmArgs& a) { a.bias_N = dry(kHalf, {3}), a.accumulate = true; }, "bias is not combined with accumulate");
  rule([](GemmArgs& a) { a.bias_N = dry(kFull, {3}); }, "bias is [N] of a's dtype");
  rule([](GemmArgs& a) { a.scratch = dry(kFull, {3}); }, "scratch is u8[bytes]");
}

TEST_CASE("the rules of gemm's epilogues") {
  const auto activated = [](const std::function<void(GemmArgs&)>& change, const std::string& text) {
    GemmArgs args = gemm_args();
    args.c_MN = args.activated_MN = dry(kHalf, {2, 3});
    refuses<GemmArgs>(
        args, [](const GemmArgs& a) { check(a); }, change, text);
  };
  activated([](GemmArgs& a) { a.accumulate = true; }, "an activation is not combined with accumulate");
  activated([](GemmArgs& a) { a.activation = ActivationKind::swiglu; },
            "a gated activation is an operation of its own");
  activated([](GemmArgs& a) { a.activated_MN = dry(kHalf, {2, 4}); }, "activated is like c, of a's dtype");
  activated([](GemmArgs& a) { a.c_MN = a.activated_MN = dry(kFull, {2, 3}); }, "activated is like c, of a's dtype");

  const auto bias_grad = [](const std::function<void(GemmArgs&)>& change, const std::string& text) {
    GemmArgs args = gemm_args();
    args.a = dry(kHalf, {4, 2});
    args.transpose_a = args.accumulate = true;
    args.bias_grad_M = dry(kFull, {2});
    refuses<GemmArgs>(
        args, [](const GemmArgs& a) { check(a); }, change, text);
  };
  bias_grad([](GemmArgs& a) { a.transpose_a = false, a.a = dry(kHalf, {2, 4}); }, "a bias gradient needs transpose_a");
  bias_grad([](GemmArgs& a) { a.bias_grad_M = dry(kFull, {3}); }, "bias_grad is [M], f32");
  bias_grad([](GemmArgs& a) { a.bias_grad_M = dry(kHalf, {2}); }, "bias_grad is [M], f32");
}

TEST_CASE("a refusal names the operation and every tensor") {
  GemmArgs args = gemm_args();
  args.b = dry(kHalf, {5, 3});
  CHECK(refusal([&] { check(args); }) ==
        "gemm: op(b) is [K, N]; got c_MN=f32[2,3] a=bf16[2,4] b=bf16[5,3] bias_N=absent "
        "activated_MN=absent bias_grad_M=absent scratch=absent");
}

TEST_CASE("the norms' rules") {
  using Args = NormBackwardArgs;
  const auto forward = [](NormKind kind, const std::function<void(Args&)>& change, const std::string& text) {
    refuses<Args>(
        norm_args(kind), [](const Args& a) { check_norm_forward(a.forward); }, change, text);
  };
  const auto backward = [](NormKind kind, const std::function<void(Args&)>& change, const std::string& text) {
    refuses<Args>(
        norm_args(kind), [](const Args& a) { check(a); }, change, text);
  };
  const NormKind layer = NormKind::layer_norm, rms = NormKind::rms_norm;
  forward(
      layer,
      [](Args& a) {
        a.forward.x_TD = dry(kIds, {2, 3});
      },
      "x is [T, D] of a float dtype");
  forward(
      layer,
      [](Args& a) {
        a.forward.x_TD = dry(kHalf, {2, 0});
      },
      "D is at least 1");
  forward(
      layer, [](Args& a) { a.forward.w_D = dry(kFull, {3}); }, "w is [D] of x's dtype");
  forward(
      layer, [](Args& a) { a.forward.rstd_T = dry(kHalf, {2}); }, "rstd is [T], f32");
  forward(
      layer, [](Args& a) { a.forward.mean_T = {}; }, "mean is [T], f32");
  forward(
      rms, [](Args& a) { a.forward.b_D = dry(kHalf, {3}); }, "RMSNorm has no mean and no b");
  forward(
      layer,
      [](Args& a) {
        a.forward.y_TD = dry(kFull, {2, 3});
      },
      "y is like x");
  forward(
      layer, [](Args& a) { a.forward.b_D = dry(kHalf, {4}); }, "b is like w");
  forward(
      rms, [](Args& a) { a.forward.stream_TD = a.forward.x_TD; }, "stream and dropout come with an addend");
  forward(
      rms, [](Args& a) { a.forward.drop.p = 0.5f; }, "stream and dropout come with an addend");
  backward(
      layer,
      [](Args& a) {
        a.dx_TD = dry(kFull, {2, 3});
      },
      "dx and dy are like x");
  backward(
      layer,
      [](Args& a) {
        a.residual_TD = dry(kHalf, {3, 2});
      },
      "residual is like x");
  backward(
      layer, [](Args& a) { a.dw_D = dry(kHalf, {3}); }, "dw is [D], f32");
  backward(
      rms, [](Args& a) { a.db_D = dry(kFull, {3}); }, "absent for RMSNorm");
  backward(
      rms, [](Args& a) { a.scratch = dry(kFull, {3}); }, "scratch is u8[bytes]");
}

TEST_CASE("the rules of a residual that joins a norm") {
  const auto rule = [](const std::function<void(NormArgs&)>& change, const std::string& text) {
    NormArgs right = norm_args(NormKind::rms_norm).forward;
    right.stream_TD = right.addend_TD = right.x_TD;
    right.drop = {.p = 0.5f, .key = {}, .first_row = 3};
    refuses<NormArgs>(right, check_norm_forward, change, text);
  };
  rule([](NormArgs& a) { a.addend_TD = dry(kFull, {2, 3}); }, "addend is like x");
  rule([](NormArgs& a) { a.stream_TD = dry(kHalf, {3, 2}); }, "stream is like x");
  rule([](NormArgs& a) { a.addend_TD = {}; }, "stream and dropout come with an addend");
  rule([](NormArgs& a) { a.drop.p = 1; }, "p is in [0, 1)");
  rule([](NormArgs& a) { a.drop.first_row = -1; }, "first_row is not negative");
  rule([](NormArgs& a) { a.addend_TD = dry(kHalf, {6}); }, "stream_TD=bf16[2,3] addend_TD=bf16[6]");
}

TEST_CASE("rope's rules") {
  const auto rule = [](const std::function<void(RopeArgs&)>& change, const std::string& text) {
    const RopeArgs right{.qkv = dry(kHalf, {2, 16}), .context = 2, .heads = 2, .head_size = 4};
    refuses<RopeArgs>(
        right, [](const RopeArgs& a) { check(a); }, change, text);
  };
  rule([](RopeArgs& a) { a.qkv = dry(kHalf, {32}); }, "qkv is [T, (H+2G)K]");
  rule([](RopeArgs& a) { a.context = 0; }, "context is positive");
  rule([](RopeArgs& a) { a.head_size = 3; }, "head_size is even");
  rule([](RopeArgs& a) { a.heads = 5; }, "the rotated heads lie inside the row");
}

TEST_CASE("attention's rules") {
  using Args = AttentionBackwardArgs;
  const auto rule = [](const std::function<void(Args&)>& change, const std::string& text) {
    refuses<Args>(
        attention_args(), [](const Args& a) { check(a); }, change, text);
  };
  rule([](Args& a) { a.forward.context = 0; }, "context and head_size are positive");
  rule([](Args& a) { a.forward.kv_heads = 3; }, "heads is a multiple of kv_heads");
  rule([](Args& a) { a.forward.context = 4; }, "qkv has whole sequences");
  rule([](Args& a) { a.forward.qkv = dry(kHalf, {6, 41}); }, "qkv is [T, (H+2G)K]");
  rule([](Args& a) { a.forward.out = dry(kFull, {6, 20}); }, "out is [T, HK] like qkv");
  rule([](Args& a) { a.forward.lse = dry(kFull, {2, 3, 4}); }, "lse is [B, H, C]");
  rule([](Args& a) { a.forward.dropout = 1; }, "dropout is in [0, 1)");
  rule([](Args& a) { a.forward.dropout = 0.5f, a.forward.first_head = 1; }, "heads lie inside heads_total");
  rule([](Args& a) { a.forward.scratch = dry(kFull, {1}); }, "attention: scratch is u8[bytes]");
  rule([](Args& a) { a.dqkv = dry(kFull, {6, 40}); }, "dqkv is like qkv");
  rule([](Args& a) { a.dout = dry(kHalf, {5, 20}); }, "dout is like out");
  rule([](Args& a) { a.scratch = dry(kFull, {1}); }, "attention_backward: scratch is u8[bytes]");
}

TEST_CASE("the pointwise rules") {
  const Tensor a = dry(kHalf, {2, 3}), wide = dry(kHalf, {2, 6}), other = dry(kFull, {2, 3}), flat = dry(kHalf, {6});
  const ActivationKind gelu = ActivationKind::gelu_tanh, swiglu = ActivationKind::swiglu;
  const DropoutSpec right{.p = 0.1f};
  CHECK(refusal([&] { check_activation_forward(gelu, a, a), check_activation_forward(swiglu, a, wide); }) == "");
  CHECK(refusal([&] { check_activation_forward(gelu, a, other); }).find("of a float dtype") != std::string::npos);
  CHECK(refusal([&] { check_activation_forward(swiglu, a, a); }).find("for swiglu [T, 2F]") != std::string::npos);
  CHECK(refusal([&] { check_activation_backward(gelu, a, a, a), check_activation_backward(swiglu, wide, a, wide); }) ==
        "");
  CHECK(refusal([&] { check_activation_backward(gelu, a, other, a); }).find("float matrices") != std::string::npos);
  CHECK(refusal([&] { check_activation_backward(gelu, a, a, wide); }).find("x is [T, F]") != std::string::npos);
  CHECK(refusal([&] { check_activation_backward(gelu, other, a, a); }).find("dx is like x") != std::string::npos);
  CHECK(refusal([&] { check_dropout_add(a, {}, a, right), check_dropout_add(a, a, a, right); }) == "");
  CHECK(refusal([&] { check_dropout_add(flat, {}, flat, right); }).find("y is [T, N]") != std::string::npos);
  CHECK(refusal([&] { check_dropout_add(a, other, a, right); }).find("x and z are like y") != std::string::npos);
  CHECK(refusal([&] { check_dropout_add(a, a, a, {.p = 1}); }).find("p is in [0, 1)") != std::string::npos);
  CHECK(refusal([&] { check_dropout_backward(a, a, right); }) == "");
  CHECK(refusal([&] { check_dropout_backward(flat, flat, right); }).find("dy is [T, N]") != std::string::npos);
  CHECK(refusal([&] { check_dropout_backward(other, a, right); }).find("dz is like dy") != std::string::npos);
  CHECK(refusal([&] { check_dropout_backward(a, a, {.first_row = -1}); }).find("first_row") != std::string::npos);
  CHECK(refusal([&] { check_bias_backward(dry(kFull, {3}), a), check_bias_add(a, dry(kHalf, {3})); }) == "");
  CHECK(refusal([&] { check_bias_backward(dry(kFull, {6}), flat); }).find("dy is [T, N]") != std::string::npos);
  CHECK(refusal([&] { check_bias_backward(dry(kHalf, {3}), a); }).find("db is [N], f32") != std::string::npos);
  CHECK(refusal([&] { check_bias_add(flat, dry(kHalf, {6})); }).find("x is [T, N]") != std::string::npos);
  CHECK(refusal([&] { check_bias_add(a, dry(kFull, {3})); }).find("b is [N] of x's dtype") != std::string::npos);
  CHECK(refusal([&] { check_elementwise("add", other, flat); }) == "");
  CHECK(refusal([&] { check_elementwise("add", a, {}); }).find("add: y and x are float") != std::string::npos);
  CHECK(refusal([&] { check_elementwise("scale", a, wide); }).find("scale: y and x have as many") != std::string::npos);
}

TEST_CASE("the embeddings' rules") {
  const Tensor y = dry(kHalf, {2, 3}), ids = dry(kIds, {2}), table = dry(kHalf, {9, 3}), grad = dry(kFull, {9, 3});
  const Tensor flat = dry(kHalf, {6}), wrong_ids = dry(DType::i64, {2}), narrow = dry(kHalf, {9, 2});
  CHECK(refusal([&] { check_embedding_forward(y, ids, table), check_embedding_backward(grad, ids, y, {}); }) == "");
  CHECK(refusal([&] { check_embedding_forward(flat, ids, table); }).find("y is [T, D]") != std::string::npos);
  CHECK(refusal([&] { check_embedding_forward(y, wrong_ids, table); }).find("id is i32[T]") != std::string::npos);
  CHECK(refusal([&] { check_embedding_forward(y, ids, narrow); }).find("table is [V, D]") != std::string::npos);
  CHECK(refusal([&] { check_embedding_backward(grad, ids, flat, {}); }).find("dy is [T, D]") != std::string::npos);
  CHECK(refusal([&] { check_embedding_backward(grad, wrong_ids, y, {}); }).find("id is i32[T]") != std::string::npos);
  CHECK(refusal([&] { check_embedding_backward(table, ids, y, {}); }).find("dtable is [V, D]") != std::string::npos);
  CHECK(refusal([&] { check_embedding_backward(grad, ids, y, grad); }).find("scratch is u8") != std::string::npos);
  CHECK(refusal([&] { check_position_forward(y, table, 4, 9), check_position_backward(grad, y, 4, 9); }) == "");
  CHECK(refusal([&] { check_position_forward(flat, table, 0, 9); }).find("y is [T, D]") != std::string::npos);
  CHECK(refusal([&] { check_position_forward(y, grad, 0, 9); }).find("table is [P, D]") != std::string::npos);
  CHECK(refusal([&] { check_position_forward(y, table, 0, 10); }).find("positions fit the table") != std::string::npos);
  CHECK(refusal([&] { check_position_backward(grad, flat, 0, 9); }).find("dy is [T, D]") != std::string::npos);
  CHECK(refusal([&] { check_position_backward(table, y, 0, 9); }).find("dtable is [P, D]") != std::string::npos);
  CHECK(refusal([&] { check_position_backward(grad, y, -1, 9); }).find("positions fit the table") != std::string::npos);
}

TEST_CASE("the loss passes' rules") {
  const Tensor x = dry(kHalf, {2, 8}), row = dry(kFull, {2}), short_row = dry(kFull, {1}), ids = dry(kIds, {2});
  CHECK(refusal([&] {
          check_softmax_max(row, x, 8), check_softmax_sum(row, row, x, row, ids, 7);
          check_softmax_loss(row, x, row, row, row, ids, 0);
        }) == "");
  CHECK(refusal([&] { check_softmax_max(row, ids, 2); }).find("logits is [T, V]") != std::string::npos);
  CHECK(refusal([&] { check_softmax_max(row, x, 9); }).find("valid columns lie inside V") != std::string::npos);
  CHECK(refusal([&] { check_softmax_max(short_row, x, 8); }).find("max is [T], f32") != std::string::npos);
  CHECK(refusal([&] { check_softmax_sum(row, short_row, x, row, ids, 8); }).find("sum, target and max") !=
        std::string::npos);
  CHECK(refusal([&] { check_softmax_sum(row, row, x, row, row, 8); }).find("id is i32[T]") != std::string::npos);
  CHECK(refusal([&] { check_softmax_loss(short_row, x, row, row, row, ids, 8); }).find("loss, max, sum") !=
        std::string::npos);
  CHECK(refusal([&] { check_softmax_loss(row, x, row, row, row, row, 8); }).find("id is i32[T]") != std::string::npos);
}

TEST_CASE("adamw's and the totals' rules") {
  const auto rule = [](const std::function<void(AdamWArgs&)>& change, const std::string& text) {
    refuses<AdamWArgs>(
        adamw_args(), [](const AdamWArgs& a) { check(a); }, change, text);
  };
  rule([](AdamWArgs& a) { a.master = dry(kHalf, {7}); }, "master is flat, f32");
  rule([](AdamWArgs& a) { a.grad = dry(kFull, {8}); }, "grad is like master");
  rule([](AdamWArgs& a) { a.v = dry(DType::bf16, {7}); }, "m and v are as long as master, of one dtype");
  rule([](AdamWArgs& a) { a.m = a.v = dry(DType::bf16, {8}); }, "m and v are as long as master, of one dtype");
  rule([](AdamWArgs& a) { a.m = a.v = dry(DType::bf16, {7}); }, "or bf16 with stochastic rounding of the state");
  rule([](AdamWArgs& a) { a.stochastic_state = true; }, "or bf16 with stochastic rounding of the state");
  rule([](AdamWArgs& a) { a.m = a.v = dry(DType::f16, {7}), a.stochastic_state = true; },
       "or bf16 with stochastic rounding of the state");
  rule([](AdamWArgs& a) { a.weight = dry(kHalf, {8}); }, "weight is as long as master");
  rule([](AdamWArgs& a) { a.step = 0; }, "step counts from 1");
  rule([](AdamWArgs& a) { a.stochastic_rounding = true, a.weight = dry(DType::f16, {7}); },
       "stochastic rounding makes a bf16 weight");
  rule([](AdamWArgs& a) { a.element.first = -1; }, "an element's index is not negative");
  rule([](AdamWArgs& a) { a.element = {.first = 0, .lead = 4, .columns = 4, .stride = 8}; },
       "the first row has elements behind its lead");
  rule([](AdamWArgs& a) { a.element = {.first = 0, .lead = 0, .columns = 4, .stride = 3}; }, "rows do not overlap");
  const Tensor out = dry(DType::f64, {1}), x = dry(kHalf, {2, 2});
  CHECK(refusal([&] { check_total("sum", out, x); }) == "");
  CHECK(refusal([&] { check_total("sum", dry(kFull, {1}), x); }).find("sum: out is f64[1]") != std::string::npos);
  CHECK(refusal([&] { check_total("sum", out, {}); }).find("x is a float tensor") != std::string::npos);
}

TEST_CASE("the dry table checks, touches nothing, and asks for the real table's scratch") {
  const auto cpu = make_cpu_ops();
  const auto ops = make_dry_ops(*cpu);
  GemmArgs args = gemm_args();
  CHECK_NOTHROW(ops->gemm({}, args));
  args.transpose_b = true;
  CHECK_THROWS_AS(ops->gemm({}, args), InternalError);
  CHECK(ops->scratch_bytes(gemm_args()) == cpu->scratch_bytes(gemm_args()));
  CHECK(ops->scratch_bytes(norm_args(NormKind::layer_norm)) == cpu->scratch_bytes(norm_args(NormKind::layer_norm)));
  CHECK(ops->scratch_bytes(attention_args()) == cpu->scratch_bytes(attention_args()));
  CHECK(ops->scratch_bytes(attention_args().forward) == cpu->scratch_bytes(attention_args().forward));
  CHECK(ops->embedding_scratch_bytes(70, 9) == cpu->embedding_scratch_bytes(70, 9));
}

TEST_CASE("the reference refuses to compute on integers") {
  std::vector<int32_t> ids(2);
  const Tensor t(ids.data(), DType::i32, {2});
  CHECK_THROWS_AS(make_reference_ops()->add({}, t, t), InternalError);
}
