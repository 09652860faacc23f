// The search for settings that fit (fit.h). What a setting costs in time decides the order alone: the figures are
// estimates, and the text says what they stand on. Arithmetic is counted (core/train/flops.h); for the rest a step is
// taken to spend a tenth on the data ranks' communication.
#include <algorithm>
#include <cmath>
#include <iterator>

#include "core/base/error.h"
#include "core/base/format.h"
#include "core/config/text.h"
#include "core/config/validate.h"
#include "core/plan/fit.h"
#include "core/plan/settings.h"

namespace trident {
namespace {

constexpr double kSelective = 0.03;       // norms and activation functions again: no product of matrices
constexpr double kCommunication = 0.1;    // of a step
constexpr double kHalfMicroBatch = 0.04;  // smaller matrices, more kernels
constexpr double kWaitForCheckpoint = 0.01;
constexpr double kOffloadHost = 0.4, kOffloadNvme = 0.8;  // of the optimizer; as much again of the weights

/// What full recomputation adds to a step's arithmetic.
double full_share(const Config& c) {
  const FlopShape shape = flop_shape_of(c.model);
  return recompute_flops_per_token(shape) / flops_per_token(shape);
}

double recompute_cost(const Config& c) {
  if (c.train.recompute == Recompute::full) return full_share(c);
  return c.train.recompute == Recompute::selective ? kSelective : 0;
}

double offload_cost(Offload offload) {
  return offload == Offload::none ? 0 : offload == Offload::host ? kOffloadHost : kOffloadNvme;
}

/// Elements per parameter that a data rank sends in a step (arXiv 1910.02054, section 7): gradients are summed once, or
/// from stage 2 on after every micro-batch; stage 3 gathers the weights for forward and for backward.
double traffic(const Config& c) {
  const auto micros = static_cast<double>(c.micro_batches());
  if (c.parallel.data == 1) return 0;
  return c.zero.stage == 3 ? 3 * micros : c.zero.stage == 2 ? micros + 1 : 2;
}

std::string traffic_text(const Config& from, const Config& to) {
  const double before = traffic(from), after = traffic(to);
  if (after <= before) return "no more communication";
  const double ratio = after / before;
  return ratio < 2 ? build_string("about ", std::lround(100 * (ratio - 1)), " % more communication volume")
                   : build_string("about ", format_fixed(ratio, 1), " times the communication volume");
}

/// One way to need less memory.
struct Candidate {
  Config config;
  std::vector<std::string> settings, prices;
  double cost = 0;
};

void name_changes(const Config& from, Candidate& candidate) {
  const Config& to = candidate.config;
  const auto change = [&](const std::string& setting, const std::string& price) {
    candidate.settings.push_back(setting);
    if (!price.empty()) candidate.prices.push_back(price);
  };
  if (to.train.recompute != from.train.recompute) {
    const bool full = to.train.recompute == Recompute::full;
    change(
        build_string("train.recompute: ", enum_name(to.train.recompute)),
        full ? build_string("about ", std::lround(100 * full_share(to)), " % more arithmetic") : "a few % more time");
  }
  if (to.zero.stage != from.zero.stage) {
    change(build_string("zero.stage: ", to.zero.stage), to.parallel.data == 1 ? "" : traffic_text(from, to));
  }
  if (to.zero.shard_group != from.zero.shard_group) change("zero.shard_group: auto", "gathers leave the group");
  if (to.zero.offload != from.zero.offload) {
    change(build_string("zero.offload: ", enum_name(to.zero.offload)),
           to.zero.offload == Offload::host ? "the processor updates the weights"
                                            : "the processor updates the weights, out of files");
  }
  if (to.zero.offload_parameters != from.zero.offload_parameters) {
    change(build_string("zero.offload_parameters: ", enum_name(to.zero.offload_parameters)),
           to.zero.offload_parameters == Offload::host
               ? "each layer's weights are copied to the device twice a micro-batch"
               : "each layer's weights are read from files twice a micro-batch");
  }
  if (to.train.micro_batch != from.train.micro_batch) {
    const bool resent = to.zero.stage == from.zero.stage && traffic(to) > traffic(from);
    change(
        build_string("train.micro_batch: ", to.train.micro_batch),
        build_string(to.micro_batches(), " smaller micro-batches a step", resent ? ", " + traffic_text(from, to) : ""));
  }
  if (to.checkpoint.async != from.checkpoint.async) {
    change("checkpoint.async: false", "training waits while a checkpoint is written");
  }
}

double cost_of(const Config& from, const Config& to) {
  const double halvings =
      std::log2(static_cast<double>(from.train.micro_batch) / static_cast<double>(to.train.micro_batch));
  const double sent = traffic(from) > 0 ? traffic(to) / traffic(from) - 1 : 0;
  const double spread = to.zero.shard_group == from.zero.shard_group ? 0 : kCommunication;
  return recompute_cost(to) - recompute_cost(from) + kCommunication * sent + spread + kHalfMicroBatch * halvings +
         offload_cost(to.zero.offload) - offload_cost(from.zero.offload) + offload_cost(to.zero.offload_parameters) -
         offload_cost(from.zero.offload_parameters) +
         (from.checkpoint.async && !to.checkpoint.async ? kWaitForCheckpoint : 0);
}

/// `values` of one setting, for every config so far.
template <class Value, class Set>
void multiply(std::vector<Config>& configs, const std::vector<Value>& values, Set set) {
  std::vector<Config> all;
  for (const Config& config : configs) {
    for (const Value& value : values) set(all.emplace_back(config), value);
  }
  configs = std::move(all);
}

/// This value of an enum and what comes after it.
template <class E>
std::vector<E> from_here(E first, E last) {
  std::vector<E> values;
  for (auto i = static_cast<uint8_t>(first); i <= static_cast<uint8_t>(last); ++i) values.push_back(static_cast<E>(i));
  return values;
}

/// One data rank has nobody to share with: a higher stage serves to offload the weights alone.
bool shards_nothing(const Config& from, const Config& to) {
  return to.parallel.data == 1 && to.zero.stage != from.zero.stage && to.zero.offload_parameters == Offload::none;
}

std::vector<Candidate> candidates_of(const Config& from) {
  std::vector<int> stages;
  for (int stage = from.zero.stage; stage <= 3; ++stage) stages.push_back(stage);
  const std::vector<int> groups = from.zero.shard_group == 0 ? std::vector{0} : std::vector{from.zero.shard_group, 0};
  std::vector<int64_t> micro_batches = {from.train.micro_batch};
  while (micro_batches.back() % 2 == 0) micro_batches.push_back(micro_batches.back() / 2);
  if (micro_batches.back() > 1) micro_batches.push_back(1);
  const std::vector<bool> async = from.checkpoint.async ? std::vector{true, false} : std::vector{false};

  std::vector<Config> configs = {from};
  multiply(configs, from_here(from.train.recompute, Recompute::full),
           [](Config& c, Recompute recompute) { c.train.recompute = recompute; });
  multiply(configs, stages, [](Config& c, int stage) { c.zero.stage = stage; });
  multiply(configs, groups, [](Config& c, int group) { c.zero.shard_group = group; });
  multiply(configs, from_here(from.zero.offload, Offload::nvme),
           [](Config& c, Offload offload) { c.zero.offload = offload; });
  multiply(configs, from_here(from.zero.offload_parameters, Offload::nvme),
           [](Config& c, Offload offload) { c.zero.offload_parameters = offload; });
  multiply(configs, micro_batches, [](Config& c, int64_t micro_batch) { c.train.micro_batch = micro_batch; });
  multiply(configs, async, [](Config& c, bool wanted) { c.checkpoint.async = wanted; });

  std::vector<Candidate> candidates;
  for (Config& config : configs) {
    if (config == from || shards_nothing(from, config) || !validate(config, 0).empty()) continue;
    Candidate& candidate = candidates.emplace_back(Candidate{.config = std::move(config)});
    name_changes(from, candidate);
    candidate.cost = cost_of(from, candidate.config);
  }
  std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return a.cost != b.cost ? a.cost < b.cost : a.settings.size() < b.settings.size();
  });
  return candidates;
}

