// trident ckpt ls|verify|diff: what checkpoints there are, whether they are whole, and how two of them differ.
#include <sys/stat.h>

#include <cstdio>
#include <ctime>
#include <memory>
#include <string>

#include "apps/commands.h"
#include "core/base/error.h"
#include "core/base/format.h"
#include "core/checkpoint/store.h"

namespace trident {

namespace {

/// The checkpoints in a directory of them or in a run's; empty for any other path.
std::vector<CheckpointPath> checkpoints_in(const std::string& path) {
  std::vector<CheckpointPath> found = find_checkpoints(path);
  return found.empty() ? find_checkpoints(path + "/checkpoints") : found;
}

std::string age_of(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return "?";
  return format_duration(std::difftime(std::time(nullptr), info.st_mtime));
}

void list(const std::string& root) {
  const std::vector<CheckpointPath> found = checkpoints_in(root);
  if (found.empty()) {
    throw UserError(build_string(root, " holds no checkpoints (step-* in it or in its `checkpoints` directory)"));
  }
  std::printf("%10s  %-5s  %10s  %5s  %7s  %s\n", "step", "valid", "size", "ranks", "age", "path");
  for (const CheckpointPath& checkpoint : found) {
    const std::vector<std::string> problems = check_structure(checkpoint.path);
    std::string size = "?", ranks = "?";
    if (problems.empty()) {
      const Manifest manifest = read_manifest(checkpoint.path);
      size = format_bytes(static_cast<int64_t>(manifest.bytes()));
      ranks = std::to_string(manifest.meta.ranks);
    }
    std::printf("%10lld  %-5s  %10s  %5s  %7s  %s\n", static_cast<long long>(checkpoint.step),
                problems.empty() ? "yes" : "no", size.c_str(), ranks.c_str(), age_of(checkpoint.path).c_str(),
                checkpoint.path.c_str());
    for (const std::string& problem : problems) std::printf("%10s  %s\n", "", problem.c_str());
  }
  std::printf("`valid` is the manifest and the files' sizes; `trident ckpt verify` reads every byte.\n");
}

void verify(const std::string& path) {
  std::vector<CheckpointPath> checkpoints = checkpoints_in(path);
  if (checkpoints.empty()) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) throw UserError(build_string("there is no checkpoint at ", path));
    checkpoints.push_back({0, path});
  }
  std::string broken;
  for (const CheckpointPath& checkpoint : checkpoints) {
    const std::vector<std::string> problems = verify_checkpoint(checkpoint.path);
    if (problems.empty()) std::printf("%s: every byte is as it was written\n", checkpoint.path.c_str());
    for (const std::string& problem : problems) broken += build_string("\n  ", checkpoint.path, ": ", problem);
  }
  std::fflush(stdout);
  if (!broken.empty()) throw UserError("damaged; resume from another checkpoint:" + broken);
}

void diff(const std::string& a, const std::string& b) {
  const std::string path_a = resolve_checkpoint(a), path_b = resolve_checkpoint(b);
  const std::vector<TensorDifference> differences = diff_checkpoints(path_a, path_b);
  for (const TensorDifference& found : differences) {
    switch (found.kind) {
      case DifferenceKind::only_in_a:
        std::printf("%s: only in %s, %s\n", found.tensor.c_str(), path_a.c_str(), found.detail.c_str());
        break;
      case DifferenceKind::only_in_b:
        std::printf("%s: only in %s, %s\n", found.tensor.c_str(), path_b.c_str(), found.detail.c_str());
        break;
      case DifferenceKind::shape: std::printf("%s: %s\n", found.tensor.c_str(), found.detail.c_str()); break;
      case DifferenceKind::values:
        std::printf("%s: max abs %s, max rel %s, %s\n", found.tensor.c_str(), format_scientific(found.max_abs).c_str(),
                    format_scientific(found.max_rel).c_str(), found.detail.c_str());
        break;
    }
  }
  std::printf("%zu tensors differ\n", differences.size());
}

}  // namespace

void add_ckpt_command(CLI::App& app) {
  CLI::App* ckpt = app.add_subcommand("ckpt", "List, verify, compare, import and export checkpoints");
  ckpt->require_subcommand(1);

  // The callbacks run after this function has returned, so they share the arguments' ownership.
  const auto a = std::make_shared<std::string>(), b = std::make_shared<std::string>();
  CLI::App* ls = ckpt->add_subcommand("ls", "The checkpoints of a run, newest first: step, valid, size, ranks, age");
  ls->add_option("ROOT", *a, "A run directory or its `checkpoints`")->required();
  ls->callback([a] { list(*a); });

  CLI::App* check = ckpt->add_subcommand("verify", "Read every byte against its checksum; exit 1 naming all damage");
  check->add_option("PATH", *a, "A checkpoint, or a directory of them")->required();
  check->callback([a] { verify(*a); });

  CLI::App* compare = ckpt->add_subcommand("diff", "Per tensor: largest absolute and relative difference");
  compare->add_option("A", *a, "A checkpoint, or a run (its newest)")->required();
  compare->add_option("B", *b, "The other")->required();
  compare->callback([a, b] { diff(*a, *b); });

  add_ckpt_hf_commands(*ckpt);
}

}  // namespace trident
