// What the training step asks of the data: a micro-batch of token rows, named by (step, micro-batch, data rank).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace trident {

/// Token rows and what should follow each token. Row-major [sequences, context].
struct Batch {
  std::vector<int32_t> tokens;   ///< ids in [0, vocabulary)
  std::vector<int32_t> targets;  ///< the next token of each position; -1 = no loss at this position
  int64_t sequences = 0;
  int64_t context = 0;
  int64_t first_sample = 0;  ///< index of the first sequence within the step's global batch
};

/// The sizes that turn a step number into sample numbers, and the vocabulary every token must lie in.
struct BatchSpec {
  int64_t context = 0;       ///< tokens a sequence
  int64_t global_batch = 0;  ///< sequences a step, over all data ranks and micro-batches
  int64_t micro_batch = 0;   ///< sequences of one micro-batch of one data rank
  int dp = 1;                ///< data ranks
  int64_t vocab = 0;         ///< the model's vocabulary
  uint64_t seed = 0;         ///< orders the samples
};

/// Stateless: a batch is a pure function of its arguments, so resuming needs a step number and nothing else, and every
/// grid sees the same sequences in the same place of the global batch. Safe to call from several threads.
class DataSource {
 public:
  virtual ~DataSource() = default;

  /// The sequences [first, first + micro_batch) of global batch `step` (counted from 0), where
  /// first = (micro * dp + dp_rank) * micro_batch. Throws UserError when a token lies outside the vocabulary.
  virtual Batch batch(int64_t step, int micro, int dp_rank) const = 0;

  /// Where sequence `index` of global batch `step` comes from, for messages: "data/kjv: token 1024 of document 3".
  virtual std::string origin(int64_t step, int64_t index) const = 0;

  /// Samples of all datasets together, each counted once: about one epoch.
  virtual int64_t samples() const = 0;

  /// Tokens of all datasets together.
  virtual int64_t tokens() const = 0;
};

}  // namespace trident
