#include "core/data/blend.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "core/base/error.h"
#include "core/data/indexed_writer.h"
#include "data/fixtures.h"

using namespace trident;
using namespace trident::test;

namespace {

std::vector<DatasetEntry> entries_of(const std::vector<double>& weights) {
  std::vector<DatasetEntry> entries;
  for (const double weight : weights) entries.push_back({build_string("set", entries.size()), weight});
  return entries;
}

// Writes a dataset of `tokens` consecutive ids from `first`, in documents of 100 tokens.
void write_counting(const std::string& prefix, int32_t first, int64_t tokens) {
  IndexedDatasetWriter writer(prefix, 100'000);
  for (int64_t t = 0; t < tokens; ++t) {
    const auto id = static_cast<int32_t>(first + t);
    writer.append(std::span(&id, 1));
    if (t % 100 == 99) writer.end_document();
  }
  writer.finish();
}

// The whole global batch of one step, put together from its micro-batches.
std::vector<int32_t> global_tokens(const std::vector<DatasetEntry>& entries, BatchSpec spec, int64_t step) {
  const BlendedSource source(entries, spec);
  std::vector<int32_t> all(static_cast<size_t>(spec.global_batch * spec.context));
  const auto micros = static_cast<int>(spec.global_batch / spec.micro_batch / spec.dp);
  for (int micro = 0; micro < micros; ++micro) {
    for (int rank = 0; rank < spec.dp; ++rank) {
      const Batch batch = source.batch(step, micro, rank);
      REQUIRE(batch.first_sample == (int64_t{micro} * spec.dp + rank) * spec.micro_batch);
      std::copy(batch.tokens.begin(), batch.tokens.end(), all.begin() + batch.first_sample * spec.context);
    }
  }
  return all;
}

}  // namespace

TEST_CASE("every prefix of the blend is within one sample of every weight") {
  std::vector<std::vector<double>> cases = {{1}, {1, 1}, {0.3, 0.7}, {5, 3, 1, 1}, {0.999, 0.001}, {100, 1, 1, 1, 1}};
  cases.push_back(std::vector<double>(40, 1.0));
  cases.push_back({50});
  for (int i = 0; i < 60; ++i) cases.back().push_back(0.5 + 0.1 * (i % 7));
  cases.push_back({std::sqrt(2.0), std::exp(1.0), 1.0});
  for (const auto& weights : cases) {
    const Blend blend(entries_of(weights));
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::vector<int64_t> taken(weights.size(), 0);
    double worst = 0;
    for (int64_t n = 0; n < 20'000; ++n) {
      const Blend::Pick pick = blend.pick(n);
      REQUIRE(pick.index == taken[static_cast<size_t>(pick.dataset)]++);
      for (size_t d = 0; d < weights.size(); ++d) {
        worst =
            std::max(worst, std::abs(static_cast<double>(taken[d]) - static_cast<double>(n + 1) * weights[d] / sum));
      }
    }
    INFO(weights.size() << " datasets, worst deviation " << worst);
    CHECK(worst < 1.0);
  }
}

TEST_CASE("decimal weights are met exactly, others to 1/262144") {
  const Blend decimal(entries_of({0.7, 0.2, 0.1}));
  CHECK(std::abs(decimal.share(0) - 0.7) < 1e-15);
  CHECK(decimal.pick(10).index == decimal.pick(0).index + 7);  // the period is 10 samples
  std::vector<double> odd;
  for (int i = 0; i < 9; ++i) odd.push_back(std::sqrt(2.0 + i * 0.73));
  const double sum = std::accumulate(odd.begin(), odd.end(), 0.0);
  const Blend blend(entries_of(odd));
  for (size_t d = 0; d < odd.size(); ++d)
    CHECK(std::abs(blend.share(static_cast<int64_t>(d)) - odd[d] / sum) < 1.0 / 262144);
}

TEST_CASE("far sample numbers are found as directly as near ones") {
  const Blend blend(entries_of({3, 1}));
  const int64_t far = int64_t{1} << 50;
  std::set<int64_t> seen;
  for (int64_t n = far; n < far + 4; ++n) {
    if (const Blend::Pick pick = blend.pick(n); pick.dataset == 0) seen.insert(pick.index);
  }
  REQUIRE(seen.size() == 3);
  CHECK(*seen.begin() == far / 4 * 3);
}

TEST_CASE("weights that cannot be met are refused by name") {
  const auto message = [](const std::vector<double>& weights) {
    return message_of<UserError>([&] { Blend{entries_of(weights)}; });
  };
  CHECK(has_all(message({}), {"no dataset"}));
  CHECK(has_all(message({1, 0}), {"set1", "weight 0"}));
  CHECK(has_all(message({-2, 1}), {"set0", "weight -2"}));
  CHECK(has_all(message({1, std::nan("")}), {"set1", "nan"}));
  CHECK(has_all(message({std::numeric_limits<double>::infinity()}), {"set0", "inf"}));
  CHECK(has_all(message({1e9, 1}), {"set1", "1/262144", "1e+09"}));
}

TEST_CASE("batches hold consecutive tokens and their successors") {
  const TempDir dir;
  write_counting(dir.file("a"), 0, 1000);
  const std::vector<DatasetEntry> entries = {{dir.file("a"), 1}};
  const BatchSpec spec{.context = 16, .global_batch = 12, .micro_batch = 3, .dp = 2, .vocab = 1000, .seed = 3};
  const auto source = make_data_source(entries, spec);
  CHECK(source->samples() == 62);
  CHECK(source->tokens() == 1000);
  const Batch batch = source->batch(4, 1, 1);
  CHECK(batch.sequences == 3);
  CHECK(batch.context == 16);
  CHECK(batch.first_sample == 9);
  REQUIRE(batch.tokens.size() == 48);
  REQUIRE(batch.targets.size() == 48);
  for (size_t i = 0; i < 48; ++i) {
    CHECK(batch.targets[i] == batch.tokens[i] + 1);
    CHECK(batch.tokens[i] == batch.tokens[i / 16 * 16] + static_cast<int32_t>(i % 16));
    CHECK(batch.tokens[i / 16 * 16] % 16 == 0);
  }
  const int32_t first = batch.tokens[0];
  CHECK(source->origin(4, 9) == build_string(dir.file("a"), ": token ", first % 100, " of document ", first / 100));
}

TEST_CASE("the global batch is the same on every grid") {
  const TempDir dir;
  write_counting(dir.file("a"), 0, 3000);
  write_counting(dir.file("b"), 5000, 700);
  const std::vector<DatasetEntry> entries = {{dir.file("a"), 0.7}, {dir.file("b"), 0.3}};
  BatchSpec spec{.context = 8, .global_batch = 24, .micro_batch = 24, .dp = 1, .vocab = 10'000, .seed = 1};
  for (const int64_t step : {0, 1, 57, 100'000}) {
    spec.micro_batch = 24, spec.dp = 1;
    const std::vector<int32_t> one_rank = global_tokens(entries, spec, step);
    for (const auto& [dp, micro] :
         std::vector<std::pair<int, int64_t>>{{1, 1}, {2, 3}, {3, 2}, {4, 6}, {24, 1}, {8, 3}}) {
      spec.dp = dp, spec.micro_batch = micro;
      INFO("step " << step << ", dp " << dp << ", micro-batch " << micro);
      CHECK(global_tokens(entries, spec, step) == one_rank);
    }
  }
}

TEST_CASE("an epoch's remainder runs on into the next: no sample is lost or doubled at the border") {
  const TempDir dir;
  write_counting(dir.file("a"), 0, 8 * 50 + 1);  // 50 samples, batches of 12
  const std::vector<DatasetEntry> entries = {{dir.file("a"), 1}};
  const BatchSpec spec{.context = 8, .global_batch = 12, .micro_batch = 12, .dp = 1, .vocab = 1000, .seed = 1};
  std::map<int32_t, int> visits;
  std::vector<std::map<int32_t, int>> epochs(3);
  for (int64_t step = 0; step < 13; ++step) {  // 156 samples: three epochs and 6
    const std::vector<int32_t> tokens = global_tokens(entries, spec, step);
    for (int64_t i = 0; i < 12 && step * 12 + i < 150; ++i) {
      ++epochs[static_cast<size_t>((step * 12 + i) / 50)][tokens[static_cast<size_t>(i * 8)]];
    }
  }
  for (const auto& epoch : epochs) {
    CHECK(epoch.size() == 50);
    CHECK(std::all_of(epoch.begin(), epoch.end(), [](const auto& visit) { return visit.second == 1; }));
  }
}

TEST_CASE("a blend takes each dataset in its proportion") {
  const TempDir dir;
  write_counting(dir.file("a"), 0, 900);
  write_counting(dir.file("b"), 5000, 900);
  const std::vector<DatasetEntry> entries = {{dir.file("a"), 3}, {dir.file("b"), 1}};
  const BatchSpec spec{.context = 4, .global_batch = 8, .micro_batch = 8, .dp = 1, .vocab = 10'000, .seed = 1};
  for (int64_t step = 0; step < 50; ++step) {
    const std::vector<int32_t> tokens = global_tokens(entries, spec, step);
    CHECK(std::count_if(tokens.begin(), tokens.end(), [](int32_t t) { return t >= 5000; }) == 2 * 4);
  }
}

TEST_CASE("datasets that are too short, missing, or beyond the vocabulary are refused by name") {
  const TempDir dir;
  write_counting(dir.file("a"), 0, 16);
  const std::vector<DatasetEntry> entries = {{dir.file("a"), 1}};
  BatchSpec spec{.context = 16, .global_batch = 1, .micro_batch = 1, .dp = 1, .vocab = 16, .seed = 1};
  CHECK(has_all(message_of<UserError>([&] { make_data_source(entries, spec); }),
                {dir.file("a"), "16 tokens", "needs 17", "at most 15"}));
  spec.context = 15;
  CHECK(make_data_source(entries, spec)->samples() == 1);
  spec.vocab = 15;
  CHECK(has_all(message_of<UserError>([&] { make_data_source(entries, spec)->batch(0, 0, 0); }),
                {dir.file("a") + ".bin", "token 15", "vocabulary of 15"}));
  const std::vector<DatasetEntry> missing = {{dir.file("b"), 1}};
  CHECK(has_all(message_of<UserError>([&] { make_data_source(missing, spec); }), {dir.file("b"), "no file"}));
}

TEST_CASE("batches outside the global batch are our own mistake") {
  const TempDir dir;
  write_counting(dir.file("a"), 0, 100);
  const std::vector<DatasetEntry> entries = {{dir.file("a"), 1}};
  BatchSpec spec{.context = 4, .global_batch = 8, .micro_batch = 2, .dp = 2, .vocab = 100, .seed = 1};
  const auto source = make_data_source(entries, spec);
  CHECK_THROWS_AS(source->batch(0, 2, 0), InternalError);
  CHECK_THROWS_AS(source->batch(0, 0, 2), InternalError);
  CHECK_THROWS_AS(source->batch(-1, 0, 0), InternalError);
  CHECK_THROWS_AS(source->origin(0, 8), InternalError);
  spec.micro_batch = 3;
  CHECK_THROWS_AS(make_data_source(entries, spec), InternalError);
}
