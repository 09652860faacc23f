// trident: the binary. Parses the command line, runs one subcommand, and is the one place that turns exceptions into
// messages and exit codes: 0 done; 1 the user's mistake; 2 a fault at run time; 75 stopped on request, start again.
#include <malloc.h>

#include <CLI/CLI.hpp>

#include <cstdio>
#include <string>
#include <vector>

#include "apps/commands.h"
#include "apps/launch.h"
#include "core/config/text.h"

namespace {

// CLI11 asks for what is missing before it names what it does not know, which is nearly always why something is
// missing. Prints that, and returns whether there was any.
bool name_unknown_argument(const CLI::App& app) {
  const std::vector<std::string> unknown = app.remaining(true);
  if (unknown.empty()) return false;
  const CLI::App* command = &app;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
  std::vector<std::string> names;
  for (const CLI::App* sub : command->get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(sub->get_name());
  }
  const auto nearest = trident::nearest_name(unknown.front(), names);
  std::string path = "trident";
  if (command != &app) path += " " + command->get_name();
  std::fprintf(stderr, "%s: unknown argument %s%s\nRun with --help for more information.\n", path.c_str(),
               unknown.front().c_str(), nearest ? ("; did you mean " + *nearest + "?").c_str() : "");
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  // glibc learns to keep large blocks that were freed; what the plan says a process takes would then not be so.
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  CLI::App app{
      "Trident trains large transformers on a pipeline x tensor x data grid of ranks.\n"
      "Exit codes: 0 done, 1 a mistake in config, data or arguments, 2 a fault at run time, 75 stopped on request "
      "after a checkpoint (start again to go on)."};
  app.require_subcommand(1);
  app.set_version_flag("--version", TRIDENT_VERSION);
  int exit_code = 0;
  trident::add_train_command(app, exit_code);
  trident::add_plan_command(app);
  trident::add_verify_command(app, exit_code);
  trident::add_eval_command(app, exit_code);
  trident::add_generate_command(app, exit_code);
  trident::add_data_command(app);
  trident::add_ckpt_command(app);
  trident::add_bench_command(app);
  trident::add_doctor_command(app, exit_code);
  trident::add_explain_command(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::RequiredError& e) {
    if (!name_unknown_argument(app)) app.exit(e);
    return 1;
  } catch (const CLI::ParseError& e) {
    // CLI11 prints help and version with code 0; a wrong argument is the user's mistake.
    return app.exit(e) == 0 ? 0 : 1;
  } catch (const std::exception&) {
    return trident::report_exception();
  }
  return exit_code;
}
