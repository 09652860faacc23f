// Options that several commands share.
#pragma once

#include <CLI/CLI.hpp>

#include "apps/launch.h"

namespace trident {

/// Adds CONFIG and --set; returns CONFIG, which is required.
inline CLI::Option* add_config_arguments(CLI::App& command, ConfigArguments& arguments) {
  CLI::Option* config =
      command.add_option("CONFIG", arguments.path, "The experiment: a YAML file, or a checkpoint (its own config)")
          ->required();
  command.add_option("--set", arguments.overrides, "Override a key: --set model.layers=4 (repeatable)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  return config;
}

}  // namespace trident
