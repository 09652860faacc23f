// AdamW and the two totals.
//
// AdamW bound (eps = kEps, g = grad * grad_scale), every step a rounding or two, corrections 1 - beta^t exact enough:
//   m: kLambda eps (b1 |m0| + (1 - b1) |g|);   v: kLambda eps v (sums of non-negative terms)
//   master: kLambda eps (|master0| + 2 |update|) + lr_t e_m / (sqrt(v)/sqrt(1 - b2^t) + eps_adam)
//   m and v rounded at random: one bf16 ulp more, two where the tables differ in a last bit; with beta 1/2 and coarse
//   operands nothing is rounded before, and they must be the oracle's exactly
//   weight: as master; rounded at random, it may lie a whole bf16 ulp off, and where a master differs in its last bit
//   between the tables, two: with a rate of 0 no master does, and the weight must be the oracle's exactly
//   a gradient that is zeroed, and one that is kept, exactly
// Totals of n terms in double: kLambda sqrt(n) eps(f64) sum|terms|.
#include <algorithm>
#include <cmath>

#include "cases.h"
#include "core/base/error.h"

namespace trident::cases {
namespace {

enum class Weight { absent, alias, separate };

/// Whether a control tensor stands in for step and grad_scale, and whether it says that the step is applied.
enum class Control { none, applied, skipped };

struct Spec {
  int64_t n;
  Weight weight;
  DType weight_dtype;
  int64_t step;
  float weight_decay, grad_scale;
  float rate = 3e-2f;
  int64_t first_element = -1;  ///< from 0: the weight is rounded at random
  Control control = Control::none;
  enum class State { full, random, exact } state = State::full;  ///< f32, or bf16 rounded at random
  ElementIndex element = {};                                     ///< of a state rounded at random

