// The protocol of a save: atomic, together on all ranks, and harmless when the disk refuses.
#include "core/checkpoint/writer.h"

#include <sys/mount.h>
#include <sys/resource.h>

#include <csignal>

#include "checkpoint/support.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::test;
namespace fs = std::filesystem;

namespace {

/// No file of this process grows beyond `bytes` while this lives: the portable stand-in for a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

std::vector<Logical> uneven_tensors() { return {make_logical("small", {4}, 1), make_logical("large", {3000}, 2)}; }

/// Rank 0 holds the small tensor, rank 1 the large one.
Holding hold_uneven(int rank) {
  const auto tensors = uneven_tensors();
  Holding holding;
  if (rank < 2) holding.add(tensors[static_cast<size_t>(rank)], whole(tensors[static_cast<size_t>(rank)].shape));
  return holding;
}

void check_disk_full(const std::string& root, bool async, const std::string& reason) {
  ThreadGroup group(3);
  std::vector<std::string> thrown(3);
  const auto errors = group.run([&](Communicator& world) {
    CheckpointWriter writer({root, 3, async, {}}, world);
    const Holding holding = hold_uneven(world.rank());
    thrown[static_cast<size_t>(world.rank())] = message_of<RunError>([&] {
      writer.begin_save(holding.pieces, sample_meta(20));
      writer.finish();
    });
    ensure(!writer.saving(), "nothing is in flight after a failed save");  // Catch's CHECK belongs to one thread
  });
  CHECK(errors == std::vector<std::string>(3));
  CHECK(contains(thrown[0], "the checkpoint of step 20 was not saved; the last good one in " + root + " stays"));
  CHECK(contains(thrown[0], "\n  rank 1: cannot write " + root +
                                "/.tmp-step-00000020/shard-00001-of-00003.safetensors: " + reason));
  CHECK(thrown[1] == thrown[0]);
  CHECK(thrown[2] == thrown[0]);
  CHECK_FALSE(fs::exists(temporary_path(root, 20)));
  CHECK_FALSE(fs::exists(root + "/step-00000020"));
  CHECK(verify_checkpoint(root + "/step-00000010").empty());
}

}  // namespace

TEST_CASE("a rank without pieces writes no file", "[writer]") {
  TempDir dir;
  const auto errors = ThreadGroup(3).run([&](Communicator& world) {
    CheckpointWriter writer({dir.path(), 3, false, {}}, world);
    writer.begin_save(hold_uneven(world.rank()).pieces, sample_meta(1));
  });
  CHECK(errors == std::vector<std::string>(3));
  CHECK(fs::exists(dir / "step-00000001/shard-00001-of-00003.safetensors"));
  CHECK_FALSE(fs::exists(dir / "step-00000001/shard-00002-of-00003.safetensors"));
  CHECK(verify_checkpoint(dir / "step-00000001").empty());
}

TEST_CASE("an asynchronous save is committed by poll when all ranks are done, from a copy", "[writer]") {
  TempDir dir;
  const std::vector<Logical> tensors = sample_tensors();
  const auto errors = ThreadGroup(4).run([&](Communicator& world) {
    Holding holding = hold(tensors, {0, 2, 2}, world.rank());
    std::vector<std::byte> staging(staging_bytes(holding.pieces));
    CheckpointWriter writer(
        {dir.path(), 3, true, Tensor(staging.data(), DType::u8, {static_cast<int64_t>(staging.size())})}, world);
    ensure(!writer.poll().has_value(), "nothing is in flight");
    ensure(!writer.begin_save(holding.pieces, sample_meta(3)).has_value(), "an async save returns nothing");
    for (auto& memory : holding.memory) std::fill(memory->begin(), memory->end(), -9.0f);  // the step goes on
    ensure(writer.saving(), "in flight until all ranks have written");
    std::optional<std::string> path;
    while (!(path = writer.poll())) std::this_thread::yield();
    ensure(*path == dir / "step-00000003" && !writer.saving(), "poll commits");
    ensure(!writer.finish().has_value(), "nothing is left");
  });
  CHECK(errors == std::vector<std::string>(4));
  CheckpointReader reader(dir / "step-00000003");
  for (const Logical& tensor : tensors) {
    std::vector<float> got(tensor.values.size());
    reader.read(tensor.name, Tensor(got.data(), DType::f32, {static_cast<int64_t>(got.size())}));
    CHECK(got == tensor.values);
  }
}

