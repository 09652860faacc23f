#include "core/train/optimizer.h"

#include <cmath>

#include "core/base/error.h"
#include "core/base/rng.h"

namespace trident {
namespace {

// Fills host memory [begin, end) of a local parameter with its initial values, by global index.
void fill_initial(const Segment& s, int tensor_rank, int tensor, uint64_t seed, float* out) {
  const ParamSpec& spec = s.param->spec;
  const LocalSlice where = local_slice(spec, tensor, tensor_rank);
  const int64_t cols = s.param->shape.size() == 2 ? s.param->shape[1] : 1;
  const int64_t global_cols = spec.shape.size() == 2 ? spec.shape[1] : 1;
  const int64_t first_col = spec.shape.size() == 2 ? where.begin[1] : 0;
  const RandomKey key{seed, 0, random_purpose(spec.name)};
#pragma omp parallel for schedule(static)
  for (int64_t i = s.begin; i < s.end; ++i) {
    const int64_t row = i / cols, col = i % cols;
    float value = spec.init.kind == Init::Kind::one ? 1.0f : 0.0f;
    if (spec.init.kind == Init::Kind::normal && row < where.size[0]) {
      const int64_t global = (where.begin[0] + row) * global_cols + first_col + col;
      value = spec.init.std * random_normal(key, static_cast<uint64_t>(global));
    }
    out[i - s.begin] = value;
  }
}

}  // namespace

double StepSums::grad_norm() const {
  double sum = 0;
  for (const double block : block_squares) sum += block;
  return std::sqrt(sum) / static_cast<double>(valid_tokens);
}

Optimizer::Optimizer(const AdamWOptions& options, ZeroStore& store, Device& device)
    : options_(options), store_(store), device_(device) {
  const size_t n = store.segments().size();
  squares_memory_ = device.alloc(n * sizeof(double), Place::device, "gradient norms");
  squares_N_ = Tensor(squares_memory_.data(), DType::f64, {static_cast<int64_t>(n)}, squares_memory_.place());
  squares_host_.resize(n);
  if (const size_t bytes = device.ops().sum_scratch_bytes(); bytes > 0) {
    scratch_memory_ = device.alloc(bytes, Place::device, "scratch of sums");
    sum_scratch_ = Tensor(scratch_memory_.data(), DType::u8, {static_cast<int64_t>(bytes)}, Place::device);
  }
}

void Optimizer::initialize(uint64_t seed, Stream stream) {
  std::vector<float> values;
  for (const Segment& s : store_.segments()) {
    values.resize(static_cast<size_t>(s.end - s.begin));
    fill_initial(s, store_.tensor_rank(), store_.tensor_size(), seed, values.data());
    device_.copy(s.master, Tensor(values.data(), DType::f32, {s.end - s.begin}), stream);
    device_.fill_zero(s.m, stream);
    device_.fill_zero(s.v, stream);
    device_.synchronize(stream);
  }
  store_.publish_weights(stream, true);
}

StepSums Optimizer::reduce(const LossSum& mine, bool stop, int64_t blocks, Communicator& world, Stream stream) {
  const auto& segments = store_.segments();
  for (size_t i = 0; i < segments.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    if (segments[i].counts)
      device_.ops().sum_squares(stream, squares_N_.rows(at, at + 1), segments[i].grad, sum_scratch_);
  }
  device_.copy(Tensor(squares_host_.data(), DType::f64, {squares_N_.numel()}), squares_N_, stream);
  device_.synchronize(stream);

  // One vector: a double per block, then loss, tokens (exact in a double up to 2^53) and votes.
  std::vector<double> sums(static_cast<size_t>(blocks), 0.0);
  for (size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].counts) sums[static_cast<size_t>(segments[i].block)] += squares_host_[i];
  }
  sums.insert(sums.end(), {mine.loss, static_cast<double>(mine.tokens), stop ? 1.0 : 0.0});
  world.all_reduce(Tensor(sums.data(), DType::f64, {static_cast<int64_t>(sums.size())}), Reduce::sum, stream);
  device_.synchronize(stream);

  const double* tail = sums.data() + blocks;
  StepSums total{
      .loss_sum = tail[0], .valid_tokens = static_cast<int64_t>(tail[1]), .stop_votes = static_cast<int>(tail[2])};
  sums.resize(static_cast<size_t>(blocks));
  total.block_squares = std::move(sums);
  return total;
}

void Optimizer::update(int64_t step, float lr, float grad_scale, Stream stream) {
  for (const Segment& s : store_.segments()) {
    device_.ops().adamw(stream, {.master = s.master,
                                 .m = s.m,
                                 .v = s.v,
                                 .grad = s.grad,
                                 .weight = s.weight,
                                 .lr = lr,
                                 .beta1 = options_.beta1,
                                 .beta2 = options_.beta2,
                                 .eps = options_.eps,
                                 .weight_decay = s.param->spec.decay ? options_.weight_decay : 0.0f,
                                 .grad_scale = grad_scale,
                                 .step = step});
  }
  store_.publish_weights(stream, false);
}

const Segment* Optimizer::first_bad_segment() const {
  const auto& segments = store_.segments();
  for (size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].counts && !std::isfinite(squares_host_[i])) return &segments[i];
  }
  return nullptr;
}

}  // namespace trident
