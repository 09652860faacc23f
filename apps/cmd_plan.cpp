#include <cstdio>
#include <memory>

#include "apps/arguments.h"
#include "apps/commands.h"
#include "core/plan/fit.h"
#include "core/plan/limits.h"
#include "core/plan/plan.h"
#include "core/plan/zero_table.h"

namespace trident {
namespace {

/// The plan, and whether it fits the devices' limit and, as if its hosts were like this one, their memory. Which ranks
/// share a host must be known for settings to be tried on its account.
void print_plan(Config config, int ranks_per_host) {
  const int ranks = config.parallel.ranks();
  const std::optional<Limit> device = device_limit(config);
  std::optional<Limit> host = host_limit();
  if (host) host->source += ", this machine";
  const std::unique_ptr<Ops> ops = planning_ops(config);
  const auto fitting = [&](const std::vector<RankPlace>& places) -> Fitting {
    return [&ops, places](const Config& c) { return fit(needs_of(make_plan(c, *ops), c), places); };
  };
  const std::vector<RankPlace> places = uniform_places(ranks, ranks_per_host, device, host);
  const std::string chosen = settle_recompute(config, fitting(places));
  const Plan plan = make_plan(config, *ops);
  const std::vector<RankNeed> needs = needs_of(plan, config);
  std::string text = describe(plan, config) + "\n";
  if (!chosen.empty()) text += chosen + "\n";
  text += describe_hosts(needs, config.device, ranks_per_host);
  if (!device) text += "device memory: no limit is known; memory.device_limit sets one\n";
  for (const std::string& line : lines_of(fit(needs, places))) text += line + "\n";
  const bool hosts_known = ranks_per_host > 0 || ranks == 1;
  const auto tried = uniform_places(ranks, ranks_per_host, device, hosts_known ? host : std::nullopt);
  if (const Fit found = fit(needs, tried); !found.fits()) text += advice(config, found, fitting(tried)) + "\n";
  std::fputs(text.c_str(), stdout);
}

}  // namespace

void add_plan_command(CLI::App& app) {
  struct Options {
    ConfigArguments config;
    int ranks = 0, ranks_per_host = 0;
    bool zero_table = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("plan", "Memory of every rank, without a device, MPI or the memory itself");
  CLI::Option* config = add_config_arguments(*command, options->config)->required(false);
  command->add_option("--gpus", options->ranks, "Ranks of the job (0: what the grid needs, data parallel 1 when auto)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option("--ranks-per-host", options->ranks_per_host,
                   "Ranks that share a host's memory (0: one host has all of them)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_flag("--zero-table", options->zero_table,
                    "Instead: the ZeRO paper's table of model states by stage and data ranks, and CONFIG's if given");
  command->callback([options, config] {
    if (options->zero_table) {
      std::fputs(paper_zero_table().c_str(), stdout);
      if (config->count() > 0) {
        std::printf("\n%s", zero_table(load_experiment(options->config, options->ranks)).c_str());
      }
      return;
    }
    if (config->count() == 0) throw CLI::RequiredError("CONFIG");
    print_plan(load_experiment(options->config, options->ranks), options->ranks_per_host);
  });
}

}  // namespace trident
