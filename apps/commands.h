// The subcommands of the binary: one add_*_command and one cmd_*.cpp each. A command's callback does the work and
// throws UserError or RunError; main.cpp catches.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace trident {

/// Commands that run on ranks return their exit code through `exit_code`.
void add_train_command(CLI::App& app, int& exit_code);
void add_verify_command(CLI::App& app, int& exit_code);
void add_eval_command(CLI::App& app, int& exit_code);
void add_generate_command(CLI::App& app, int& exit_code);

void add_plan_command(CLI::App& app);
/// Exit code 1 when it finds a problem.
void add_doctor_command(CLI::App& app, int& exit_code);
void add_explain_command(CLI::App& app);
/// bench [ops | adamw | attention | disk DIRECTORY | comm]
void add_bench_command(CLI::App& app);

/// ckpt ls|verify|diff|import|export
void add_ckpt_command(CLI::App& app);
/// Its import and export, which speak HuggingFace. `ckpt` is the ckpt subcommand.
void add_ckpt_hf_commands(CLI::App& ckpt);

/// data prepare|info
void add_data_command(CLI::App& app);

}  // namespace trident
