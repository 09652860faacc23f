#include <cstdio>
#include <memory>
#include <string>

#include "apps/commands.h"
#include "core/config/explain.h"
#include "core/plan/support_matrix.h"

namespace trident {

void add_explain_command(CLI::App& app) {
  auto key = std::make_shared<std::string>();
  auto markdown = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand(
      "explain", "What a config key means: type, default, legal values, effect; support: what was tested together");
  command->add_option("KEY", *key, "A key (train.global_batch), a section (train), or nothing for the sections");
  command->add_flag("--markdown", *markdown, "The reference of all keys as Markdown");
  command->callback([key, markdown] {
    const std::string text = *markdown           ? config_reference_markdown()
                             : *key == "support" ? std::string(support_matrix())
                                                 : explain(*key);
    std::fputs(text.c_str(), stdout);
    if (text.empty() || text.back() != '\n') std::fputc('\n', stdout);
  });
}

}  // namespace trident
