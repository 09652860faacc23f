// The order of samples: a pure function, nothing stored, nothing drawn in sequence.
//
// A sample is context + 1 consecutive tokens of a dataset's stream and samples lie `context` apart, so that every token
// but the first is predicted exactly once an epoch. Each epoch visits the samples in an order of its own, a keyed
// bijection of [0, samples): a Feistel network (Luby and Rackoff, 1988) whose round function is Philox, on the smallest
// power of two that holds the samples, with cycle walking (Black and Rogaway, "Ciphers with arbitrary finite domains",
// CT-RSA 2002) back into the range.
#pragma once

#include <cstdint>

namespace trident {

/// A bijection of [0, size), chosen by `key` out of (practically) all. A lookup takes less than two walks on average.
class Permutation {
 public:
  /// size >= 1.
  Permutation(uint64_t size, uint64_t key);

  /// Where `index` in [0, size) goes.
  uint64_t operator()(uint64_t index) const;

 private:
  uint64_t encipher(uint64_t value) const;

  uint64_t size_;
  uint64_t key_;
  int low_bits_;
  int high_bits_;
};

/// The endless walk over one dataset: epoch after epoch, without a gap.
class SampleOrder {
 public:
  /// `fingerprint` names the dataset: two datasets of one seed are not visited alike. Throws InternalError unless the
  /// stream holds one sample (tokens >= context + 1).
  SampleOrder(int64_t tokens, int64_t context, uint64_t seed, uint64_t fingerprint);

  /// Samples in an epoch.
  int64_t samples() const { return samples_; }

  /// Stream position of the first token of the `number`-th sample visited, counted from 0 over all epochs. Pure.
  int64_t first_token(int64_t number) const;

  /// Samples that a stream of `tokens` holds: floor((tokens - 1) / context), never negative.
  static int64_t count(int64_t tokens, int64_t context);

 private:
  int64_t context_;
  int64_t samples_;
  uint64_t seed_;
  uint64_t fingerprint_;
};

}  // namespace trident
