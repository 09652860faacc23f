// The subcommands of the binary: one add_*_command and one cmd_*.cpp each. A command's callback does the work and
// throws UserError or RunError; main.cpp catches.
#pragma once

#include <CLI/CLI.hpp>

namespace trident {

/// ckpt ls|verify|diff|import|export
void add_ckpt_command(CLI::App& app);

}  // namespace trident
