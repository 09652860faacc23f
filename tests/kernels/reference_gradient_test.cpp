// Every backward operation of the reference table against central differences of its forward, all in f64.
#include "f64_tensor.h"
#include "kernels/reference/reference_ops.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::cases;

namespace {

/// A normal f64 tensor.
F64 random_tensor(Random& random, const std::vector<int64_t>& shape, double deviation = 1) {
  F64 t(shape);
  t.values = random.normal(DType::f64, static_cast<int64_t>(t.size()), deviation);
  return t;
}

const DropoutSpec kDropout{.p = 0.3f, .key = {5, 6, 7}, .first_row = 11};

}  // namespace

TEST_CASE("norm_backward is the gradient of norm_forward") {
  const auto ops = make_reference_ops();
  for (const NormKind kind : {NormKind::layer_norm, NormKind::rms_norm}) {
    Random random(1);
    const bool layer = kind == NormKind::layer_norm;
    F64 x = random_tensor(random, {3, 5}), w = random_tensor(random, {5}), b = random_tensor(random, {5});
    F64 y({3, 5}), mean({3}), rstd({3}), dy = random_tensor(random, {3, 5}), residual = random_tensor(random, {3, 5});
    const NormArgs args{.kind = kind,
                        .eps = 0.01f,
                        .y_TD = y,
                        .mean_T = layer ? Tensor(mean) : Tensor(),
                        .rstd_T = rstd,
                        .x_TD = x,
                        .w_D = w,
                        .b_D = layer ? Tensor(b) : Tensor()};
    const auto f = [&] {
      ops->norm_forward({}, args);
      const Weighted norm = weighted_sum(dy.values, y.values), straight = weighted_sum(residual.values, x.values);
      return Weighted{norm.value + straight.value, norm.magnitude + straight.magnitude};
    };
    f();
    F64 dx({3, 5}), dw({5}), db({5});
    ops->norm_backward({}, {.forward = args,
                            .dx_TD = dx,
                            .dy_TD = dy,
                            .residual_TD = residual,
                            .dw_D = dw,
                            .db_D = layer ? Tensor(db) : Tensor(),
                            .scratch = {}});
    CHECK(gradient_error("dx", x.values, dx.values, f) == "");
    CHECK(gradient_error("dw", w.values, dw.values, f) == "");
    if (layer) CHECK(gradient_error("db", b.values, db.values, f) == "");
  }
}

TEST_CASE("attention_backward is the gradient of attention_forward") {
  const auto ops = make_reference_ops();
  for (const bool causal : {true, false}) {
    for (const float dropout : {0.0f, 0.4f}) {
      Random random(2);
      F64 qkv = random_tensor(random, {10, 8 * 3}), out({10, 4 * 3}), lse({2, 4, 5});
      F64 dout = random_tensor(random, {10, 4 * 3}), dqkv({10, 8 * 3});
      AttentionArgs args;
      args.out = out;
      args.lse = lse;
      args.qkv = qkv;
      args.context = 5;
      args.heads = 4;
      args.kv_heads = 2;
      args.head_size = 3;
      args.scale = 0.6f;
      args.causal = causal;
      args.dropout = dropout;
      args.dropout_key = {1, 2, 3};
      args.first_head = 1;
      args.heads_total = 8;
      const auto f = [&] {
        ops->attention_forward({}, args);
        return weighted_sum(dout.values, out.values);
      };
      f();
      ops->attention_backward({}, {.forward = args, .dqkv = dqkv, .dout = dout, .scratch = {}});
      CHECK(gradient_error("dqkv", qkv.values, dqkv.values, f) == "");
    }
  }
}

TEST_CASE("rope's inverse is its gradient and its inverse") {
  const auto ops = make_reference_ops();
  Random random(3);
  F64 x = random_tensor(random, {7, 3 * 6}), y({7, 18}), dy = random_tensor(random, {7, 18});
  RopeArgs args{.qkv = y, .context = 4, .heads = 2, .head_size = 6, .theta = 100.0};
  const auto f = [&] {
    y.values = x.values;
    ops->rope({}, args);
    return weighted_sum(dy.values, y.values);
  };
  f();
  RopeArgs inverse = args;
  inverse.inverse = true;
  ops->rope({}, inverse);
  for (size_t i = 0; i < x.size(); ++i) {
    // Two rotations, each two products and a sum of numbers below |pair|.
    CHECK(std::abs(y[i] - x[i]) <= 16 * dtype_epsilon(DType::f64) * 4);
  }
  F64 dx({7, 18}, dy.values);
  inverse.qkv = dx;
  ops->rope({}, inverse);
  CHECK(gradient_error("dx", x.values, dx.values, f) == "");
}

