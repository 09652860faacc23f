// A communicator that pretends to be rank `rank` of `size` and moves nothing: for dry runs.
#pragma once

#include <memory>
#include <string_view>

#include "core/comm/communicator.h"
#include "core/comm/grid.h"

namespace trident {

std::unique_ptr<Communicator> make_dry_communicator(std::string_view axis, int rank, int size);

/// The communicators that rank `rank` of the topology would have, all dry.
Grid make_dry_grid(const Topology&, int rank);

}  // namespace trident
