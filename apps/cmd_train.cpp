#include <memory>

#include "apps/arguments.h"
#include "apps/commands.h"
#include "core/base/error.h"
#include "core/run/signals.h"
#include "core/run/trainer.h"

namespace trident {

void add_train_command(CLI::App& app, int& exit_code) {
  struct Options {
    ConfigArguments config;
    TrainOptions train;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("train", "Train; under mpirun on as many ranks as the config's grid has");
  add_config_arguments(*command, options->config);
  command
      ->add_option(
          "--resume", options->train.resume,
          "auto: the newest valid checkpoint of the run, else from the start; none: from the start, and refuse "
          "a directory that holds a run; or the path of a checkpoint")
      ->capture_default_str();
  command->callback([options, &exit_code] {
    watch_stop_signals();
    exit_code = with_world(options->config, [&](const Config& config, World& world) {
      if (config.data.train.empty()) {
        throw UserError("data.train: there is nothing to train on; add `train: [{path: PREFIX}]` under data");
      }
      return train(config, world, options->train);
    });
  });
}

}  // namespace trident