TEST_CASE("a second save finishes the first, and a writer that goes leaves only a temporary", "[writer]") {
  TempDir dir;
  const auto errors = ThreadGroup(2).run([&](Communicator& world) {
    const Holding holding = hold_uneven(world.rank());
    CheckpointWriter writer({dir.path(), 3, true, {}}, world);
    writer.begin_save(holding.pieces, sample_meta(1));
    writer.begin_save(holding.pieces, sample_meta(2));
  });
  CHECK(errors == std::vector<std::string>(2));
  CHECK(find_checkpoints(dir.path()).size() == 1);
  CHECK(verify_checkpoint(dir / "step-00000001").empty());
  CHECK(fs::exists(temporary_path(dir.path(), 2)));
  save(dir.path(), 3, sample_tensors(), {0, 2, 1});
  CHECK_FALSE(fs::exists(temporary_path(dir.path(), 2)));  // the next save clears away
}

TEST_CASE("keep is kept over many saves", "[writer]") {
  TempDir dir;
  for (int64_t step = 1; step <= 5; ++step) save(dir.path(), step, sample_tensors(), {0, 1, 1}, 2);
  const auto found = find_checkpoints(dir.path());
  REQUIRE(found.size() == 2);
  CHECK(found[0].step == 5);
  CHECK(found[1].step == 4);
  CHECK(slurp(dir / "latest") == "step-00000005\n");
}

TEST_CASE("data made on demand is asked for once, in order", "[writer]") {
  TempDir dir;
  const std::vector<Logical> tensors = sample_tensors();
  for (const bool async : {false, true}) {
    const int64_t step = async ? 2 : 1;
    std::vector<std::string> asked;
    std::vector<float> buffer(200);
    const auto errors = ThreadGroup(1).run([&](Communicator& world) {
      std::vector<LocalPiece> pieces;
      for (const Logical& tensor : tensors) {
        const int64_t n = shape_numel(tensor.shape);
        pieces.push_back({tensor.name, tensor.shape, whole(tensor.shape), Tensor(nullptr, DType::f32, {n}), [&, n] {
                            asked.push_back(tensor.name);
                            std::copy(tensor.values.begin(), tensor.values.end(), buffer.begin());
                            return Tensor(buffer.data(), DType::f32, {n});
                          }});
      }
      CheckpointWriter writer({dir.path(), 3, async, {}}, world);
      writer.begin_save(pieces, sample_meta(step));
      writer.finish();
    });
    CHECK(errors[0].empty());
    REQUIRE(asked.size() == tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) CHECK(asked[i] == tensors[i].name);
  }
  CHECK(diff_checkpoints(dir / "step-00000001", dir / "step-00000002").empty());
}

TEST_CASE("pieces that do not cover a tensor once are refused on every rank", "[writer]") {
  TempDir dir;
  const Logical tensor = make_logical("w", {4, 4}, 1);
  for (const bool twice : {false, true}) {
    const auto errors = ThreadGroup(2).run([&](Communicator& world) {
      Holding holding;
      if (twice || world.rank() == 0) holding.add(tensor, {{0, 0}, {3, 4}});
      CheckpointWriter writer({dir.path(), 3, false, {}}, world);
      writer.begin_save(holding.pieces, sample_meta(1));
    });
    CHECK(contains(errors[0], twice ? "tensor w: elements [0:3,0:4] are in two pieces"
                                    : "tensor w: 4 of the 16 elements of [0:4,0:4] are in no piece"));
    CHECK(errors[1] == errors[0]);
    CHECK(find_checkpoints(dir.path()).empty());
  }
}