/// "train.recompute: full (device 1.2 GiB instead of 3.4 GiB; about 33 % more arithmetic)"
std::string describe(const Candidate& candidate, const Fit& before, const Fit& after) {
  std::string bytes;
  for (const Claim& claim : before.claims) {
    const Claim* now = after.of(claim.kind);
    if (claim.fits() || now == nullptr) continue;
    bytes += build_string(claim.kind == MemoryKind::device ? "device "
                          : claim.kind == MemoryKind::host ? "host "
                                                           : "files ",
                          format_bytes(now->wanted), " instead of ", format_bytes(claim.wanted), "; ");
  }
  return join(candidate.settings) + " (" + bytes + join(candidate.prices, "; ") + ")";
}

}  // namespace

std::string advice(const Config& config, const Fit& before, const Fitting& fitting) {
  const std::vector<Candidate> candidates = candidates_of(config);
  const Candidate* nearest = nullptr;
  Fit nearest_fit;
  for (const Candidate& candidate : candidates) {
    const Fit after = fitting(candidate.config);
    if (after.fits()) return "The cheapest that fits: set " + describe(candidate, before, after);
    if (nearest == nullptr || after.missing() < nearest_fit.missing()) {
      nearest = &candidate;
      nearest_fit = after;
    }
  }
  const std::string remedy =
      "Spread the model over more ranks (parallel.pipeline, parallel.tensor) or make it smaller.";
  if (nearest == nullptr || nearest_fit.missing() >= before.missing()) {
    return "No other setting of this grid takes less. " + remedy;
  }
  return build_string("Nothing that can be set on this grid fits. The nearest: set ",
                      describe(*nearest, before, nearest_fit), ", still ", format_bytes(nearest_fit.missing()),
                      " short.\n", remedy);
}

}  // namespace trident
