#include "core/data/sampler.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>

#include "core/base/error.h"
#include "core/base/rng.h"

namespace trident {
namespace {

// Twice the four rounds that make a Feistel network a strong pseudorandom permutation (Luby and Rackoff), because the
// halves of a small dataset are only a few bits wide.
constexpr uint64_t kRounds = 8;
constexpr uint32_t kPurpose = random_purpose("data.order");

}  // namespace

Permutation::Permutation(uint64_t size, uint64_t key) : size_(size), key_(key) {
  ensure(size >= 1 && size <= uint64_t{1} << 63, "a permutation of 1 to 2^63 numbers");
  const int bits = std::max(1, static_cast<int>(std::bit_width(size - 1)));
  high_bits_ = bits / 2;
  low_bits_ = bits - high_bits_;
}

uint64_t Permutation::encipher(uint64_t value) const {
  const uint64_t low_mask = (uint64_t{1} << low_bits_) - 1, high_mask = (uint64_t{1} << high_bits_) - 1;
  uint64_t low = value & low_mask, high = value >> low_bits_;
  // Halves of unequal width: each in turn is xored with a function of the other, which undoes itself.
  for (uint64_t round = 0; round < kRounds; round += 2) {
    const auto from_low = philox({key_, 0, kPurpose}, (round << 32) | low);
    high ^= (uint64_t{from_low[0]}) & high_mask;
    const auto from_high = philox({key_, 0, kPurpose}, ((round + 1) << 32) | high);
    low ^= (uint64_t{from_high[0]}) & low_mask;
  }
  return (high << low_bits_) | low;
}

uint64_t Permutation::operator()(uint64_t index) const {
  ensure(index < size_, "index within the permutation");
  // The walk ends: it moves along a cycle of a bijection and started inside the range.
  do {
    index = encipher(index);
  } while (index >= size_);
  return index;
}

SampleOrder::SampleOrder(int64_t tokens, int64_t context, uint64_t seed, uint64_t fingerprint)
    : context_(context), samples_(count(tokens, context)), seed_(seed), fingerprint_(fingerprint) {
  ensure(samples_ >= 1, "a dataset of at least one sample");
}

int64_t SampleOrder::first_token(int64_t number) const {
  ensure(number >= 0, "sample numbers count from 0");
  const uint64_t epoch = static_cast<uint64_t>(number / samples_);
  const uint64_t named[] = {seed_, fingerprint_, epoch};
  const Permutation order(static_cast<uint64_t>(samples_), XXH64(named, sizeof named, 0));
  return static_cast<int64_t>(order(static_cast<uint64_t>(number % samples_))) * context_;
}

int64_t SampleOrder::count(int64_t tokens, int64_t context) {
  ensure(context >= 1, "a context of at least one token");
  return std::max<int64_t>(0, tokens - 1) / context;
}

}  // namespace trident
