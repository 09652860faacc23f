#include "core/config/load.h"

#include <cstdio>
#include <fstream>

#include "config/helpers.h"
#include "support/catch.h"

namespace trident {

TEST_CASE("all mistakes come at once, each with its place") {
  const std::string text =
      "devise: cpu\n"
      "model:\n"
      "  layers: two\n"
      "  hidden: 100\n"
      "  heads: 12\n"
      "parallel: {tensor: 5}\n"
      "zero: {offload: nvme}\n"
      "train:\n"
      "  global_batch: 30\n"
      "  micro_batch: 4\n";
  CHECK(
      error_of(text) ==
      "6 mistakes in the config:\n"
      "c.yaml:1:1: devise: unknown key; did you mean device?\n"
      "c.yaml:3:11: model.layers: expected a whole number, found 'two'\n"
      "c.yaml:5:10: model.heads: 12 can't be shared by parallel.tensor = 5 ranks; the nearest are 10 or 15, or "
      "parallel.tensor one of 1, 2, 3, 4, 6, 12\n"
      "c.yaml:4:11: model.hidden: hidden = 100 does not divide by heads = 12; the nearest hidden is 96 or 108, or set "
      "head_dim\n"
      "c.yaml:9:17: train.global_batch: global_batch = 30 is not a multiple of micro_batch = 4 x data = 1 (4); the "
      "nearest are 28 or 32\n"
      "c.yaml:7:17: zero.nvme_path: offload: nvme needs a directory on a fast local disk; set zero.nvme_path");
}

TEST_CASE("one mistake is not reported twice by the checks that depend on it") {
  // heads is wrong by itself: nothing is said about heads against hidden or tensor.
  CHECK(error_of("model: {heads: x, hidden: 100}\nparallel: {tensor: 5}\nmodel: {}\n").find("hidden = 100") ==
        std::string::npos);
  // `tensr` was meant to be tensor: 8 ranks against 1 is not a second mistake.
  CHECK(error_of("parallel: {tensr: 8, data: 1}\ndata: {train: [{path: d}]}\n", 8) ==
        "c.yaml:1:12: parallel.tensr: unknown key; did you mean tensor?");
  // An unknown key in one section does not silence another.
  CHECK(error_of("zero: {stge: 1}\ntrain: {global_batch: 3, micro_batch: 2}\n").find("2 mistakes") == 0);
  // A wrong element of a list is the list's only mistake.
  CHECK(error_of("data: {train: [{pth: d}]}\n", 1) ==
        "c.yaml:1:17: data.train[0].pth: unknown key; did you mean path?");
}

TEST_CASE("unreadable text is one mistake") {
  CHECK(error_of("a: [\n").find("c.yaml:") == 0);
  CHECK(error_of("a: [\n").find("\n") == std::string::npos);
}

TEST_CASE("a parsed config knows the places of its keys") {
  const LoadedConfig loaded = parse_config("model:\n  layers: 3\ndata:\n  train:\n    - path: x\n", "c.yaml");
  CHECK(loaded.diagnostics.empty());
  CHECK(loaded.readable);
  CHECK(loaded.is_set("model.layers"));
  CHECK_FALSE(loaded.is_set("model.heads"));
  CHECK(loaded.place_of("model.layers") == "c.yaml:2:11");
  CHECK(loaded.place_of("model.heads") == "c.yaml:2:3");
  CHECK(loaded.place_of("data.train[0].path") == "c.yaml:5:13");
  CHECK(loaded.place_of("data.train[0].weight") == "c.yaml:5:7");
  CHECK(loaded.place_of("data.train[7].weight") == "c.yaml:5:5");
  CHECK(loaded.place_of("zero.stage") == "c.yaml:1:1");
  // Not resolved: what follows from other keys is still open.
  CHECK(loaded.config.model.kv_heads == 0);
}

TEST_CASE("a file is read, and one that is not there is named") {
  const std::string path = "load_test.yaml";
  std::ofstream(path) << "name: from-file\nmodel: {layers: 2}\n";
  const std::vector<std::string> overrides = {"model.layers=3"};
  const Config c = load_config(path, overrides, 0);
  CHECK(c.name == "from-file");
  CHECK(c.model.layers == 3);
  std::remove(path.c_str());
  CHECK_THROWS_AS(load_config(path, overrides, 0), UserError);
  CHECK_THROWS_WITH(load_config(path, overrides, 0), "load_test.yaml: can't read the config file; is the path right?");
  CHECK_THROWS_AS(load_config(".", overrides, 0), UserError);
}

}  // namespace trident
