// Where a step stopped being finite: it runs again under an Inspector, and the ranks agree on what came first.
#pragma once

#include "core/comm/grid.h"
#include "core/data/batch.h"
#include "core/train/engine.h"
#include "core/train/policy.h"

namespace trident {

/// Fills in what describes the place in `bad`, whose numbers are known. Runs global batch `step` (from 0) again, with
/// micro-batches of `micro_batch` sequences; the gradients it leaves are of no use. Collective over the grid's world,
/// the same answer on every rank.
BadStep find_bad_tensor(BadStep bad, Engine&, Device&, Grid&, const DataSource&, int64_t step, int64_t micro_batch);

}  // namespace trident
