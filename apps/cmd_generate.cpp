#include <cstdio>
#include <memory>

#include "apps/arguments.h"
#include "apps/commands.h"
#include "core/base/log.h"
#include "core/run/generate.h"
#include "core/run/locate.h"
#include "core/run/memory_check.h"

namespace trident {
namespace {

struct Options {
  ConfigArguments config;
  std::string checkpoint;
  std::vector<std::string> prompts = {""};
  int samples = 1;
  GenerateOptions generate;
};

int run_generate(const Options& options, const Config& config, World& world) {
  const auto tokenizer = make_tokenizer(enum_name(config.data.tokenizer.kind));
  check_sampling(options.generate.sampling);
  Run run(with_settled_recompute(config, world), world);
  const std::string checkpoint = locate_checkpoint(run, named_checkpoint(options.config, options.checkpoint));
  run.load(checkpoint);
  std::vector<std::string> prompts;
  for (const std::string& prompt : options.prompts)
    prompts.insert(prompts.end(), static_cast<size_t>(options.samples), prompt);
  const std::vector<std::string> texts = generate(run, *tokenizer, prompts, options.generate);
  if (world.rank() != 0) return 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    std::printf("--- sample %zu of %zu\n%s\n", i + 1, texts.size(), texts[i].c_str());
  }
  return 0;
}

}  // namespace

void add_generate_command(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("generate", "Continue prompts with a trained model, on any grid");
  add_config_arguments(*command, options->config);
  SamplingOptions& sampling = options->generate.sampling;
  command->add_option("--checkpoint", options->checkpoint,
                      "A checkpoint or a directory of them (default: the run's newest)");
  command->add_option("--prompt", options->prompts, "Text to continue (repeatable; default: start of a document)")
      ->allow_extra_args(false);
  command->add_option("--samples", options->samples, "Texts per prompt")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--max-tokens", options->generate.max_tokens, "New tokens per text")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--temperature", sampling.temperature, "0 is greedy")->capture_default_str();
  command->add_option("--top-k", sampling.top_k, "Choose among the k likeliest; 0 = all")->capture_default_str();
  command->add_option("--top-p", sampling.top_p, "Choose among the likeliest that make up this probability")
      ->capture_default_str();
  command->add_option("--seed", sampling.seed, "Of the choices")->capture_default_str();
  command->callback([options, &exit_code] {
    exit_code = with_world(options->config,
                           [&](const Config& config, World& world) { return run_generate(*options, config, world); });
  });
}

}  // namespace trident
