#include "core/run/verify.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "core/base/error.h"
#include "core/checkpoint/slice.h"
#include "core/plan/settings.h"
#include "core/run/memory_check.h"
#include "core/run/run.h"

namespace trident {
namespace {

// The same model and batch on one rank: nothing is split, every micro-batch is accumulated here.
Config on_one_rank(Config config) {
  config.parallel = ParallelConfig{};
  config.parallel.data = 1;
  config.zero = ZeroConfig{};
  return config;
}

// A block's counted gradient segments as bytes: name, begin and length in the logical tensor's boxes, then the values.
class Packer {
 public:
  template <class T>
  void put(const T* values, size_t count) {
    const auto* bytes = reinterpret_cast<const std::byte*>(values);
    bytes_.insert(bytes_.end(), bytes, bytes + count * sizeof(T));
  }
  void put_size(int64_t n) { put(&n, 1); }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

class Unpacker {
 public:
  explicit Unpacker(std::span<const std::byte> bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  template <class T>
  std::vector<T> take(int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    std::memcpy(values.data(), bytes_.data(), values.size() * sizeof(T));
    bytes_ = bytes_.subspan(values.size() * sizeof(T));
    return values;
  }
  int64_t take_size() { return take<int64_t>(1).front(); }

 private:
  std::span<const std::byte> bytes_;
};

std::vector<float> on_host(Run& run, const Tensor& gradient) {
  std::vector<float> values(static_cast<size_t>(gradient.numel()));
  const Stream stream = run.device().stream(Role::compute);
  run.device().copy(Tensor(values.data(), DType::f32, {gradient.numel()}), gradient, stream);
  run.device().synchronize(stream);
  return values;
}

std::vector<std::byte> pack_block(Run& run, int64_t block) {
  Packer out;
  const ZeroStore& store = run.engine().store;
  for (const Segment& s : store.segments()) {
    if (s.block != block || !s.counts) continue;
    const LocalSlice where = local_slice(s.param->spec, store.tensor_size(), store.tensor_rank());
    const int64_t end = std::min(s.end, shape_numel(where.size));
    if (s.begin >= end) continue;
    const std::vector<float> values = on_host(run, s.grad.rows(0, end - s.begin));
    const float* at = values.data();
    for (Slice& box : rectangles(where.size, s.begin, end)) {
      for (size_t d = 0; d < box.begin.size(); ++d) box.begin[d] += where.begin[d];
      const std::string& name = s.param->spec.name;
      out.put_size(static_cast<int64_t>(name.size()));
      out.put(name.data(), name.size());
      out.put_size(static_cast<int64_t>(box.begin.size()));
      out.put(box.begin.data(), box.begin.size());
      out.put(box.size.data(), box.size.size());
      out.put(at, static_cast<size_t>(box.numel()));
      at += box.numel();
    }
  }
  return {out.bytes().begin(), out.bytes().end()};
}

struct SquareSums {
  double difference = 0, reference = 0;
};

// Adds |box - reference|^2 of one box to its tensor's sums. `gradients`: of the reference's block, on the host.
void compare_box(const std::vector<std::vector<float>>& gradients, const BlockLayout& layout, Unpacker& in,
                 std::map<std::string, SquareSums>& sums) {
  const std::vector<char> letters = in.take<char>(in.take_size());
  const std::string name(letters.begin(), letters.end());
  const int64_t rank = in.take_size();
  const Slice box{in.take<int64_t>(rank), in.take<int64_t>(rank)};
  const std::vector<float> values = in.take<float>(box.numel());
  const auto found =
      std::find_if(layout.params.begin(), layout.params.end(), [&](const Placement& p) { return p.spec.name == name; });
  ensure(found != layout.params.end(), "both runs have the same parameters");
  const float* reference = gradients[static_cast<size_t>(found - layout.params.begin())].data();
  const int64_t cols = rank == 2 ? found->shape[1] : 1, width = rank == 2 ? box.size[1] : 1;
  SquareSums& sum = sums[name];
  for (int64_t i = 0; i < box.numel(); ++i) {
    const int64_t row = box.begin[0] + i / width, col = rank == 2 ? box.begin[1] + i % width : 0;
    const double want = reference[row * cols + col], got = values[static_cast<size_t>(i)];
    sum.difference += (got - want) * (got - want);
    sum.reference += want * want;
  }
}

GradientDifference worst_gradient(Run& grid, Run* reference, double total_norm) {
  GradientDifference worst;
  for (int64_t block = 0; block < grid.config().model.layers + 2; ++block) {
    const auto all = grid.grid().world->all_gather_bytes(pack_block(grid, block));
    if (reference == nullptr) continue;
    const ZeroStore& store = reference->engine().store;
    std::vector<std::vector<float>> gradients;
    for (const Tensor& gradient : store.params(block).grad) gradients.push_back(on_host(*reference, gradient));
    std::map<std::string, SquareSums> sums;
    for (const auto& bytes : all) {
      for (Unpacker in(bytes); !in.empty();) {
        compare_box(gradients, store.layout(block), in, sums);
      }
    }
    for (const auto& [name, sum] : sums) {
      // Some gradients are zero but for rounding (a key bias shifts all scores of a query alike): their yardstick is
      // the whole gradient.
      const double relative = std::sqrt(sum.difference) / std::max(std::sqrt(sum.reference), 0x1p-10 * total_norm);
      // NaN compares false: it must win too.
      if (!(relative <= worst.relative)) worst = {name, relative};
    }
  }
  return worst;
}

std::string find_difference(const VerifyStep& s, const VerifyReport& r) {
  const auto differs = [](double a, double b, double bound) { return !(std::abs(a - b) <= bound * std::abs(b)); };
  if (differs(s.loss, s.loss_reference, r.loss_bound)) {
    return build_string("step ", s.step, ": loss ", s.loss, " on the grid, ", s.loss_reference, " on one rank");
  }
  if (!(s.worst.relative <= r.gradient_bound)) {
    return build_string("step ", s.step, ": gradient of ", s.worst.tensor, " differs by ", s.worst.relative,
                        " of its norm");
  }
  if (differs(s.norm, s.norm_reference, r.gradient_bound)) {
    return build_string("step ", s.step, ": gradient norm ", s.norm, " on the grid, ", s.norm_reference,
                        " on one rank");
  }
  return "";
}

}  // namespace

double gradient_bound(DType dtype, int64_t layers, int64_t largest_sum) {
  const double per_operation =
      dtype_epsilon(dtype) + dtype_epsilon(DType::f32) * std::sqrt(static_cast<double>(largest_sum));
  return 4.0 * std::sqrt(16.0 * static_cast<double>(layers) + 8.0) * per_operation;
}

VerifyReport verify(const Config& given, World& world, int64_t steps) {
  const Config config = with_settled_recompute(given, world);
  Run grid(config, world);
  grid.initialize();
  const std::unique_ptr<World> alone = world.rank() == 0 ? make_self_world() : nullptr;
  std::unique_ptr<Run> reference;
  if (alone) {
    reference = std::make_unique<Run>(on_one_rank(config), *alone);
    reference->initialize();
  }

  VerifyReport report;
  const DType dtype = dtype_of(config.train.precision);
  report.gradient_bound = gradient_bound(
      dtype, config.model.layers,
      std::max({config.train.global_batch * config.model.context, config.model.vocab, config.model.ffn_hidden}));
  report.loss_bound = dtype == DType::f32 ? 1e-5 : 0x1p-7;
  for (int64_t i = 0; i < steps; ++i) {
    grid.gradients();
    // Of the unscaled gradients, as they lie in the store.
    double total_norm = 0;
    if (reference) {
      const StepSums sums = reference->gradients();
      total_norm = sums.grad_norm() * static_cast<double>(sums.valid_tokens);
    }
    VerifyStep step{.step = i + 1, .worst = worst_gradient(grid, reference.get(), total_norm)};
    const StepReport mine = grid.train_step(false);
    if (!reference) continue;
    const StepReport theirs = reference->train_step(false);
    step.loss = mine.loss;
    step.loss_reference = theirs.loss;
    step.norm = mine.grad_norm;
    step.norm_reference = theirs.grad_norm;
    if (report.first_difference.empty()) report.first_difference = find_difference(step, report);
    report.steps.push_back(std::move(step));
  }
  return report;
}

}  // namespace trident