  bool half_state() const { return state != State::full; }
  bool exact() const { return state == State::exact; }
  float beta1() const { return exact() ? 0.5f : 0.9f; }
  float beta2() const { return exact() ? 0.5f : 0.95f; }
};

constexpr float kAdamEps = 1e-8f;

Bounds adamw_bounds(const Spec& s, const Oracle& oracle) {
  const Values &master0 = oracle.before("master"), &m0 = oracle.before("m"), &grad = oracle.before("grad");
  const Values &m = oracle.after("m"), &v = oracle.after("v");
  const double b1 = static_cast<double>(s.beta1()), t = static_cast<double>(s.step);
  const double rate = static_cast<double>(s.rate) / (1 - std::pow(b1, t));
  const double root = std::sqrt(1 - std::pow(static_cast<double>(s.beta2()), t));
  Values master_bound(m.size()), m_bound(m.size()), v_bound(m.size());
  for (size_t i = 0; i < m.size(); ++i) {
    const double g = std::abs(grad[i] * static_cast<double>(s.grad_scale));
    const double denominator = std::sqrt(v[i]) / root + static_cast<double>(kAdamEps);
    m_bound[i] = kLambda * kEps * (b1 * std::abs(m0[i]) + (1 - b1) * g);
    v_bound[i] = kLambda * kEps * v[i];
    master_bound[i] = kLambda * kEps * (std::abs(master0[i]) + 2 * rate * std::abs(m[i]) / denominator) +
                      rate * m_bound[i] / denominator;
  }
  if (s.state == Spec::State::random) {
    for (size_t i = 0; i < m.size(); ++i) {
      m_bound[i] += 2 * 2 * dtype_epsilon(DType::bf16) * std::abs(m[i]);
      v_bound[i] += 2 * 2 * dtype_epsilon(DType::bf16) * v[i];
    }
  }
  Bounds bounds{{"master", master_bound}};
  if (!s.exact()) bounds["m"] = m_bound, bounds["v"] = v_bound;
  if (s.weight != Weight::separate) return bounds;
  if (s.first_element < 0) {
    bounds["weight"] = master_bound;
  } else if (s.rate > 0) {
    Values& bound = bounds["weight"] = master_bound;
    for (size_t i = 0; i < bound.size(); ++i) {
      bound[i] += 2 * 2 * dtype_epsilon(DType::bf16) * std::abs(oracle.after("weight")[i]);
    }
  }
  return bounds;
}

/// What step_control would write for the case, rounded to f32.
Values control_values(const Spec& s) {
  const double b1 = static_cast<double>(s.beta1()), b2 = static_cast<double>(s.beta2()),
               t = static_cast<double>(s.step);
  Values control = {static_cast<double>(s.grad_scale), static_cast<double>(s.rate) / (1 - std::pow(b1, t)),
                    1 / std::sqrt(1 - std::pow(b2, t)), s.control == Control::applied ? 1.0 : 0.0};
  for (double& x : control) x = round_to(DType::f32, x);
  return control;
}

std::vector<Operand> adamw_operands(const Spec& s, uint64_t seed) {
  Random random(seed);
  const DType state = s.half_state() ? DType::bf16 : DType::f32;
  // Exact: multiples of 2^-8 below 8, so that neither a gradient's square nor a sum here needs more than 24 bits.
  const auto numbers = [&](DType dtype, double deviation) {
    Values values = random.normal(dtype, s.n, deviation);
    if (s.exact()) {
      for (double& x : values) x = round_to(dtype, std::round(std::clamp(x, -7.0, 7.0) * 256) / 256);
    }
    return values;
  };
  const double deviation = s.step == 1 ? 0 : 0.1;
  std::vector<Operand> o;
  o.push_back({"master", Use::inout, DType::f32, {s.n}, random.normal(DType::f32, s.n)});
  o.push_back({"m", Use::inout, state, {s.n}, numbers(state, deviation)});
  o.push_back({"v", Use::inout, state, {s.n}, magnitudes(numbers(state, deviation))});
  o.push_back({"grad", Use::in, DType::f32, {s.n}, numbers(DType::f32, 1)});
  if (s.weight == Weight::separate) o.push_back({"weight", Use::out, s.weight_dtype, {s.n}, {}});
  if (s.control != Control::none) o.push_back({"control", Use::in, DType::f32, {4}, control_values(s)});
  return o;
}

Case adamw_case(const Spec& s) {
  const char* weights[] = {"no weight", "weight is master", "weight "};
  Case c;
  c.name = build_string("adamw ", s.n, " ", weights[static_cast<int>(s.weight)],
                        s.weight == Weight::separate ? dtype_name(s.weight_dtype) : "", " step ", s.step, " decay ",
                        s.weight_decay, " grad_scale ", s.grad_scale,
                        s.control == Control::none      ? ""
                        : s.control == Control::applied ? " controlled"
                                                        : " not applied");
  if (s.first_element >= 0) c.name += build_string(" rounded at random from ", s.first_element, " rate ", s.rate);
  if (s.half_state()) {
    c.name += s.exact() ? ", exact state in bf16" : ", state in bf16";
    if (s.element.first > 0) c.name += build_string(" from ", s.element.first);
    if (s.element.columns > 0) {
      c.name += build_string(", rows of ", s.element.columns, " in ", s.element.stride, " from ", s.element.lead);
    }
  }
  c.operands = [s, seed = seed_of(c.name)] { return adamw_operands(s, seed); };
  c.run = [s](const Ops& ops, Arguments& t) {
    ops.adamw(t.stream(),
              {.master = t["master"],
               .m = t["m"],
               .v = t["v"],
               .grad = t["grad"],
               .weight = s.weight == Weight::separate ? t["weight"]
                         : s.weight == Weight::alias  ? t["master"]
                                                      : Tensor(),
               .lr = s.rate,
               .beta1 = s.beta1(),
               .beta2 = s.beta2(),
               .eps = kAdamEps,
               .weight_decay = s.weight_decay,
               .grad_scale = s.control == Control::none ? s.grad_scale : 77.0f,  // replaced by control
               .step = s.control == Control::none ? s.step : 123,
               .stochastic_rounding = s.first_element >= 0,
               .stochastic_state = s.half_state(),
               .rounding_key = {99, static_cast<uint32_t>(s.step), random_purpose("rounding case")},
               .state_key = {99, static_cast<uint32_t>(s.step), random_purpose("rounding case, state")},
               .element = s.half_state() ? s.element : ElementIndex{.first = std::max<int64_t>(s.first_element, 0)},
               .control_4 = s.control == Control::none ? Tensor() : t["control"]});
  };
  // What is not applied changes nothing: exactly.
  c.bounds = [s](const Oracle& oracle) { return s.control == Control::skipped ? Bounds{} : adamw_bounds(s, oracle); };
  return c;
}

Case total_case(bool squares, int64_t n, DType dtype) {
  Case c;
  c.name = build_string(squares ? "sum_squares " : "sum ", n, " ", dtype_name(dtype));
  c.operands = [=, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o;
    o.push_back({"x", Use::in, dtype, {n}, random.normal(dtype, n, 1, 0.1)});
    o.push_back({"out", Use::out, DType::f64, {1}, {}});
    return o;
  };
  c.run = [squares](const Ops& ops, Arguments& t) {
    const Tensor scratch = t.scratch(ops.sum_scratch_bytes());
    if (squares) {
      ops.sum_squares(t.stream(), t["out"], t["x"], scratch);
    } else {
      ops.sum(t.stream(), t["out"], t["x"], scratch);
    }
  };
  c.bounds = [=](const Oracle& oracle) {
    double total = 0;
    for (const double x : oracle.before("x")) total += squares ? x * x : std::abs(x);
    return Bounds{{"out", {kLambda * std::sqrt(static_cast<double>(n)) * dtype_epsilon(DType::f64) * total}}};
  };
  return c;
}

/// Moments in bf16, with each kind of weight and of control, at each place in a parameter.
void add_half_state(std::vector<Case>& list) {
  using State = Spec::State;
  // The whole parameter, the middle of a Philox block, beyond 32 bits; parts of rows, in whole blocks and ragged.
  const ElementIndex elements[] = {{},
                                   {.first = 1027},
                                   {.first = int64_t{5} << 32},
                                   {.first = 24, .lead = 4, .columns = 8, .stride = 32},
                                   {.first = 1001, .lead = 5, .columns = 7, .stride = 23},
                                   {.first = 3, .lead = 1999, .columns = 2000, .stride = 4001}};
  for (const int64_t n : {1, 7, 33, 1001, 2050}) {
    for (const ElementIndex& element : elements) {
      for (const State state : {State::random, State::exact}) {
        const auto add = [&](Weight weight, DType dtype, int64_t first_element, Control control) {
          const float decay = 0.1f, scale = 0.5f, rate = 3e-2f;
          list.push_back(adamw_case({n, weight, dtype, 2, decay, scale, rate, first_element, control, state, element}));
        };
        add(Weight::separate, DType::bf16, -1, Control::none);
        add(Weight::separate, DType::bf16, element.first, Control::none);
        if (n != 7 && n != 1001) continue;
        add(Weight::alias, DType::f32, -1, Control::applied);
        add(Weight::absent, DType::f32, -1, Control::none);
        add(Weight::separate, DType::f16, -1, Control::applied);
        add(Weight::separate, DType::bf16, element.first, Control::applied);
        add(Weight::alias, DType::f32, -1, Control::skipped);
      }
    }
  }
}

}  // namespace

std::vector<Case> optimizer_cases() {
  std::vector<Case> list;
  add_half_state(list);
  for (const int64_t n : {1, 7, 16, 33, 1001}) {
    for (const int64_t step : {1, 2, 1000}) {
      list.push_back(adamw_case({n, Weight::absent, DType::f32, step, 0.1f, 1.0f}));
      list.push_back(adamw_case({n, Weight::alias, DType::f32, step, 0.1f, 0.25f}));
      list.push_back(adamw_case({n, Weight::separate, DType::f32, step, 0.0f, 1.0f}));
      list.push_back(adamw_case({n, Weight::separate, DType::bf16, step, 0.1f, 0.013f}));
      list.push_back(adamw_case({n, Weight::separate, DType::f16, step, 0.1f, 3.0f}));
    }
  }
  for (const int64_t n : {1, 7, 33, 1001, 2050}) {
    for (const float rate : {0.0f, 3e-2f}) {
      // The third begins beyond 32 bits, the second in the middle of a Philox block.
      for (const int64_t first : {int64_t{0}, int64_t{1027}, int64_t{5} << 32}) {
        list.push_back(adamw_case({n, Weight::separate, DType::bf16, 2, 0.1f, 0.5f, rate, first}));
      }
    }
  }
  for (const int64_t n : {7, 1001}) {
    list.push_back(adamw_case({n, Weight::alias, DType::f32, 2, 0.1f, 0.25f, 3e-2f, -1, Control::applied}));
    list.push_back(adamw_case({n, Weight::separate, DType::bf16, 3, 0.1f, 0.5f, 3e-2f, -1, Control::applied}));
    list.push_back(adamw_case({n, Weight::alias, DType::f32, 2, 0.1f, 0.25f, 3e-2f, -1, Control::skipped}));
    list.push_back(adamw_case({n, Weight::absent, DType::f32, 2, 0.1f, 0.25f, 3e-2f, -1, Control::skipped}));
  }
  for (const int64_t n : {1, 7, 33, 1001, 100003}) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      list.push_back(total_case(true, n, dtype));
      list.push_back(total_case(false, n, dtype));
    }
  }
  return list;
}

}  // namespace trident::cases
