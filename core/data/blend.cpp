#include "core/data/blend.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/error.h"

namespace trident {
namespace {

constexpr int64_t kExactPeriod = 65536;      // common denominators searched for
constexpr int64_t kRoundedPeriod = 262'144;  // resolution where there is none

// Shares that differ by less are the same share: a few roundings of the division by the sum, times the period.
constexpr double kSameShare = 1e-9;

std::vector<double> shares_of(std::span<const DatasetEntry> entries) {
  if (entries.empty()) throw UserError("no dataset is given; name at least one under data.train");
  double sum = 0;
  for (const DatasetEntry& entry : entries) {
    if (!(entry.weight > 0) || !std::isfinite(entry.weight)) {
      throw UserError(build_string("dataset ", entry.path, ": weight ", entry.weight,
                                   " is not a positive number; leave the dataset out to give it no samples"));
    }
    sum += entry.weight;
  }
  std::vector<double> shares;
  for (const DatasetEntry& entry : entries) {
    shares.push_back(entry.weight / sum);
    if (shares.back() * static_cast<double>(kRoundedPeriod) < 1.0) {
      throw UserError(build_string("dataset ", entry.path, ": weight ", entry.weight, " is less than 1/",
                                   kRoundedPeriod, " of the sum of weights, ", sum,
                                   "; raise it or leave the dataset out"));
    }
  }
  return shares;
}

// The smallest period of which every share is a whole number of slots; empty when there is none.
std::vector<int64_t> exact_quotas(const std::vector<double>& shares) {
  for (int64_t period = 1; period <= kExactPeriod; ++period) {
    const auto whole = [period](double share) {
      const double slots = share * static_cast<double>(period);
      return slots > 0.5 && std::abs(slots - std::round(slots)) < kSameShare * static_cast<double>(period);
    };
    if (!std::all_of(shares.begin(), shares.end(), whole)) continue;
    std::vector<int64_t> quotas;
    for (const double share : shares) quotas.push_back(std::llround(share * static_cast<double>(period)));
    if (std::accumulate(quotas.begin(), quotas.end(), int64_t{0}) == period) return quotas;
  }
  return {};
}

// Largest remainders: floors first, the slots left over to those that lost most. No share falls below one slot.
std::vector<int64_t> rounded_quotas(const std::vector<double>& shares) {
  std::vector<int64_t> quotas;
  std::vector<size_t> by_loss(shares.size());
  std::iota(by_loss.begin(), by_loss.end(), size_t{0});
  const auto wanted = [&](size_t d) { return shares[d] * static_cast<double>(kRoundedPeriod); };
  for (size_t d = 0; d < shares.size(); ++d) quotas.push_back(static_cast<int64_t>(wanted(d)));
  std::stable_sort(by_loss.begin(), by_loss.end(), [&](size_t a, size_t b) {
    return wanted(a) - static_cast<double>(quotas[a]) > wanted(b) - static_cast<double>(quotas[b]);
  });
  const int64_t left = kRoundedPeriod - std::accumulate(quotas.begin(), quotas.end(), int64_t{0});
  for (int64_t i = 0; i < left; ++i) ++quotas[by_loss[static_cast<size_t>(i) % by_loss.size()]];
  return quotas;
}

// Tijdeman's rule in whole numbers. With D datasets, period P, quota q and x slots given so far: before slot n (from 1)
// a dataset is owed one when n q / P - x >= 1 / (2D - 2), and its turn is due when that would pass 1 - 1 / (2D - 2).
size_t next_dataset(const std::vector<int64_t>& quota, const std::vector<int64_t>& given, int64_t period, int64_t n) {
  const auto scale = static_cast<int64_t>(2 * quota.size() - 2);
  size_t best = quota.size();
  for (size_t d = 0; d < quota.size(); ++d) {
    if (scale * (n * quota[d] - period * given[d]) < period) continue;
    const auto due = [&](size_t i) { return scale * given[i] + scale - 1; };  // times quota of the other: comparable
    if (best == quota.size() || due(d) * quota[best] < due(best) * quota[d]) best = d;
  }
  ensure(best < quota.size(), "some dataset is owed a sample");
  return best;
}

}  // namespace

Blend::Blend(std::span<const DatasetEntry> entries) {
  const std::vector<double> shares = shares_of(entries);
  quota_ = exact_quotas(shares);
  if (quota_.empty()) quota_ = rounded_quotas(shares);
  const int64_t period = std::accumulate(quota_.begin(), quota_.end(), int64_t{0});
  std::vector<int64_t> given(quota_.size(), 0);
  slots_.reserve(static_cast<size_t>(period));
  for (int64_t n = 1; n <= period; ++n) {
    const size_t d = quota_.size() == 1 ? 0 : next_dataset(quota_, given, period, n);
    slots_.push_back({static_cast<uint32_t>(d), static_cast<uint32_t>(given[d]++)});
  }
  ensure(given == quota_, "a period gives every dataset its quota");
}

Blend::Pick Blend::pick(int64_t number) const {
  ensure(number >= 0, "sample numbers count from 0");
  const auto period = static_cast<int64_t>(slots_.size());
  const Slot slot = slots_[static_cast<size_t>(number % period)];
  return {slot.dataset, number / period * quota_[slot.dataset] + slot.index};
}

double Blend::share(int64_t dataset) const {
  return static_cast<double>(quota_.at(static_cast<size_t>(dataset))) / static_cast<double>(slots_.size());
}

BlendedSource::BlendedSource(std::span<const DatasetEntry> entries, const BatchSpec& spec)
    : spec_(spec), blend_(entries) {
  ensure(spec.context >= 1 && spec.micro_batch >= 1 && spec.dp >= 1 && spec.vocab >= 1, "a complete BatchSpec");
  ensure(spec.global_batch >= 1 && spec.global_batch % (spec.micro_batch * spec.dp) == 0,
         "a global batch of whole micro-batches on every data rank");
  members_.reserve(entries.size());
  for (const DatasetEntry& entry : entries) {
    IndexedDataset dataset(entry.path);
    if (SampleOrder::count(dataset.tokens(), spec.context) == 0) {
      throw UserError(build_string(
          "dataset ", entry.path, " holds ", dataset.tokens(), " tokens, but one sample needs ", spec.context + 1,
          " (model.context + 1); use more text or a context of at most ", std::max<int64_t>(1, dataset.tokens() - 1)));
    }
    SampleOrder order(dataset.tokens(), spec.context, spec.seed, dataset.fingerprint());
    members_.push_back({std::move(dataset), order});
  }
}

BlendedSource::Sample BlendedSource::sample(int64_t step, int64_t index) const {
  ensure(step >= 0 && index >= 0 && index < spec_.global_batch, "a sequence of a global batch");
  const Blend::Pick pick = blend_.pick(step * spec_.global_batch + index);
  const Member& member = members_[static_cast<size_t>(pick.dataset)];
  return {&member, member.order.first_token(pick.index)};
}

Batch BlendedSource::batch(int64_t step, int micro, int dp_rank) const {
  ensure(micro >= 0 && dp_rank >= 0 && dp_rank < spec_.dp, "micro-batch and data rank of this grid");
  Batch out;
  out.sequences = spec_.micro_batch;
  out.context = spec_.context;
  out.first_sample = (int64_t{micro} * spec_.dp + dp_rank) * spec_.micro_batch;
  out.tokens.reserve(static_cast<size_t>(out.sequences * out.context));
  out.targets.reserve(out.tokens.capacity());
  std::vector<int32_t> row(static_cast<size_t>(spec_.context) + 1);
  for (int64_t i = 0; i < out.sequences; ++i) {
    const Sample from = sample(step, out.first_sample + i);
    from.member->dataset.read(from.first_token, row, spec_.vocab);
    out.tokens.insert(out.tokens.end(), row.begin(), row.end() - 1);
    out.targets.insert(out.targets.end(), row.begin() + 1, row.end());
  }
  return out;
}

std::string BlendedSource::origin(int64_t step, int64_t index) const {
  const Sample from = sample(step, index);
  const IndexedDataset& dataset = from.member->dataset;
  const IndexedDataset::Place place = dataset.locate(from.first_token);
  int64_t token = place.offset;
  for (int64_t s = dataset.document_begin(place.document); s < place.sequence; ++s) token += dataset.sequence_length(s);
  return build_string(dataset.prefix(), ": token ", token, " of document ", place.document);
}

int64_t BlendedSource::samples() const {
  int64_t sum = 0;
  for (const Member& member : members_) sum += member.order.samples();
  return sum;
}

int64_t BlendedSource::tokens() const {
  int64_t sum = 0;
  for (const Member& member : members_) sum += member.dataset.tokens();
  return sum;
}

std::unique_ptr<DataSource> make_data_source(std::span<const DatasetEntry> entries, const BatchSpec& spec) {
  return std::make_unique<BlendedSource>(entries, spec);
}

}  // namespace trident
