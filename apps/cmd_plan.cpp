#include <cstdio>
#include <memory>

#include "apps/arguments.h"
#include "apps/commands.h"
#include "core/plan/plan.h"

namespace trident {

void add_plan_command(CLI::App& app) {
  struct Options {
    ConfigArguments config;
    int ranks = 0;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("plan", "Memory of every rank, without a device, MPI or the memory itself");
  add_config_arguments(*command, options->config);
  command->add_option("--gpus", options->ranks, "Ranks of the job (0: what the grid needs, data parallel 1 when auto)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->callback([options] {
    const Config config = load_experiment(options->config, options->ranks);
    const std::unique_ptr<Ops> ops = planning_ops(config);
    const std::string text = describe(make_plan(config, *ops), config);
    std::fputs(text.c_str(), stdout);
  });
}

}  // namespace trident
