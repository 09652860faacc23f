#include "core/run/run_directory.h"

#include <filesystem>
#include <fstream>

#include "core/base/error.h"
#include "core/checkpoint/directory.h"
#include "core/config/dump.h"

namespace trident {

bool holds_a_run(const RunDirectory& dir) {
  std::error_code ignored;
  return std::filesystem::exists(dir.file("metrics.jsonl"), ignored) || !find_checkpoints(dir.checkpoints()).empty();
}

void write_config(const RunDirectory& dir, const Config& config) {
  make_directories(dir.path);
  const std::string target = dir.file("config.yaml"), temporary = dir.file(".config.yaml.tmp");
  std::ofstream out(temporary);
  out << dump_config(config);
  out.close();
  if (!out) throw RunError(build_string("cannot write ", temporary, ": is the disk full?"));
  std::filesystem::rename(temporary, target);
}

}  // namespace trident
