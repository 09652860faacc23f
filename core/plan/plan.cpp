#include "core/plan/plan.h"

#include <algorithm>
#include <iomanip>
#include <numeric>
#include <sstream>
#include <utility>

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

size_t bytes_at(const std::vector<PlanRow>& rows, Place place) {
  size_t bytes = 0;
  for (const PlanRow& row : rows) bytes += row.place == place ? row.bytes : 0;
  return bytes;
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
  plan.device_bytes = bytes_at(plan.rows, Place::device);
  plan.host_bytes = bytes_at(plan.rows, Place::host);
  plan.pinned_bytes = bytes_at(plan.rows, Place::pinned);
  plan.file_bytes = engine.file_bytes();
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

RankNeed need_of(const RankPlan& plan, const Config& config) {
  RankNeed need{.device = static_cast<int64_t>(plan.device_bytes),
                .host = static_cast<int64_t>(plan.host_bytes + plan.pinned_bytes + plan.staging_bytes),
                .file = static_cast<int64_t>(plan.file_bytes)};
  // Emulated GPUs live on the processor.
  if (config.device != DeviceKind::cuda) need.host += need.device;
  return need;
}

std::vector<RankNeed> needs_of(const Plan& plan, const Config& config) {
  std::vector<RankNeed> needs;
  for (const RankPlan& rank : plan.ranks) needs.push_back(need_of(rank, config));
  return needs;
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
  constexpr std::pair<Place, const char*> kPlaces[] = {
      {Place::device, "device, in all"}, {Place::host, "host, in all"}, {Place::pinned, "host, pinned, in all"}};
  for (const auto& [place, total] : kPlaces) {
    for (const PlanRow& r : plan.rows) {
      if (r.bytes > 0 && r.place == place) row(build_string(r.what, " (", r.count, ")"), r.bytes);
    }
    const size_t bytes = bytes_at(plan.rows, place);
    if (bytes > 0 || place == Place::device) row(total, bytes);
  }
  if (plan.file_bytes > 0) row("files, in zero.nvme_path", plan.file_bytes);
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

std::string describe_hosts(const std::vector<RankNeed>& needs, DeviceKind device, int ranks_per_host) {
  const size_t each = ranks_per_host > 0 ? static_cast<size_t>(ranks_per_host) : needs.size();
  int64_t most = -1;
  size_t fullest = 0;
  for (size_t first = 0; first < needs.size(); first += each) {
    int64_t sum = 0;
    for (size_t i = first; i < std::min(first + each, needs.size()); ++i) sum += needs[i].host;
    if (sum > most) {
      most = sum;
      fullest = first;
    }
  }
  std::vector<int> ranks(std::min(each, needs.size() - fullest));
  std::iota(ranks.begin(), ranks.end(), static_cast<int>(fullest));
  const size_t hosts = (needs.size() + each - 1) / each;
  return build_string("hosts: ", format_bytes(most), " on ",
                      hosts > 1 ? build_string("the fullest of ", hosts, " hosts") : "one host", " (rank",
                      ranks.size() > 1 ? "s " : " ", rank_ranges(ranks),
                      ranks_per_host > 0 || needs.size() == 1 ? "" : "; --ranks-per-host N says how many share one",
                      ")", device == DeviceKind::cuda ? "" : ", the device's included", "\n");
}

}  // namespace trident
