#include "core/checkpoint/directory.h"

#include "checkpoint/support.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::test;
namespace fs = std::filesystem;

namespace {

std::vector<int64_t> steps_in(const std::string& root) {
  std::vector<int64_t> steps;
  for (const CheckpointPath& found : find_checkpoints(root)) steps.push_back(found.step);
  return steps;
}

void make_fake(const std::string& path, const std::string& content) {
  fs::create_directories(path);
  spill(path + "/manifest.json", content);
}

}  // namespace

TEST_CASE("names of checkpoints sort and parse", "[directory]") {
  CHECK(checkpoint_name(200) == "step-00000200");
  CHECK(checkpoint_name(123456789) == "step-123456789");
  CHECK(temporary_path("r", 7) == "r/.tmp-step-00000007");
}

TEST_CASE("only true checkpoint names are found, newest first", "[directory]") {
  TempDir dir;
  CHECK(find_checkpoints(dir / "none").empty());
  for (const char* name : {"step-00000200", "step-00001000", "step-123456789", ".tmp-step-00000300", "step-300",
                           "step-", "step-0000020x", "step-99999999999999999999999", "latest", "step-00000200.bak"}) {
    fs::create_directories(dir / name);
  }
  CHECK(steps_in(dir.path()) == std::vector<int64_t>{123456789, 1000, 200});
  CHECK(find_checkpoints(dir.path())[2].path == dir / "step-00000200");
}

TEST_CASE("a commit renames, replaces the same step, and names the latest", "[directory]") {
  TempDir dir;
  make_fake(temporary_path(dir.path(), 5), "one");
  CHECK(commit_directory(dir.path(), 5) == dir / "step-00000005");
  CHECK(slurp(dir / "latest") == "step-00000005\n");
  make_fake(temporary_path(dir.path(), 5), "two");
  CHECK(commit_directory(dir.path(), 5) == dir / "step-00000005");
  CHECK(slurp(dir / "step-00000005/manifest.json") == "two");
  CHECK_FALSE(fs::exists(temporary_path(dir.path(), 5)));
  CHECK(contains(message_of<RunError>([&] { commit_directory(dir.path(), 6); }), ".tmp-step-00000006"));
}

TEST_CASE("a latest that cannot be written does not undo the commit", "[directory]") {
  TempDir dir;
  fs::create_directories(dir / "latest/in-the-way");
  make_fake(temporary_path(dir.path(), 5), "one");
  CHECK(commit_directory(dir.path(), 5) == dir / "step-00000005");
  CHECK(fs::exists(dir / "step-00000005/manifest.json"));
}

TEST_CASE("stale temporaries go, everything else stays", "[directory]") {
  TempDir dir;
  make_fake(temporary_path(dir.path(), 5), "half");
  spill(dir / ".tmp-latest", "x");
  make_fake(dir / "step-00000004", "good");
  remove_temporaries(dir.path());
  CHECK_FALSE(fs::exists(temporary_path(dir.path(), 5)));
  CHECK_FALSE(fs::exists(dir / ".tmp-latest"));
  CHECK(fs::exists(dir / "step-00000004/manifest.json"));
  remove_temporaries(dir / "none");  // nothing to do is no fault
}

TEST_CASE("pruning keeps the newest complete ones and never the last", "[directory]") {
  const auto prune = [](const std::vector<std::pair<int64_t, bool>>& before, int64_t step, int keep) {
    TempDir dir;
    for (const auto& [at, complete] : before) {
      make_fake(build_string(dir.path(), "/", checkpoint_name(at)), complete ? "good" : "bad");
    }
    prune_checkpoints(dir.path(), step, keep,
                      [](const std::string& path) { return slurp(path + "/manifest.json") == "good"; });
    return steps_in(dir.path());
  };
  using Steps = std::vector<int64_t>;
  CHECK(prune({{1, true}, {2, true}, {3, true}, {4, true}}, 4, 2) == Steps{4, 3});
  CHECK(prune({{1, true}, {2, true}}, 2, 3) == Steps{2, 1});
  CHECK(prune({{1, true}, {2, true}}, 2, 1) == Steps{2});
  CHECK(prune({{1, true}, {2, true}, {3, false}, {4, true}}, 4, 2) == Steps{4, 3, 2});  // broken ones do not count
  CHECK(prune({{0, false}, {1, true}, {2, true}, {3, true}}, 3, 2) == Steps{3, 2});     // and go at the end
  CHECK(prune({{1, true}, {2, true}, {3, true}, {9, true}}, 3, 2) == Steps{9, 3, 2});   // a later history stays
}
