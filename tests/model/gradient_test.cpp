// The one gradient test of all modules: every block runs in f64 on the reference operations, and every gradient it
// returns is held against central differences of its own forward.
//
// Tolerance: with step h = 1e-5 the difference quotient of a smooth function is off by about h^2 f'''/6 ~ 1e-10 and by
// rounding 2^-53 |f| / h ~ 1e-11 |f|, where |f| is a sum of some hundred terms of order one; f''' grows with the
// gradient itself: 1e-7 of (1 + |gradient|) is safe, and a wrong formula is off by far more.
#include <cmath>
#include <vector>

#include "core/model/embedding.h"
#include "core/model/head.h"
#include "core/model/layer.h"
#include "core/train/layout.h"
#include "kernels/reference/reference_table.h"
#include "support/catch.h"

using namespace trident;

namespace {

constexpr double kStep = 1e-5, kTolerance = 1e-7;
constexpr int64_t kSequences = 2;

ModelShape gpt_shape() {
  return {.layers = 2,
          .hidden = 8,
          .heads = 2,
          .kv_heads = 2,
          .head_size = 4,
          .ffn = 12,
          .vocab = 11,
          .context = 5,
          .max_positions = 7,
          .dropout = 0.25f};
}

ModelShape llama_shape() {
  ModelShape shape = gpt_shape();
  shape.kv_heads = 1;
  shape.norm = NormKind::rms_norm;
  shape.activation = ActivationKind::swiglu;
  shape.position = PositionKind::rope;
  shape.bias = shape.tied = false;
  shape.dropout = 0;
  return shape;
}

double random_value(uint32_t purpose, int64_t index) {
  return 0.5 * random_normal({7, 0, purpose}, static_cast<uint64_t>(index));
}

/// Has the head take so many rows at a time through the softmax.
class SomeRowsAtOnce final : public reference::ReferenceOps {
 public:
  explicit SomeRowsAtOnce(int64_t rows) : rows_(rows) {}
  int64_t softmax_rows(Tensor) const override { return rows_; }

 private:
  int64_t rows_;
};

/// One module with f64 parameters, an input, and a fixed random functional of its output as the loss.
class Probe {
 public:
  Probe(const ModelShape& shape, int64_t block, int64_t softmax_rows = 3)
      : shape_(shape),
        block_(block),
        module_(make_block(shape, block)),
        layout_(make_block_layout(block, module_->params(), 1, 1, false)),
        device_(make_cpu_device(0, std::make_unique<SomeRowsAtOnce>(softmax_rows))),
        tensor_(make_self_communicator("tensor")),
        saved_(Arena{}) {
    const int64_t tokens = kSequences * shape.context;
    values_.resize(static_cast<size_t>(layout_.numel));
    grads_.resize(values_.size());
    for (size_t i = 0; i < values_.size(); ++i) values_[i] = random_value(1, static_cast<int64_t>(i));
    for (const Placement& p : layout_.params) {  // norm weights near one
      if (p.spec.init.kind != Init::Kind::one) continue;
      for (int64_t i = p.offset; i < p.end(); ++i) values_[static_cast<size_t>(i)] += 1.0;
    }
    x_.resize(static_cast<size_t>(tokens * shape.hidden));
    for (size_t i = 0; i < x_.size(); ++i) x_[i] = random_value(2, static_cast<int64_t>(i));
    for (int64_t i = 0; i < tokens; ++i) ids_.push_back(static_cast<int32_t>((i * 5 + 3) % shape.vocab));
    targets_ = ids_;
    targets_[3] = -1;  // ignored
    losses_.resize(static_cast<size_t>(head_chunks(shape, DType::f64, tokens)));
  }

  double loss(HeadMode mode) {
    Exec ex = start(mode);
    const Tensor y = module_->forward(
        ex, params(), block_ == 0 ? Tensor{} : tensor(x_, DType::f64, {tokens(), shape_.hidden}), saved_);
    if (!y.defined()) {
      double sum = 0;
      for (const double part : losses_) sum += part;
      return sum;
    }
    double sum = 0;
    for (int64_t i = 0; i < y.numel(); ++i) sum += y.as<double>()[i] * random_value(3, i);
    return sum;
  }

  /// Fills the parameters' gradients; returns that of the input.
  std::vector<double> backward() {
    std::fill(grads_.begin(), grads_.end(), 0.0);
    loss(HeadMode::train);
    std::vector<double> dx(x_.size());
    for (size_t i = 0; i < dx.size(); ++i) dx[i] = random_value(3, static_cast<int64_t>(i));
    Exec ex = exec(HeadMode::train);
    module_->backward(ex, params(), tensor(dx, DType::f64, {tokens(), shape_.hidden}), saved_);
    CHECK(saved_.empty());
    return dx;
  }

