// Activations, dropout, bias, add and scale, with their in-place modes.
//
// Activation bounds (eps = kEps): a sigmoid may be computed as (1 + tanh)/2, whose cancellation is absolute, so
//   gelu, silu: kLambda eps |x|;     swiglu: kLambda eps |gate up|;   relu: exact
//   derivatives: kLambda eps |dy| (1 + |x|) for silu; for gelu kLambda eps |dy| (1 + |x| (1 + 0.134 x^2)), its inner
//   polynomial's growth; swiglu: |dy up| (1 + |gate|) and |dy gate|.
// Dropout: the factor and the product are a rounding each, the sum another: kLambda eps (|x| + |z| / (1 - p)).
// Column sums of T rows: kLambda sqrt(T + 1) eps (|db0| + sum|dy|). One sum: eps (|x| + |y|); one product: eps |y|.
#include <cmath>

#include "cases.h"
#include "core/base/error.h"

namespace trident::cases {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};
constexpr int64_t kShapes[][2] = {{1, 1}, {1, 5}, {3, 7}, {2, 16}, {5, 33}, {4, 130}, {17, 64}, {129, 24}};

const char* name_of(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::gelu_tanh: return "gelu_tanh";
    case ActivationKind::swiglu: return "swiglu";
    case ActivationKind::relu: return "relu";
    case ActivationKind::silu: return "silu";
  }
  return "";
}

Case activation_forward_case(ActivationKind kind, int64_t rows, int64_t width, DType dtype) {
  const bool gated = kind == ActivationKind::swiglu;
  const int64_t x_width = gated ? 2 * width : width;
  Case c;
  c.name = build_string(name_of(kind), "_forward ", rows, "x", width, " ", dtype_name(dtype));
  c.operands = [=, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o;
    o.push_back({"x", Use::in, dtype, {rows, x_width}, random.normal(dtype, rows * x_width, 3)});
    o.push_back({"y", Use::out, dtype, {rows, width}, {}});
    return o;
  };
  c.run = [kind](const Ops& ops, Arguments& t) { ops.activation_forward(t.stream(), kind, t["y"], t["x"]); };
  c.bounds = [=](const Oracle& oracle) -> Bounds {
    if (kind == ActivationKind::relu) return {};
    const Values& x = oracle.before("x");
    Values bound(oracle.after("y").size());
    const auto n = static_cast<size_t>(width);
    for (size_t i = 0; i < bound.size(); ++i) {
      const size_t gate = i / n * 2 * n + i % n;
      bound[i] = kLambda * kEps * (gated ? std::abs(x[gate] * x[gate + n]) : std::abs(x[i]));
    }
    return {{"y", bound}};
  };
  return c;
}

Bounds activation_backward_bounds(ActivationKind kind, size_t width, const Values& x, const Values& dy,
                                  const std::string& output) {
  Values bound(x.size());
  for (size_t i = 0; i < dy.size(); ++i) {
    const double a = std::abs(x[i]), unit = kLambda * kEps * std::abs(dy[i]);
    const size_t gate = i / width * 2 * width + i % width, up = gate + width;
    switch (kind) {
      case ActivationKind::gelu_tanh: bound[i] = unit * (1 + a * (1 + 0.134 * a * a)); break;
      case ActivationKind::silu: bound[i] = unit * (1 + a); break;
      case ActivationKind::relu: return {};
      case ActivationKind::swiglu:
        bound[gate] = unit * std::abs(x[up]) * (1 + std::abs(x[gate]));
        bound[up] = unit * std::abs(x[gate]);
        break;
    }
  }
  return {{output, bound}};
}

Case activation_backward_case(ActivationKind kind, int64_t rows, int64_t width, DType dtype, bool in_place) {
  const int64_t x_width = kind == ActivationKind::swiglu ? 2 * width : width;
  Case c;
  c.name = build_string(name_of(kind), "_backward ", rows, "x", width, " ", dtype_name(dtype), in_place ? " dx=x" : "");
  c.operands = [=, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o;
    o.push_back(
        {"x", in_place ? Use::inout : Use::in, dtype, {rows, x_width}, random.normal(dtype, rows * x_width, 3)});
    o.push_back({"dy", Use::in, dtype, {rows, width}, random.normal(dtype, rows * width)});
    if (!in_place) o.push_back({"dx", Use::out, dtype, {rows, x_width}, {}});
    return o;
  };
  c.run = [kind, in_place](const Ops& ops, Arguments& t) {
    ops.activation_backward(t.stream(), kind, t[in_place ? "x" : "dx"], t["dy"], t["x"]);
  };
  c.bounds = [=](const Oracle& oracle) {
    return activation_backward_bounds(kind, static_cast<size_t>(width), oracle.before("x"), oracle.before("dy"),
                                      in_place ? "x" : "dx");
  };
  return c;
}

