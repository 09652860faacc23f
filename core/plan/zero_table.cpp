#include "core/plan/zero_table.h"

#include <array>
#include <cmath>
#include <functional>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/base/format.h"
#include "core/plan/plan.h"

namespace trident {
namespace {

constexpr int kRanks[] = {1, 4, 16, 64, 256, 1024};
constexpr size_t kWidth = 9;

/// A line of a table: its first column, then three stages of each model.
std::string line(const std::string& first, const std::vector<std::string>& cells) {
  std::string text = pad_left(first, 6);
  for (size_t i = 0; i < cells.size(); ++i) text += (i % 3 == 0 ? "   " : "") + pad_left(cells[i], kWidth);
  text.erase(text.find_last_not_of(' ') + 1);
  return text + "\n";
}

/// A column of three stages for each title, `bytes` by column, stage and ranks.
std::string table(const std::vector<std::string>& titles, const std::function<double(size_t, int, int)>& bytes) {
  std::vector<std::string> heads, stages;
  for (const std::string& title : titles) {
    heads.insert(heads.end(), {"", title, ""});
    stages.insert(stages.end(), {"stage 1", "stage 2", "stage 3"});
  }
  std::string text = line("", heads) + line("N", stages);
  for (const int ranks : kRanks) {
    std::vector<std::string> cells;
    for (size_t column = 0; column < titles.size(); ++column) {
      for (int stage = 1; stage <= 3; ++stage) cells.push_back(paper_gigabytes(bytes(column, stage, ranks)));
    }
    text += line(std::to_string(ranks), cells);
  }
  return text;
}

/// The model on data ranks alone.
Config on_data_ranks(Config config, int stage, int ranks) {
  config.parallel = {.data = ranks};
  config.zero = {.stage = stage};
  config.train.micro_batch = 1;
  config.train.global_batch = ranks;
  config.train.recompute = Recompute::full;
  return config;
}

int64_t sum_of(const RankPlan& plan, std::initializer_list<std::string_view> names) {
  int64_t sum = 0;
  for (const PlanRow& row : plan.rows) {
    for (const std::string_view name : names) sum += row.what == name ? static_cast<int64_t>(row.bytes) : 0;
  }
  return sum;
}

}  // namespace

double paper_state_bytes(double parameters, int stage, int64_t ranks) {
  constexpr double kWeights = 2, kGradients = 2, kOptimizer = 12;
  const auto n = static_cast<double>(ranks);
  switch (stage) {
    case 1: return parameters * (kWeights + kGradients) + parameters * kOptimizer / n;
    case 2: return parameters * kWeights + parameters * (kGradients + kOptimizer) / n;
    case 3: return parameters * (kWeights + kGradients + kOptimizer) / n;
    default: break;
  }
  throw InternalError("the table has ZeRO stages 1 to 3");
}

StateBytes allocated_state_bytes(const Config& config, int stage, int ranks) {
  const Config alone = on_data_ranks(config, stage, ranks);
  const RankPlan plan = plan_rank(alone, 0, *planning_ops(alone));
  return {.states = sum_of(plan, {"parameters", "gradients", "master weights", "first moments", "second moments"}),
          .in_use = sum_of(plan, {"parameters in use", "gradients in use"})};
}

std::string paper_gigabytes(double bytes) {
  const double gigabytes = bytes / 1e9;
  if (gigabytes >= 100) return format_fixed(std::floor(gigabytes), 0);
  const int decimals = gigabytes >= 10 ? 1 : gigabytes >= 0.1 ? 2 : 4;
  const double unit = std::pow(10.0, decimals);
  // printf takes the even neighbour of 41.25.
  std::string text = format_fixed(std::floor(gigabytes * unit + 0.5) / unit, decimals);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text;
}

std::string paper_zero_table() {
  constexpr std::array kParameters = {7.5e9, 128e9, 1e12};
  return "Model states on one of N data ranks, GB (1e9 bytes), as in table 1 of the ZeRO paper (arXiv 1910.02054):\n"
         "mixed-precision Adam, 16 bytes a parameter: weights 2, gradients 2, optimizer 12. From 100 GB on cut to "
         "whole "
         "GB.\n\n" +
         table({"7.5B", "128B", "1T"}, [&](size_t column, int stage, int ranks) {
           return paper_state_bytes(kParameters[column], stage, ranks);
         });
}

std::string zero_table(const Config& config) {
  const Config alone = on_data_ranks(config, 1, 1);
  const int64_t parameters = make_plan(alone, *planning_ops(alone)).parameters;
  const auto allocated = [&](size_t column, int stage, int ranks) {
    return column == 0 ? paper_state_bytes(static_cast<double>(parameters), stage, ranks)
                       : static_cast<double>(allocated_state_bytes(config, stage, ranks).states);
  };
  const bool mixed = config.train.precision != Precision::fp32;
  std::string text = build_string(config.name, ": ", parameters, " parameters on N data ranks alone. Allocated, in ",
                                  enum_name(config.train.precision), ": ", mixed ? 18 : 16, " bytes a parameter: ",
                                  mixed ? "weights 2, gradients 4 (fp32, where the paper has 2), optimizer 12."
                                        : "weights 4 (their own masters), gradients 4 (fp32, where the paper has 2), "
                                          "optimizer 8.",
                                  "\n\n", table({"formula", "allocated"}, allocated));
  text += build_string(
      "\nWith the padding between parameters. The first and the last block keep whole gradients at every stage.\n"
      "Layers take turns in full-size buffers, on top: ",
      paper_gigabytes(static_cast<double>(allocated_state_bytes(config, 2, kRanks[1]).in_use)), " GB at stage 2, ",
      paper_gigabytes(static_cast<double>(allocated_state_bytes(config, 3, kRanks[1]).in_use)), " GB at stage 3.\n");
  return text;
}

}  // namespace trident
