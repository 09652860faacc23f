#include <cstdio>
#include <memory>

#include "apps/arguments.h"
#include "apps/commands.h"
#include "core/plan/plan.h"

namespace trident {

void add_plan_command(CLI::App& app) {
  struct Options {
    ConfigArguments config;
    int ranks = 0, ranks_per_host = 0;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("plan", "Memory of every rank, without a device, MPI or the memory itself");
  add_config_arguments(*command, options->config);
  command->add_option("--gpus", options->ranks, "Ranks of the job (0: what the grid needs, data parallel 1 when auto)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option("--ranks-per-host", options->ranks_per_host,
                   "Ranks that share a host's memory (0: one host has all of them)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->callback([options] {
    const Config config = load_experiment(options->config, options->ranks);
    const std::unique_ptr<Ops> ops = planning_ops(config);
    const Plan plan = make_plan(config, *ops);
    const std::string text =
        describe(plan, config) + "\n" + describe_hosts(needs_of(plan, config), config.device, options->ranks_per_host);
    std::fputs(text.c_str(), stdout);
  });
}

}  // namespace trident