DropoutSpec dropout_of(float p, int64_t first_row) {
  return {.p = p, .key = {1234, 9, random_purpose("dropout case")}, .first_row = first_row};
}

/// `output` names the tensor that receives y: "y", or "x" or "z" in place.
Case dropout_add_case(int64_t rows, int64_t width, DType dtype, float p, bool with_x, const std::string& output) {
  Case c;
  c.name = build_string("dropout_add ", rows, "x", width, " ", dtype_name(dtype), " p ", p, with_x ? "" : " without x",
                        output == "y" ? "" : " in place of " + output);
  c.operands = [=, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o;
    const std::vector<int64_t> shape{rows, width};
    o.push_back({"z", output == "z" ? Use::inout : Use::in, dtype, shape, random.normal(dtype, rows * width)});
    if (with_x)
      o.push_back({"x", output == "x" ? Use::inout : Use::in, dtype, shape, random.normal(dtype, rows * width)});
    if (output == "y") o.push_back({"y", Use::out, dtype, shape, {}});
    return o;
  };
  c.run = [=](const Ops& ops, Arguments& t) {
    ops.dropout_add(t.stream(), t[output], with_x ? t["x"] : Tensor(), t["z"], dropout_of(p, 3 * rows + 1));
  };
  c.bounds = [=](const Oracle& oracle) {
    Values bound = magnitudes(oracle.before("z"));
    for (size_t i = 0; i < bound.size(); ++i) {
      bound[i] =
          kLambda * kEps * (bound[i] / (1 - static_cast<double>(p)) + (with_x ? std::abs(oracle.before("x")[i]) : 0.0));
    }
    return Bounds{{output, bound}};
  };
  return c;
}

Case dropout_backward_case(int64_t rows, int64_t width, DType dtype, float p, bool in_place) {
  Case c;
  c.name = build_string("dropout_backward ", rows, "x", width, " ", dtype_name(dtype), " p ", p,
                        in_place ? " in place" : "");
  c.operands = [=, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o;
    o.push_back({"dy", in_place ? Use::inout : Use::in, dtype, {rows, width}, random.normal(dtype, rows * width)});
    if (!in_place) o.push_back({"dz", Use::out, dtype, {rows, width}, {}});
    return o;
  };
  c.run = [=](const Ops& ops, Arguments& t) {
    ops.dropout_backward(t.stream(), t[in_place ? "dy" : "dz"], t["dy"], dropout_of(p, rows));
  };
  c.bounds = [=](const Oracle& oracle) {
    Values bound = magnitudes(oracle.before("dy"));
    for (double& x : bound) x *= kLambda * kEps / (1 - static_cast<double>(p));
    return Bounds{{in_place ? "dy" : "dz", bound}};
  };
  return c;
}

Case bias_backward_case(int64_t rows, int64_t width, DType dtype) {
  Case c;
  c.name = build_string("bias_backward ", rows, "x", width, " ", dtype_name(dtype));
  c.operands = [=, seed = seed_of(c.name)] {
    Random random(seed);
    const DType grad = statistics_dtype(dtype);
    std::vector<Operand> o;
    o.push_back({"dy", Use::in, dtype, {rows, width}, random.normal(dtype, rows * width)});
    o.push_back({"db", Use::inout, grad, {width}, random.normal(grad, width)});
    return o;
  };
  c.run = [=](const Ops& ops, Arguments& t) {
    ops.bias_backward(t.stream(), t["db"], t["dy"], t.scratch(ops.bias_scratch_bytes(rows, width)));
  };
  c.bounds = [=](const Oracle& oracle) {
    const Values& dy = oracle.before("dy");
    Values bound = magnitudes(oracle.before("db"));
    for (size_t i = 0; i < dy.size(); ++i) bound[i % bound.size()] += std::abs(dy[i]);
    for (double& x : bound) x *= kLambda * kEps * std::sqrt(static_cast<double>(rows + 1));
    return Bounds{{"db", bound}};
  };
  return c;
}

Case bias_add_case(int64_t rows, int64_t width, DType dtype) {
  Case c;
  c.name = build_string("bias_add ", rows, "x", width, " ", dtype_name(dtype));
  c.operands = [=, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o;
    o.push_back({"x", Use::inout, dtype, {rows, width}, random.normal(dtype, rows * width)});
    o.push_back({"b", Use::in, dtype, {width}, random.normal(dtype, width)});
    return o;
  };
  c.run = [](const Ops& ops, Arguments& t) { ops.bias_add(t.stream(), t["x"], t["b"]); };
  c.bounds = [](const Oracle& oracle) {
    const Values& b = oracle.before("b");
    Values bound = magnitudes(oracle.before("x"));
    for (size_t i = 0; i < bound.size(); ++i) bound[i] = kEps * (bound[i] + std::abs(b[i % b.size()]));
    return Bounds{{"x", bound}};
  };
  return c;
}

