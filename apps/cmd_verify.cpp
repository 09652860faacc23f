#include <cstdio>
#include <memory>

#include "apps/arguments.h"
#include "apps/commands.h"
#include "core/run/verify.h"

namespace trident {
namespace {

int print(const VerifyReport& report) {
  std::printf("%6s  %14s  %14s  %12s  %12s  %10s  %s\n", "step", "loss", "one rank", "norm", "one rank", "worst grad",
              "of");
  for (const VerifyStep& s : report.steps) {
    std::printf("%6lld  %14.8f  %14.8f  %12.6f  %12.6f  %10.2e  %s\n", static_cast<long long>(s.step), s.loss,
                s.loss_reference, s.norm, s.norm_reference, s.worst.relative, s.worst.tensor.c_str());
  }
  std::printf("bounds: loss %.2e, gradients %.2e (relative)\n", report.loss_bound, report.gradient_bound);
  if (report.first_difference.empty()) {
    std::puts("agrees with one rank");
    return 0;
  }
  std::printf("DIFFERS at %s\n", report.first_difference.c_str());
  return 2;
}

}  // namespace

void add_verify_command(CLI::App& app, int& exit_code) {
  struct Options {
    ConfigArguments config;
    int64_t steps = 3;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("verify", "The config's grid against one rank: loss, norm and every gradient");
  add_config_arguments(*command, options->config);
  command->add_option("--steps", options->steps, "Training steps to compare")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->callback([options, &exit_code] {
    exit_code = with_world(options->config, [&](const Config& config, World& world) {
      const VerifyReport report = verify(config, world, options->steps);
      const int code = world.rank() == 0 ? print(report) : 0;
      std::fflush(stdout);
      return code;
    });
  });
}

}  // namespace trident