  /// Every element of `at` moved by +-h against `analytic`; reports the worst.
  void compare(std::vector<double>& at, const std::vector<double>& analytic, int64_t begin, int64_t end,
               const std::string& name) {
    const HeadMode mode = block_ == shape_.layers + 1 ? HeadMode::evaluate : HeadMode::train;
    double worst = 0;
    int64_t worst_index = begin;
    for (int64_t i = begin; i < end; ++i) {
      double& x = at[static_cast<size_t>(i)];
      const double before = x;
      x = before + kStep;
      const double above = loss(mode);
      x = before - kStep;
      const double below = loss(mode);
      x = before;
      const double gradient = analytic[static_cast<size_t>(i)];
      const double error = std::abs((above - below) / (2 * kStep) - gradient) / (1 + std::abs(gradient));
      if (!(error <= worst)) worst = error, worst_index = i;
    }
    INFO(name << ": worst element " << worst_index - begin << ", gradient "
              << analytic[static_cast<size_t>(worst_index)] << ", off by " << worst);
    CHECK(worst <= kTolerance);
  }

  void check() {
    const std::vector<double> dx = backward();
    const std::vector<double> grads = grads_;
    for (const Placement& p : layout_.params) compare(values_, grads, p.offset, p.end(), p.spec.name);
    if (block_ != 0) compare(x_, dx, 0, static_cast<int64_t>(dx.size()), "input");
  }

 private:
  template <class T>
  static Tensor tensor(std::vector<T>& values, DType dtype, std::initializer_list<int64_t> shape) {
    return Tensor(values.data(), dtype, shape);
  }
  int64_t tokens() const { return kSequences * shape_.context; }
  BlockParams params() {
    return bind_block(layout_, tensor(values_, DType::f64, {layout_.numel}),
                      tensor(grads_, DType::f64, {layout_.numel}), nullptr);
  }
  Exec exec(HeadMode mode) {
    Exec ex{.ops = device_->ops(),
            .device = *device_,
            .stream = device_->stream(Role::compute),
            .scratch = scratch_,
            .tensor = *tensor_,
            .dtype = DType::f64,
            .seed = 5,
            .step = 3};
    ex.micro = {.tokens_T = tensor(ids_, DType::i32, {tokens()}),
                .targets_T = tensor(targets_, DType::i32, {tokens()}),
                .first_sequence = 4,
                .mode = mode,
                .loss_N = tensor(losses_, DType::f64, {static_cast<int64_t>(losses_.size())})};
    return ex;
  }
  Exec start(HeadMode mode) {
    scratch_ = Arena(scratch_bytes_.data(), scratch_bytes_.size(), Place::host);
    saved_ = Saved(Arena(saved_bytes_.data(), saved_bytes_.size(), Place::host));
    return exec(mode);
  }

  ModelShape shape_;
  int64_t block_;
  std::unique_ptr<Module> module_;
  BlockLayout layout_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Communicator> tensor_;
  std::vector<char> scratch_bytes_ = std::vector<char>(1 << 20), saved_bytes_ = std::vector<char>(1 << 20);
  Arena scratch_;
  Saved saved_;
  std::vector<double> values_, grads_, x_, losses_;
  std::vector<int32_t> ids_, targets_;
};

}  // namespace

TEST_CASE("the head's loss does not depend on how many rows go through the softmax at once") {
  const int64_t head = gpt_shape().layers + 1;
  const double all = Probe(gpt_shape(), head, 100).loss(HeadMode::evaluate);
  for (const int64_t rows : {1, 3, 10}) CHECK(Probe(gpt_shape(), head, rows).loss(HeadMode::evaluate) == all);
}

TEST_CASE("every gradient of every block agrees with central differences") {
  const auto [name, shape] =
      GENERATE(table<std::string, ModelShape>({{"gpt2", gpt_shape()}, {"llama", llama_shape()}}));
  const int64_t block = GENERATE(0, 1, 3);
  INFO(name << ", block " << block);
  Probe(shape, block).check();
}

TEST_CASE("options combine freely: no positions, relu, silu, biases with RMSNorm") {
  ModelShape shape = gpt_shape();
  shape.norm = NormKind::rms_norm;
  shape.position = PositionKind::none;
  shape.activation = GENERATE(ActivationKind::relu, ActivationKind::silu, ActivationKind::swiglu);
  Probe(shape, 1).check();
}
