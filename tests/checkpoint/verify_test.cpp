// No damage goes unseen: every file, many offsets; and resume falls back to the newest checkpoint that is whole.
#include "core/checkpoint/verify.h"

#include "checkpoint/support.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::test;
namespace fs = std::filesystem;

namespace {

/// pick_newest_valid on two ranks, which must agree.
Resume pick(const std::string& root, bool deep = true) {
  std::vector<Resume> found(2);
  const auto errors = ThreadGroup(2).run(
      [&](Communicator& world) { found[static_cast<size_t>(world.rank())] = pick_newest_valid(root, world, deep); });
  CHECK(errors == std::vector<std::string>(2));
  CHECK(found[0].path == found[1].path);
  CHECK(found[0].step == found[1].step);
  REQUIRE(found[0].skipped.size() == found[1].skipped.size());
  for (size_t i = 0; i < found[0].skipped.size(); ++i) {
    CHECK(found[0].skipped[i].path == found[1].skipped[i].path);
    CHECK(found[0].skipped[i].reason == found[1].skipped[i].reason);
  }
  return found[0];
}

std::vector<std::string> files_of(const std::string& path) {
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(path)) files.push_back(entry.path().string());
  return files;
}

/// Two checkpoints, the newer of which a test damages.
struct Pair {
  TempDir dir{Medium::memory};
  std::string older = save(dir.path(), 100, sample_tensors(1), {0, 2, 1});
  std::string newer = save(dir.path(), 200, sample_tensors(2), {1, 2, 2});

  void check_fallback(const std::string& reason) {
    const Resume found = pick(dir.path());
    CHECK(found.path == older);
    CHECK(found.step == 100);
    REQUIRE(found.skipped.size() == 1);
    CHECK(found.skipped[0].path == newer);
    INFO(found.skipped[0].reason);
    CHECK(contains(found.skipped[0].reason, reason));
  }
};

}  // namespace

TEST_CASE("a flipped byte anywhere in any file is found and resume falls back", "[verify]") {
  Pair two;
  REQUIRE(files_of(two.newer).size() == 5);
  for (const std::string& file : files_of(two.newer)) {
    const std::string good = slurp(file);
    for (size_t at = 0; at < good.size(); ++at) {
      // Every byte of header and data once, with a bit that wanders; the slower resume at every 97th.
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << (at % 8)));
      spill(file, bad);
      const auto problems = verify_checkpoint(two.newer);
      INFO(file << " byte " << at);
      REQUIRE(problems.size() == 1);
      REQUIRE(contains(problems[0], fs::path(file).filename().string()));
      if (at % 97 == 0) two.check_fallback(fs::path(file).filename().string());
    }
    spill(file, good);
  }
  CHECK(verify_checkpoint(two.newer).empty());
  const Resume found = pick(two.dir.path());
  CHECK(found.path == two.newer);
  CHECK(found.skipped.empty());
}

TEST_CASE("truncated, longer, empty and missing files are found, shallow too", "[verify]") {
  Pair two;
  for (const std::string& file : files_of(two.newer)) {
    const std::string good = slurp(file), name = fs::path(file).filename().string();
    for (const std::string& bad :
         {good.substr(0, good.size() / 2), good.substr(0, good.size() - 1), std::string(), good + "x"}) {
      spill(file, bad);
      CHECK(verify_checkpoint(two.newer).size() == 1);
      CHECK(check_structure(two.newer).size() == 1);
      two.check_fallback(name);
      CHECK(pick(two.dir.path(), false).path == two.older);
    }
    fs::remove(file);
    CHECK_FALSE(verify_checkpoint(two.newer).empty());
    two.check_fallback(name);
    fs::create_directory(file);  // something else in its place
    CHECK_FALSE(verify_checkpoint(two.newer).empty());
    two.check_fallback(name);
    fs::remove(file);
    spill(file, good);
  }
  CHECK(verify_checkpoint(two.newer).empty());
}

TEST_CASE("all problems are told, not the first", "[verify]") {
  Pair two;
  const std::string first = two.newer + "/shard-00000-of-00004.safetensors";
  std::string bytes = slurp(first);
  bytes[20] = static_cast<char>(bytes[20] ^ 1);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  spill(first, bytes);
  fs::remove(two.newer + "/shard-00003-of-00004.safetensors");
  const auto problems = verify_checkpoint(two.newer);
  std::string all;
  for (const std::string& problem : problems) all += problem + "\n";
  CHECK(contains(all, "shard-00000-of-00004.safetensors: the header"));
  CHECK(contains(all, "shard-00000-of-00004.safetensors: tensor model."));
  CHECK(contains(all, "shard-00003-of-00004.safetensors: No such file or directory"));
  two.check_fallback("more problem");
}

TEST_CASE("a manifest that leaves bytes or elements out is refused", "[verify]") {
  TempDir dir;
  const std::string path = save(dir.path(), 1, {make_logical("v", {3}, 1), make_logical("w", {4, 4}, 1)}, {0, 2, 1});
  Manifest manifest = read_manifest(path);
  manifest.tensors["w"].pieces.pop_back();
  spill(path + "/manifest.json", manifest_text(manifest));
  const auto problems = check_structure(path);
  REQUIRE(problems.size() == 2);
  CHECK(contains(problems[0], "tensor w: 8 of the 16 elements"));
  CHECK(contains(problems[1], "the pieces in shard-00001-of-00002.safetensors do not follow each other"));
}

TEST_CASE("temporaries, a missing and a dangling latest do not matter", "[verify]") {
  Pair two;
  fs::create_directories(temporary_path(two.dir.path(), 300));
  fs::remove(two.dir / "latest");
  CHECK(pick(two.dir.path()).path == two.newer);
  spill(two.dir / "latest", "step-00009999\n");
  CHECK(pick(two.dir.path()).path == two.newer);
  fs::create_directories(two.dir / "step-00000300");  // as a copy that was stopped would leave
  const Resume found = pick(two.dir.path());
  CHECK(found.path == two.newer);
  REQUIRE(found.skipped.size() == 1);
  CHECK(contains(found.skipped[0].reason, "step-00000300/manifest.json: No such file"));
}

TEST_CASE("nothing valid is an answer", "[verify]") {
  TempDir dir;
  CHECK_FALSE(pick(dir.path()).found());
  CHECK_FALSE(pick(dir / "none").found());
  fs::create_directories(dir / "step-00000001");
  const Resume found = pick(dir.path());
  CHECK_FALSE(found.found());
  CHECK(found.skipped.size() == 1);
}

TEST_CASE("a path is a checkpoint, a directory of them, or a run", "[verify]") {
  TempDir run;
  const std::string root = run / "checkpoints";
  const std::string older = save(root, 1, sample_tensors(), {0, 1, 1});
  const std::string newer = save(root, 2, sample_tensors(), {0, 1, 1});
  CHECK(resolve_checkpoint(older) == older);
  CHECK(resolve_checkpoint(root) == newer);
  CHECK(resolve_checkpoint(run.path()) == newer);
  fs::remove(newer + "/shard-00000-of-00001.safetensors");
  CHECK(resolve_checkpoint(run.path()) == older);
  fs::remove(older + "/manifest.json");
  const std::string error = message_of<UserError>([&] { resolve_checkpoint(run.path()); });
  CHECK(contains(error, run.path() + " is not a checkpoint"));
  CHECK(contains(error, newer + ": shard-00000-of-00001.safetensors: No such file"));
}
