#include "core/plan/plan.h"

#include <algorithm>
#include <iomanip>
#include <map>
#include <sstream>

#include "core/base/error.h"
#include "core/base/format.h"
#include "core/comm/dry_communicator.h"
#include "core/device/dry_device.h"
#include "core/plan/settings.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/dry_ops.h"

namespace trident {
namespace {

int64_t model_parameters(const ModelShape& shape) {
  int64_t total = 0;
  // All layers are alike: one of each kind of block is enough.
  for (const auto& [block, count] : {std::pair<int64_t, int64_t>{0, 1}, {1, shape.layers}, {shape.layers + 1, 1}}) {
    for (const ParamSpec& spec : make_block(shape, block)->params()) {
      if (!spec.tied_copy) total += count * shape_numel(spec.shape);
    }
  }
  return total;
}

std::vector<std::string> parts_of(const ModelShape& shape, const std::vector<int64_t>& blocks) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (blocks[i] == 0) {
      parts.push_back("embedding");
    } else if (blocks[i] == shape.layers + 1) {
      parts.push_back("head");
    } else {
      size_t last = i;
      while (last + 1 < blocks.size() && blocks[last + 1] == blocks[last] + 1 && blocks[last + 1] <= shape.layers)
        ++last;
      parts.push_back(last == i ? build_string("layer ", blocks[i] - 1)
                                : build_string("layers ", blocks[i] - 1, "-", blocks[last] - 1));
      i = last;
    }
  }
  return parts;
}

// "0-3, 8" for the ranks {0, 1, 2, 3, 8}.
std::string rank_ranges(const std::vector<int>& ranks) {
  std::string text;
  for (size_t i = 0; i < ranks.size(); ++i) {
    size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    text += build_string(text.empty() ? "" : ", ", ranks[i]);
    if (last > i) text += build_string("-", ranks[last]);
    i = last;
  }
  return text;
}

}  // namespace

bool RankPlan::same_bytes(const RankPlan& other) const {
  return parts == other.parts && std::equal(rows.begin(), rows.end(), other.rows.begin(), other.rows.end(),
                                            [](const PlanRow& a, const PlanRow& b) {
                                              return a.what == b.what && a.place == b.place && a.bytes == b.bytes;
                                            });
}

std::vector<PlanRow> allocation_rows(const std::vector<Allocation>& allocations) {
  std::vector<PlanRow> rows;
  for (const Allocation& a : allocations) {
    const std::string what = a.name.substr(0, a.name.find(':'));
    auto row =
        std::find_if(rows.begin(), rows.end(), [&](const PlanRow& r) { return r.what == what && r.place == a.place; });
    if (row == rows.end()) row = rows.insert(rows.end(), {.what = what, .place = a.place});
    ++row->count;
    row->bytes += a.bytes;
  }
  return rows;
}

std::unique_ptr<Ops> planning_ops(const Config& config) {
  if (config.device == DeviceKind::cpu) return make_cpu_ops();
  return make_dry_cuda_ops(attention_kernel_of(config.train.attention_kernel));
}

RankPlan plan_rank(const Config& config, int rank, const Ops& ops) {
  const EngineOptions options = engine_options_of(config);
  const std::unique_ptr<Device> device = make_dry_device(ops);
  Grid grid = make_dry_grid(topology_of(config.parallel, config.zero), rank);
  Ledger ledger;
  const Engine engine(options, *device, grid, ledger);

  RankPlan plan{.rank = rank, .at = grid.at, .rows = allocation_rows(device->allocations())};
  plan.parts = parts_of(options.shape, engine.store.blocks());
  for (const int64_t block : engine.store.blocks()) plan.parameters += engine.store.layout(block).numel;
  for (const PlanRow& row : plan.rows)
    (row.place == Place::device ? plan.device_bytes : plan.pinned_bytes) += row.bytes;
  if (config.checkpoint.async) plan.staging_bytes = state_bytes(engine.store);
  return plan;
}

Plan make_plan(const Config& config, const Ops& ops) {
  Plan plan{.topology = topology_of(config.parallel, config.zero),
            .parameters = model_parameters(model_shape_of(config.model, config.parallel))};
  for (int rank = 0; rank < plan.topology.ranks(); ++rank) {
    plan.ranks.push_back(plan_rank(config, rank, ops));
  }
  return plan;
}

std::string describe(const RankPlan& plan) {
  std::ostringstream out;
  const auto row = [&](const std::string& what, size_t bytes) {
    out << "  " << std::left << std::setw(40) << what << std::right << std::setw(14)
        << format_bytes(static_cast<int64_t>(bytes)) << '\n';
  };
  out << "stage " << plan.at.pipeline << ":";
  for (const std::string& part : plan.parts) out << ' ' << part << (&part == &plan.parts.back() ? "" : ",");
  out << "; " << plan.parameters << " parameters each\n";
  const auto rows_of = [&](bool device) {
    for (const PlanRow& r : plan.rows) {
      if (r.bytes > 0 && (r.place == Place::device) == device) row(build_string(r.what, " (", r.count, ")"), r.bytes);
    }
  };
  rows_of(true);
  row("device, in all", plan.device_bytes);
  rows_of(false);
  if (plan.pinned_bytes > 0) row("host, pinned, in all", plan.pinned_bytes);
  if (plan.staging_bytes > 0) row("host, while a checkpoint is written", plan.staging_bytes);
  return out.str();
}

std::string describe(const Plan& plan, const Config& config) {
  std::ostringstream out;
  out << config.name << ": " << plan.parameters << " parameters on " << plan.topology.ranks()
      << (plan.topology.ranks() == 1 ? " rank" : " ranks (" + plan.topology.describe() + ")") << ", "
      << enum_name(config.train.precision) << ", ZeRO " << config.zero.stage << ", " << config.micro_batches()
      << " micro-batches of " << config.train.micro_batch << " x " << config.model.context << " tokens per data rank\n";
  std::vector<bool> shown(plan.ranks.size(), false);
  for (size_t i = 0; i < plan.ranks.size(); ++i) {
    if (shown[i]) continue;
    RankPlan first = plan.ranks[i];
    std::vector<int> alike;
    for (size_t j = i; j < plan.ranks.size(); ++j) {
      if (!shown[j] && first.same_bytes(plan.ranks[j])) {
        shown[j] = true;
        alike.push_back(plan.ranks[j].rank);
        first.staging_bytes = std::max(first.staging_bytes, plan.ranks[j].staging_bytes);
      }
    }
    out << "\nrank" << (alike.size() > 1 ? "s " : " ") << rank_ranges(alike) << ", " << describe(first);
  }
  return out.str();
}

}  // namespace trident
