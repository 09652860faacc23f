#include "core/run/bad_step.h"

#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/train/inspector.h"

namespace trident {
namespace {

// A finding as text, for the other ranks; "" for none. The tensor's name, which may hold blanks, comes last.
std::string encode(const std::optional<Finding>& f) {
  if (!f) return "";
  return build_string(f->when[0], ' ', f->when[1], ' ', f->when[2], ' ', f->block, ' ', f->sequence, ' ', f->tensor);
}

std::optional<Finding> decode(const std::vector<std::byte>& bytes) {
  if (bytes.empty()) return std::nullopt;
  std::istringstream in(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  Finding f;
  in >> f.when[0] >> f.when[1] >> f.when[2] >> f.block >> f.sequence >> std::ws;
  std::getline(in, f.tensor);
  return f;
}

// A gradient that only became bad in the sum over micro-batches or ranks.
std::optional<Finding> bad_sum(const Optimizer& optimizer) {
  const Segment* segment = optimizer.first_bad_segment();
  if (segment == nullptr) return std::nullopt;
  return Finding{.when = {0, segment->block, 0},
                 .block = segment->block,
                 .tensor = "sum of gradients of " + segment->param->spec.name};
}

struct Located {
  Finding finding;
  int rank = 0;
};

std::optional<Located> first_of_all(Communicator& world, const std::optional<Finding>& mine) {
  const std::string text = encode(mine);
  const auto all = world.all_gather_bytes(std::as_bytes(std::span(text)));
  std::optional<Located> first;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const std::optional<Finding> found = decode(all[rank]);
    if (found && (!first || found->when < first->finding.when)) first = {*found, static_cast<int>(rank)};
  }
  return first;
}

std::string layer_of(int64_t block, int64_t layers) {
  if (block == 0) return "embedding";
  return block == layers + 1 ? "head" : build_string("layer ", block - 1);
}

}  // namespace

BadStep find_bad_tensor(BadStep bad, Engine& engine, Device& device, Grid& grid, const DataSource& data, int64_t step,
                        int64_t micro_batch) {
  const ModelShape& shape = engine.stage.shape();
  const Stream compute = device.stream(Role::compute);
  Inspector inspector(device, grid, shape, micro_batch);
  engine.store.zero_grads(compute);
  const StepLoss loss = engine.executor.inspect(data, step, inspector);
  engine.store.finish_grads(compute);
  engine.optimizer.reduce(loss, false, *grid.world, compute);
  const StepSums sums = engine.optimizer.read();

  std::optional<Located> first = first_of_all(*grid.world, inspector.first());
  if (!first) first = first_of_all(*grid.world, bad_sum(engine.optimizer));
  if (first) {
    bad.tensor = first->finding.tensor;
    bad.layer = layer_of(first->finding.block, shape.layers);
    bad.rank = first->rank;
    const int64_t sequence = first->finding.sequence;
    if (sequence >= 0) bad.sample = build_string("sequence ", sequence, " of the batch, ", data.origin(step, sequence));
  }
  bad.repeated = !BadStepGuard::finite(sums.loss(), sums.grad_norm());
  return bad;
}

}  // namespace trident
