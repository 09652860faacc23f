// The table of the ZeRO paper (Rajbhandari et al., arXiv 1910.02054, figure 1 and table 1): what a device holds of a
// model's state, by stage and number of data ranks, for the paper's models and for one's own.
#pragma once

#include <cstdint>
#include <string>

#include "core/config/config.h"

namespace trident {

/// Bytes of weights, gradients and optimizer state a device holds by the paper's formulas: mixed-precision Adam, with 2
/// bytes a parameter of weights, 2 of gradients and 12 of optimizer state. Stage 1, 2 or 3.
double paper_state_bytes(double parameters, int stage, int64_t ranks);

/// What this program allocates for the same on one device when a model runs on `ranks` data ranks alone (no pipeline,
/// no tensor axis), by a dry plan.
struct StateBytes {
  int64_t states = 0;  ///< weights, gradients, master weights, moments
  int64_t in_use = 0;  ///< full-size buffers in which layers take turns, from stage 2 on
};
StateBytes allocated_state_bytes(const Config&, int stage, int ranks);

/// GB (1e9 bytes) as the paper prints them: two decimals below 10, one below 100, above that whole numbers, cut; no
/// zeros at the end. Below 0.1, which the paper does not have, four decimals.
std::string paper_gigabytes(double bytes);

/// The table for 7.5B, 128B and 1T parameters.
std::string paper_zero_table();
/// The table for a config's model: by the paper's formulas, and as this program allocates.
std::string zero_table(const Config&);

}  // namespace trident
