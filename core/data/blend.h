// Several datasets in given proportions, and the DataSource over them.
//
// Which dataset sample number n is taken from is a pure function of n. The weights are turned into whole shares of a
// period (exactly, where they are fractions with a common denominator up to 65,536, as decimal weights are; otherwise
// to the nearest 1/262,144). One period is laid out once by Tijdeman's rule for the chairman assignment problem
// (R. Tijdeman, Discrete Mathematics 32, 1980): among the datasets that are owed a sample, the one whose turn is due
// first. It keeps every dataset, at every prefix of the endless sequence, within one sample of its share. The plain
// "largest deficit first" does not: with many datasets it lets one fall behind by more.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/data/batch.h"
#include "core/data/indexed_dataset.h"
#include "core/data/sampler.h"

namespace trident {

/// One dataset of a blend: prefix of its .bin/.idx pair and relative weight (> 0, any scale).
struct DatasetEntry {
  std::string path;
  double weight = 1.0;
};

/// Deals sample numbers to datasets.
class Blend {
 public:
  /// Throws UserError when there is no weight, one is not a positive finite number, or one is less than 1/262,144 of
  /// the sum. `names` go into the message.
  explicit Blend(std::span<const DatasetEntry> entries);

  /// Sample `number` (>= 0) is the `index`-th one taken from `dataset`.
  struct Pick {
    int64_t dataset = 0;
    int64_t index = 0;
  };
  Pick pick(int64_t number) const;

  /// The share of all samples the dataset really gets (its quantised weight).
  double share(int64_t dataset) const;

 private:
  struct Slot {
    uint32_t dataset;
    uint32_t index;  ///< among the dataset's slots of this period
  };
  std::vector<int64_t> quota_;  ///< slots of each dataset in a period
  std::vector<Slot> slots_;
};

/// The training or validation data of a run: each dataset of the blend walks its own epochs.
class BlendedSource final : public DataSource {
 public:
  /// Opens every dataset. Throws UserError when one cannot be read or holds less than one sample (context + 1 tokens).
  BlendedSource(std::span<const DatasetEntry> entries, const BatchSpec& spec);

  Batch batch(int64_t step, int micro, int dp_rank) const override;
  std::string origin(int64_t step, int64_t index) const override;
  int64_t samples() const override;
  int64_t tokens() const override;

 private:
  struct Member {
    IndexedDataset dataset;
    SampleOrder order;
  };
  struct Sample {
    const Member* member;
    int64_t first_token;
  };
  Sample sample(int64_t step, int64_t index) const;

  BatchSpec spec_;
  Blend blend_;
  std::vector<Member> members_;
};

/// The DataSource of a run (see BlendedSource).
std::unique_ptr<DataSource> make_data_source(std::span<const DatasetEntry> entries, const BatchSpec& spec);

}  // namespace trident
