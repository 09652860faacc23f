#include "core/checkpoint/directory.h"

#include <fcntl.h>
#include <stdio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/checkpoint/posix_file.h"

namespace trident {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kTemporary = ".tmp-";
constexpr std::string_view kPrefix = "step-";

[[noreturn]] void fail_renaming(const std::string& from, const std::string& to) {
  throw RunError(build_string("cannot rename ", from, " to ", to, ": ", std::strerror(errno)));
}

/// Removes a directory under a temporary name, so that a kill on the way leaves no half checkpoint.
void remove_checkpoint(const std::string& root, const CheckpointPath& checkpoint) {
  const std::string doomed = build_string(root, "/", kTemporary, "remove-", checkpoint_name(checkpoint.step));
  std::error_code failed;
  fs::rename(checkpoint.path, doomed, failed);
  if (!failed) fs::remove_all(doomed, failed);
  if (failed) log::warn(build_string("cannot remove the old checkpoint ", checkpoint.path, ": ", failed.message()));
}

}  // namespace

std::string checkpoint_name(int64_t step) {
  const std::string digits = std::to_string(step);
  return build_string(kPrefix, std::string(digits.size() < 8 ? 8 - digits.size() : 0, '0'), digits);
}

std::string temporary_path(const std::string& root, int64_t step) {
  return build_string(root, "/", kTemporary, checkpoint_name(step));
}

std::vector<CheckpointPath> find_checkpoints(const std::string& root) {
  std::vector<CheckpointPath> found;
  std::error_code failed;
  for (fs::directory_iterator at(root, failed), end; !failed && at != end; at.increment(failed)) {
    const std::string name = at->path().filename().string();
    if (!name.starts_with(kPrefix) || name.size() > kPrefix.size() + 18) continue;
    const std::string digits = name.substr(kPrefix.size());
    if (digits.empty() || digits.find_first_not_of("0123456789") != std::string::npos) continue;
    const int64_t step = std::stoll(digits);
    if (checkpoint_name(step) == name) found.push_back({step, build_string(root, "/", name)});
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.step > b.step; });
  return found;
}

void make_directories(const std::string& path) {
  std::error_code failed;
  fs::create_directories(path, failed);
  if (failed) throw RunError(build_string("cannot create the directory ", path, ": ", failed.message()));
}

void remove_temporaries(const std::string& root) {
  std::error_code failed;
  std::vector<fs::path> stale;
  for (fs::directory_iterator at(root, failed), end; !failed && at != end; at.increment(failed)) {
    if (at->path().filename().string().starts_with(kTemporary)) stale.push_back(at->path());
  }
  for (const fs::path& path : stale) {
    std::error_code refused;
    fs::remove_all(path, refused);
    if (refused) log::warn(build_string("cannot remove the stale ", path.string(), ": ", refused.message()));
  }
}

std::string commit_directory(const std::string& root, int64_t step) {
  const std::string from = temporary_path(root, step);
  const std::string to = build_string(root, "/", checkpoint_name(step));
  sync_directory(from);
  if (::rename(from.c_str(), to.c_str()) != 0) {
    if (errno != ENOTEMPTY && errno != EEXIST) fail_renaming(from, to);
    // A checkpoint of this step is there (a run that went back): the two change places and the old one goes.
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) != 0) {
      const std::string aside = build_string(root, "/", kTemporary, "replaced-", checkpoint_name(step));
      if (::rename(to.c_str(), aside.c_str()) != 0) fail_renaming(to, aside);
      if (::rename(from.c_str(), to.c_str()) != 0) fail_renaming(from, to);
    }
    sync_directory(root);
    remove_temporaries(root);
  }
  sync_directory(root);
  try {
    write_text_atomically(root + "/latest", checkpoint_name(step) + "\n");
  } catch (const RunError& error) {
    log::warn(build_string("the checkpoint ", to, " is saved, but ", error.what()));
  }
  return to;
}

void prune_checkpoints(const std::string& root, int64_t step, int keep,
                       const std::function<bool(const std::string& path)>& complete) {
  int kept = 1;
  for (const CheckpointPath& checkpoint : find_checkpoints(root)) {
    if (checkpoint.step >= step) continue;
    if (kept >= keep) {
      remove_checkpoint(root, checkpoint);
    } else if (complete(checkpoint.path)) {
      ++kept;
    }
  }
}

}  // namespace trident
