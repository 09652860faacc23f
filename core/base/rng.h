// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
// A number is a pure function of (seed, step, purpose, index), so that no grid, order or restart can change it.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace trident {

/// Names one independent sequence of random numbers; the index within it comes with each call.
struct RandomKey {
  uint64_t seed = 0;
  uint32_t step = 0;     ///< training step; 0 for weights and data order
  uint32_t purpose = 0;  ///< what for: from `random_purpose`
};

/// A stable 32-bit id of a purpose ("layers.3.attn.dropout", "embed.token.weight"): FNV-1a of the text.
constexpr uint32_t random_purpose(std::string_view text) {
  uint32_t h = 2166136261u;
  for (const char c : text) h = (h ^ static_cast<uint8_t>(c)) * 16777619u;
  return h;
}

/// The four 32-bit words of counter block `block`. inline: it sits in the dropout kernels' inner loop.
constexpr std::array<uint32_t, 4> philox(const RandomKey& key, uint64_t block) {
  uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
  std::array<uint32_t, 4> c = {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), key.step, key.purpose};
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c[0], p1 = uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

/// Word number `index` of the sequence: word index % 4 of block index / 4.
constexpr uint32_t random_u32(const RandomKey& key, uint64_t index) { return philox(key, index / 4)[index % 4]; }

/// Uniform in [0, 1) with 24 bits, from one word.
constexpr float uniform01(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

/// Standard normal number `index` (Box-Muller on the words 2*(index%2), 2*(index%2)+1 of block index / 2).
float random_normal(const RandomKey& key, uint64_t index);

}  // namespace trident