TEST_CASE("a piece that leaves the logical shape, as padding would, is refused on every rank", "[writer]") {
  TempDir dir;
  const Logical padded = make_logical("w", {5, 4}, 1);
  for (const bool async : {false, true}) {
    const auto errors = ThreadGroup(2).run([&](Communicator& world) {
      Holding holding;
      holding.add(padded, whole(padded.shape));
      holding.pieces[0].shape = {4, 4};
      if (world.rank() == 1) holding.pieces.clear();
      CheckpointWriter writer({dir.path(), 3, async, {}}, world);
      writer.begin_save(holding.pieces, sample_meta(1));
      writer.finish();
    });
    CHECK(contains(errors[0], "a piece is a slice of its tensor's logical shape"));
    CHECK(errors[1] == errors[0]);
  }
}

TEST_CASE("a disk that fills on one rank fails the save on all and spares the last good one", "[writer]") {
  TempDir dir;
  save(dir.path(), 10, sample_tensors(), {0, 2, 1});
  for (const bool async : {false, true}) {
    FileSizeLimit limit(8192);
    check_disk_full(dir.path(), async, "File too large");
  }
  save(dir.path(), 20, sample_tensors(), {0, 2, 1});  // and with room again, saves go on
  CHECK(verify_checkpoint(dir / "step-00000020").empty());
}

TEST_CASE("a truly full file system, where mounting is allowed", "[writer]") {
  TempDir dir;
  if (::mount("none", dir.path().c_str(), "tmpfs", 0, "size=48k") != 0) {
    WARN("not allowed to mount a tmpfs here; the file size limit above stands in");
    return;
  }
  {
    save(dir / "root", 10, {make_logical("w", {1000}, 1)}, {0, 1, 1});
    spill(dir / "ballast", std::string(24'000, 'x'));  // leaves less than the large tensor takes
    for (const bool async : {false, true}) check_disk_full(dir / "root", async, "No space left on device");
  }
  CHECK(::umount(dir.path().c_str()) == 0);
}

TEST_CASE("a root that cannot be made is told on every rank", "[writer]") {
  TempDir dir;
  spill(dir / "file", "x");
  const auto errors = ThreadGroup(2).run([&](Communicator& world) {
    CheckpointWriter writer({dir / "file/root", 3, false, {}}, world);
    writer.begin_save({}, sample_meta(1));
  });
  CHECK(contains(errors[0], "rank 0: cannot create the directory " + (dir / "file/root")));
  CHECK(errors[1] == errors[0]);
}

TEST_CASE("a shard that rank 0 cannot see is told", "[writer]") {
  TempDir dir;
  const Logical tensor = make_logical("w", {4}, 1);
  Holding holding;
  holding.add(tensor, whole(tensor.shape));
  const std::atomic<bool> cancelled{false};
  const Manifest records = write_shard(dir.path(), 0, 1, 1, holding.pieces, cancelled);
  fs::remove(dir / "shard-00000-of-00001.safetensors");
  const std::vector<std::string> texts = {manifest_records(records)};
  CHECK(contains(message_of<RunError>([&] { write_manifest(dir.path(), sample_meta(1), texts); }),
                 "must be on a file system that all hosts share"));
}

TEST_CASE("a cancelled shard stops", "[writer]") {
  TempDir dir;
  const Holding holding = hold_uneven(1);
  const std::atomic<bool> cancelled{true};
  CHECK(message_of<RunError>([&] { write_shard(dir.path(), 0, 1, 1, holding.pieces, cancelled); }) ==
        "the save was given up");
}

TEST_CASE("a shard is a plain safetensors file that names its parts", "[writer]") {
  TempDir dir;
  save(dir.path(), 1, sample_tensors(), {0, 2, 1});
  const std::string shard = slurp(dir / "step-00000001/shard-00001-of-00002.safetensors");
  CHECK(contains(shard, "\"__metadata__\":{\"format\":\"pt\",\"producer\":\"trident\",\"step\":\"1\"}"));
  CHECK(contains(shard, "\"model.embed.token.weight[6:13,0:8]\":{\"dtype\":\"F32\",\"shape\":[7,8]"));
}
