// Whether a job's memory will do, asked by all ranks together before one of them allocates anything: each plans itself,
// and they compare what they want with what their devices and hosts have.
#pragma once

#include <string>

#include "core/comm/grid.h"
#include "core/config/config.h"
#include "core/plan/fit.h"
#include "core/plan/limits.h"

namespace trident {

/// The limit of this rank's device: memory.device_limit, and on a real GPU what is free on it (of which CUDA's
/// libraries take a part that no plan knows).
std::optional<Limit> device_limit(const Config&, const World&);

class MemoryCheck {
 public:
  /// Collective, like everything here: ranks must ask the same questions in the same order. The world outlives it.
  MemoryCheck(const Config&, World&, const HostFacts& = {});

  /// settle_recompute and check_fit (core/plan/fit.h); every rank throws the same UserError.
  std::string settle_recompute(Config&);
  Fit check(const Config&);

 private:
  Fit fit_together(const Config&);

  World& world_;
  std::unique_ptr<Communicator> all_;
  std::vector<RankPlace> places_;
};

/// The config with train.recompute decided, for those who only build a Run. What was chosen is logged. Collective.
Config with_settled_recompute(const Config&, World&);

}  // namespace trident