Case add_case(int64_t n, DType y_dtype, DType x_dtype) {
  Case c;
  c.name = build_string("add ", n, " ", dtype_name(y_dtype), " += ", dtype_name(x_dtype));
  c.operands = [=, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o;
    o.push_back({"y", Use::inout, y_dtype, {n}, random.normal(y_dtype, n)});
    o.push_back({"x", Use::in, x_dtype, {n}, random.normal(x_dtype, n)});
    return o;
  };
  c.run = [](const Ops& ops, Arguments& t) { ops.add(t.stream(), t["y"], t["x"]); };
  c.bounds = [](const Oracle& oracle) {
    Values bound = magnitudes(oracle.before("y"));
    for (size_t i = 0; i < bound.size(); ++i) bound[i] = kEps * (bound[i] + std::abs(oracle.before("x")[i]));
    return Bounds{{"y", bound}};
  };
  return c;
}

Case scale_case(int64_t n, DType y_dtype, DType x_dtype, float factor, bool in_place) {
  Case c;
  c.name = build_string("scale ", n, " ", dtype_name(y_dtype), " = ", factor, " ", dtype_name(x_dtype),
                        in_place ? " in place" : "");
  c.operands = [=, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o;
    o.push_back({"x", in_place ? Use::inout : Use::in, x_dtype, {n}, random.normal(x_dtype, n)});
    if (!in_place) o.push_back({"y", Use::out, y_dtype, {n}, {}});
    return o;
  };
  c.run = [=](const Ops& ops, Arguments& t) { ops.scale(t.stream(), t[in_place ? "x" : "y"], t["x"], factor); };
  c.bounds = [=](const Oracle& oracle) -> Bounds {
    // A factor of 1 is the cast, and the cast is exact: one rounding to nearest even.
    if (factor == 1) return {};
    const std::string output = in_place ? "x" : "y";
    Values bound = magnitudes(oracle.after(output));
    for (double& x : bound) x *= kEps;
    return {{output, bound}};
  };
  return c;
}

}  // namespace

std::vector<Case> activation_cases() {
  std::vector<Case> list;
  for (const ActivationKind kind :
       {ActivationKind::gelu_tanh, ActivationKind::swiglu, ActivationKind::relu, ActivationKind::silu}) {
    for (const DType dtype : kFloats) {
      for (const auto& shape : kShapes) {
        list.push_back(activation_forward_case(kind, shape[0], shape[1], dtype));
        list.push_back(activation_backward_case(kind, shape[0], shape[1], dtype, false));
        list.push_back(activation_backward_case(kind, shape[0], shape[1], dtype, true));
      }
    }
  }
  return list;
}

std::vector<Case> dropout_cases() {
  std::vector<Case> list;
  for (const DType dtype : kFloats) {
    for (const auto& shape : kShapes) {
      for (const float p : {0.0f, 0.1f, 0.5f}) {
        for (const char* output : {"y", "x", "z"}) {
          list.push_back(dropout_add_case(shape[0], shape[1], dtype, p, true, output));
        }
        list.push_back(dropout_add_case(shape[0], shape[1], dtype, p, false, "y"));
        list.push_back(dropout_add_case(shape[0], shape[1], dtype, p, false, "z"));
        list.push_back(dropout_backward_case(shape[0], shape[1], dtype, p, false));
        list.push_back(dropout_backward_case(shape[0], shape[1], dtype, p, true));
      }
    }
  }
  return list;
}

std::vector<Case> elementwise_cases() {
  std::vector<Case> list;
  for (const DType dtype : kFloats) {
    for (const auto& shape : kShapes) {
      list.push_back(bias_backward_case(shape[0], shape[1], dtype));
      list.push_back(bias_add_case(shape[0], shape[1], dtype));
    }
    list.push_back(bias_backward_case(300, 520, dtype));
    list.push_back(bias_add_case(70, 520, dtype));
    list.push_back(bias_backward_case(0, 8, dtype));
    list.push_back(bias_add_case(0, 8, dtype));
    for (const DType other : kFloats) {
      for (const int64_t n : {0, 1, 7, 16, 33, 1000, 70001}) {
        list.push_back(add_case(n, dtype, other));
        list.push_back(scale_case(n, dtype, other, 1, false));
        list.push_back(scale_case(n, dtype, other, 0.37f, false));
        if (dtype == other) list.push_back(scale_case(n, dtype, other, -1.7f, true));
      }
    }
  }
  return list;
}

}  // namespace trident::cases
