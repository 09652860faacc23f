#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "apps/commands.h"
#include "core/run/doctor.h"

namespace trident {

void add_doctor_command(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("doctor", "What this machine has for a run, what is wrong, and how to put it right");
  command->callback([&exit_code] {
    const std::vector<Finding> findings = examine_machine();
    std::fputs(describe(findings).c_str(), stdout);
    const bool ill = std::any_of(findings.begin(), findings.end(),
                                 [](const Finding& f) { return f.state == Finding::State::problem; });
    exit_code = ill ? 1 : 0;
  });
}

}  // namespace trident