TEST_CASE("activation_backward is the gradient of activation_forward") {
  const auto ops = make_reference_ops();
  for (const ActivationKind kind :
       {ActivationKind::gelu_tanh, ActivationKind::swiglu, ActivationKind::relu, ActivationKind::silu}) {
    Random random(4);
    const int64_t width = kind == ActivationKind::swiglu ? 14 : 7;
    F64 x = random_tensor(random, {3, width}, 2), y({3, 7}), dy = random_tensor(random, {3, 7}), dx({3, width});
    const auto f = [&] {
      ops->activation_forward({}, kind, y, x);
      return weighted_sum(dy.values, y.values);
    };
    ops->activation_backward({}, kind, dx, dy, x);
    CHECK(gradient_error("dx", x.values, dx.values, f) == "");
  }
}

TEST_CASE("dropout_backward is the gradient of dropout_add") {
  const auto ops = make_reference_ops();
  Random random(5);
  F64 x = random_tensor(random, {6, 5}), z = random_tensor(random, {6, 5}), y({6, 5});
  F64 dy = random_tensor(random, {6, 5}), dz({6, 5});
  const auto f = [&] {
    ops->dropout_add({}, y, x, z, kDropout);
    return weighted_sum(dy.values, y.values);
  };
  ops->dropout_backward({}, dz, dy, kDropout);
  CHECK(gradient_error("dz", z.values, dz.values, f) == "");
  CHECK(gradient_error("dx", x.values, dy.values, f) == "");
}

TEST_CASE("bias_backward is the gradient of bias_add, and accumulates") {
  const auto ops = make_reference_ops();
  Random random(6);
  F64 x = random_tensor(random, {6, 5}), b = random_tensor(random, {5}), y({6, 5}), dy = random_tensor(random, {6, 5});
  const auto f = [&] {
    y.values = x.values;
    ops->bias_add({}, y, b);
    return weighted_sum(dy.values, y.values);
  };
  F64 db({5}, Values(5, 2.0));
  ops->bias_backward({}, db, dy, {});
  for (double& g : db.values) g -= 2;
  CHECK(gradient_error("db", b.values, db.values, f) == "");
}

TEST_CASE("embedding_backward and position_backward are the gradients of their forwards") {
  const auto ops = make_reference_ops();
  Random random(7);
  std::vector<int32_t> ids{4, 3, 6, 4, -1, 100, 2};
  const Tensor id_T(ids.data(), DType::i32, {7});
  F64 table = random_tensor(random, {4, 3}), positions = random_tensor(random, {6, 3});
  F64 y({7, 3}), dy = random_tensor(random, {7, 3}), dtable({4, 3}), dpositions({6, 3});
  const auto f = [&] {
    ops->embedding_forward({}, y, id_T, table, 3);
    ops->position_forward({}, y, positions, 2, 5);
    return weighted_sum(dy.values, y.values);
  };
  ops->embedding_backward({}, dtable, id_T, dy, 3, {});
  ops->position_backward({}, dpositions, dy, 2, 5);
  CHECK(gradient_error("dtable", table.values, dtable.values, f) == "");
  CHECK(gradient_error("dpositions", positions.values, dpositions.values, f) == "");
}

TEST_CASE("the logits that softmax_loss leaves are the gradient of the summed loss") {
  const auto ops = make_reference_ops();
  Random random(8);
  std::vector<int32_t> ids{0, 5, -1, 3};
  const Tensor id_T(ids.data(), DType::i32, {4});
  F64 logits = random_tensor(random, {4, 8}, 2), max({4}), sum({4}), target({4}), loss({4});
  const auto passes = [&](Tensor logits_TV, bool gradient) {
    ops->softmax_max({}, max, logits_TV, 6);
    ops->softmax_sum({}, sum, target, logits_TV, max, id_T, 0, 6);
    ops->softmax_loss({}, loss, logits_TV, max, sum, target, id_T, 0, 6, gradient);
    return weighted_sum(Values(4, 1.0), loss.values);
  };
  F64 dlogits({4, 8}, logits.values);
  passes(dlogits, true);
  CHECK(gradient_error("dlogits", logits.values, dlogits.values, [&] { return passes(logits, false); }) == "");
}
