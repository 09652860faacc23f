#include <cmath>
#include <cstdio>
#include <memory>

#include "apps/arguments.h"
#include "apps/commands.h"
#include "core/run/locate.h"
#include "core/run/memory_check.h"

namespace trident {

void add_eval_command(CLI::App& app, int& exit_code) {
  struct Options {
    ConfigArguments config;
    std::string checkpoint;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("eval", "Validation loss and perplexity of a checkpoint on data.valid, on any grid");
  add_config_arguments(*command, options->config);
  command->add_option("--checkpoint", options->checkpoint,
                      "A checkpoint or a directory of them (default: the run's newest)");
  command->callback([options, &exit_code] {
    exit_code = with_world(options->config, [&](const Config& config, World& world) {
      Run run(with_settled_recompute(config, world), world);
      const std::string checkpoint = locate_checkpoint(run, named_checkpoint(options->config, options->checkpoint));
      run.load(checkpoint);
      const double loss = run.evaluate();
      if (world.rank() == 0) {
        std::printf(
            "%s: valid loss %.6f, perplexity %.4f, %lld tokens\n", checkpoint.c_str(), loss, std::exp(loss),
            static_cast<long long>(config.data.eval_batches * config.train.global_batch * config.model.context));
      }
      return 0;
    });
  });
}

}  // namespace trident
