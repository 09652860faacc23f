#include "core/train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "core/base/error.h"
#include "core/base/rng.h"

namespace trident {
namespace {

// Fills host memory with the initial values of elements [begin, end) of a local parameter, by global index.
void fill_initial(const Segment& s, int64_t begin, int64_t end, int tensor_rank, int tensor, uint64_t seed,
                  float* out) {
  const ParamSpec& spec = s.param->spec;
  const LocalSlice where = local_slice(spec, tensor, tensor_rank);
  const int64_t cols = s.param->shape.size() == 2 ? s.param->shape[1] : 1;
  const int64_t global_cols = spec.shape.size() == 2 ? spec.shape[1] : 1;
  const int64_t first_col = spec.shape.size() == 2 ? where.begin[1] : 0;
  const RandomKey key{seed, 0, random_purpose(spec.name)};
#pragma omp parallel for schedule(static)
  for (int64_t i = begin; i < end; ++i) {
    const int64_t row = i / cols, col = i % cols;
    float value = spec.init.kind == Init::Kind::one ? 1.0f : 0.0f;
    if (spec.init.kind == Init::Kind::normal && row < where.size[0]) {
      const int64_t global = (where.begin[0] + row) * global_cols + first_col + col;
      value = spec.init.std * random_normal(key, static_cast<uint64_t>(global));
    }
    out[i - begin] = value;
  }
}

// Where in its whole parameter elements from `begin` of a segment on lie.
ElementIndex element_index(const Segment& s, int64_t begin, int tensor_rank, int tensor) {
  const ParamSpec& spec = s.param->spec;
  const LocalSlice where = local_slice(spec, tensor, tensor_rank);
  const int64_t at = s.begin + begin;
  if (spec.shape.size() != 2) return {.first = where.begin[0] + at};
  const int64_t columns = s.param->shape[1], stride = spec.shape[1];
  if (columns == stride) return {.first = where.begin[0] * stride + at};
  return {.first = (where.begin[0] + at / columns) * stride + where.begin[1],
          .lead = at % columns,
          .columns = columns,
          .stride = stride};
}

void square(const Ops& ops, Stream stream, const std::vector<Segment>& segments, Tensor squares_S, Tensor scratch) {
  for (size_t i = 0; i < segments.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    if (segments[i].counts) ops.sum_squares(stream, squares_S.rows(at, at + 1), segments[i].grad, scratch);
  }
}

/// Memory for what `take` takes of an arena, and lets it take that.
template <class Take>
Memory allocate(Device& device, Place place, std::string_view name, const Take& take) {
  Arena dry;
  take(dry);
  Memory memory = device.alloc(dry.peak(), place, name);
  Arena arena(memory.data(), memory.bytes(), place);
  take(arena);
  return memory;
}

}  // namespace

double StepSums::grad_norm() const {
  double sum = 0;
  for (const double block : block_squares) sum += block;
  return std::sqrt(sum) / static_cast<double>(valid_tokens);
}

Optimizer::Optimizer(const AdamWOptions& options, int64_t blocks, ZeroStore& store, OptimizerState& state,
                     Device& device)
    : options_(options), blocks_(blocks), store_(store), state_(state), device_(device) {
  const auto segments = static_cast<int64_t>(store.segments().size());
  const int64_t sums = blocks + kStepSums;
  memory_ = allocate(device, Place::device, "sums of a step", [&](Arena& arena) {
    squares_S_ = arena.alloc(DType::f64, {segments});
    sums_N_ = arena.alloc(DType::f64, {sums});
    updates_1_ = arena.alloc(DType::f64, {1});
    block_S_ = arena.alloc(DType::i32, {segments});
    control_4_ = arena.alloc(DType::f32, {4});
  });
  if (store.options().offload) {
    host_memory_ = allocate(device, Place::pinned, "sums of a step, on the host: of gradients", [&](Arena& arena) {
      host_squares_S_ = arena.alloc(DType::f64, {segments});
      host_control_4_ = arena.alloc(DType::f32, {4});
    });
  }
  for (size_t i = 0; i < kInFlight; ++i) {
    Report& report = reports_[i];
    report.memory = device.alloc(static_cast<size_t>(sums + segments) * sizeof(double), Place::pinned,
                                 build_string("sums of a step, on the host: ", i));
    const Tensor all(report.memory.data(), DType::f64, {sums + segments}, Place::pinned);
    report.sums_N = all.rows(0, sums);
    report.squares_S = all.rows(sums, sums + segments);
  }
  if (const size_t bytes = device.ops().sum_scratch_bytes(); bytes > 0) {
    scratch_memory_ = device.alloc(bytes, Place::device, "scratch of sums");
    sum_scratch_ = Tensor(scratch_memory_.data(), DType::u8, {static_cast<int64_t>(bytes)}, scratch_memory_.place());
  }
  std::vector<int32_t> block_of;
  for (const Segment& s : store.segments()) block_of.push_back(s.counts ? static_cast<int32_t>(s.block) : -1);
  if (!block_S_.dry()) {
    const Stream stream = device.stream(Role::compute);
    device.copy(block_S_, Tensor(block_of.data(), DType::i32, {segments}), stream);
    device.synchronize(stream);
  }
}

void Optimizer::initialize(uint64_t seed, Stream stream) {
  // By pieces: a whole table would be the peak of the process's memory.
  constexpr int64_t kPiece = int64_t{1} << 20;
  std::vector<float> values(static_cast<size_t>(kPiece));
  for (const Segment& s : store_.segments()) {
    for (int64_t begin = s.begin; begin < s.end; begin += kPiece) {
      const int64_t end = std::min(begin + kPiece, s.end);
      fill_initial(s, begin, end, store_.tensor_rank(), store_.tensor_size(), seed, values.data());
      state_.write(s, StatePart::master, begin - s.begin, end - s.begin, values.data());
    }
    state_.clear(s, StatePart::first_moment);
    state_.clear(s, StatePart::second_moment);
  }
  state_.publish_masters(stream);
}

void Optimizer::square_on_host(Stream stream) {
  const Stream host = device_.stream(Role::host);
  // Gradients that the processor has waited for came after the last copy.
  device_.on_host([this] { square(device_.host_ops(), {}, store_.segments(), host_squares_S_, {}); });
  device_.wait(stream, device_.record(host));
  device_.copy(squares_S_, host_squares_S_, stream);
}

void Optimizer::reduce(const StepLoss& mine, bool stop, Communicator& world, Stream stream) {
  ensure(submitted_ - read_ < kInFlight, "the sums of a step are read before those of the step after the next");
  if (store_.options().offload) {
    square_on_host(stream);
  } else {
    square(device_.ops(), stream, store_.segments(), squares_S_, sum_scratch_);
  }
  device_.ops().step_sums(stream, {.sums_N = sums_N_,
                                   .squares_S = squares_S_,
                                   .block_S = block_S_,
                                   .loss_L = mine.loss_L,
                                   .valid_tokens = static_cast<double>(mine.tokens),
                                   .stop_votes = stop ? 1.0 : 0.0});
  // A double holds counts exactly up to 2^53.
  world.all_reduce(sums_N_, Reduce::sum, stream);
  Report& report = reports_[submitted_++ % kInFlight];
  device_.copy(report.sums_N, sums_N_, stream);
  device_.copy(report.squares_S, squares_S_, stream);
  report.copied = device_.record(stream);
}

void Optimizer::update(int64_t step, float lr, float max_norm, Stream stream) {
  device_.ops().step_control(stream, {.control_4 = control_4_,
                                      .updates_1 = updates_1_,
                                      .sums_N = sums_N_,
                                      .lr = lr,
                                      .beta1 = options_.beta1,
                                      .beta2 = options_.beta2,
                                      .max_norm = max_norm});
  Tensor control_4 = control_4_;
  if (store_.options().offload) {
    control_4 = host_control_4_;
    device_.copy(control_4, control_4_, stream);
  }
  state_.update(
      [this, step, lr, control_4](const Ops& ops, Stream on, const OptimizerState::Piece& piece) {
        const ParamSpec& spec = piece.segment->param->spec;
        ops.adamw(on,
                  {.master = piece.master,
                   .m = piece.m,
                   .v = piece.v,
                   .grad = piece.grad,
                   .weight = piece.weight,
                   .lr = lr,
                   .beta1 = options_.beta1,
                   .beta2 = options_.beta2,
                   .eps = options_.eps,
                   .weight_decay = spec.decay ? options_.weight_decay : 0.0f,
                   .stochastic_state = piece.m.dtype == DType::bf16,
                   .state_key = {options_.seed, static_cast<uint32_t>(step), random_purpose("moments." + spec.name)},
                   .element = element_index(*piece.segment, piece.begin, store_.tensor_rank(), store_.tensor_size()),
                   .control_4 = control_4});
      },
      stream);
}

StepSums Optimizer::read() {
  ensure(read_ < submitted_, "sums are read after they were submitted");
  const Report& report = reports_[read_++ % kInFlight];
  device_.synchronize(report.copied);
  const auto* sums = report.sums_N.as<double>();
  const double* tail = sums + blocks_;
  return {.loss_sum = tail[kLossSum],
          .valid_tokens = static_cast<int64_t>(tail[kTokenSum]),
          .stop_votes = static_cast<int>(tail[kVoteSum]),
          .block_squares = {sums, sums + blocks_}};
}

void Optimizer::set_updates(int64_t updates, Stream stream) {
  double value = static_cast<double>(updates);
  device_.copy(updates_1_, Tensor(&value, DType::f64, {1}), stream);
  device_.synchronize(stream);
}

const Segment* Optimizer::first_bad_segment() const {
  ensure(read_ > 0, "the sums were read");
  const auto* squares = reports_[(read_ - 1) % kInFlight].squares_S.as<double>();
  const auto& segments = store_.segments();
  for (size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].counts && !std::isfinite(squares[i])) return &segments[i];
  }
  return nullptr;
}

}  // namespace trident
