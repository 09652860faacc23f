// What the commands that compute share: MPI, the config, threads.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/comm/grid.h"
#include "core/config/config.h"

namespace trident {

/// The arguments that name an experiment.
struct ConfigArguments {
  std::string path;                    ///< a YAML file, or a checkpoint (its own config is used)
  std::vector<std::string> overrides;  ///< --set key=value
};

/// Loads the config for `ranks` ranks (0: any). A checkpoint directory yields the config it was written with, laid out
/// for the ranks at hand.
Config load_experiment(const ConfigArguments&, int ranks);

/// The checkpoint a reading command was given: --checkpoint, else CONFIG when that is one, else "" (the run's newest).
std::string named_checkpoint(const ConfigArguments&, const std::string& option);

/// Starts MPI, loads the config for its ranks, places threads, runs `body` and returns its exit code. What `body`
/// throws on one rank ends the whole job, with the message and exit code that main would give it.
int with_world(const ConfigArguments&, const std::function<int(const Config&, World&)>& body);

/// Prints "trident: MESSAGE" for the exception in flight and returns its exit code (see core/base/error.h).
int report_exception();

}  // namespace trident
