#include "core/config/override.h"

#include "config/helpers.h"
#include "support/catch.h"

namespace trident {

TEST_CASE("an override replaces the file's value, and the last one wins") {
  const Config c = load_text(kLegal, 0, {"model.layers=8", "train.steps=7", "train.steps=9", "log.level=error"});
  CHECK(c.model.layers == 8);
  CHECK(c.train.steps == 9);
  CHECK(c.log.level == log::Level::error);
  CHECK(c.model.hidden == 64);
}

TEST_CASE("an override may make its section, and its value is YAML") {
  const Config c = load_text(
      "", 0,
      {"model.layers=2", "optimizer.betas=[0.5, 0.6]", "name=a=b", "data.train=[{path: x}, {path: y, weight: 3}]"});
  CHECK(c.model.layers == 2);
  CHECK(c.optimizer.betas[1] == 0.6);
  CHECK(c.name == "a=b");
  REQUIRE(c.data.train.size() == 2);
  CHECK(c.data.train[1].weight == 3);
}

TEST_CASE("an override reaches into lists") {
  const std::string text = "optimizer: {betas: [0.1, 0.2]}\ndata: {train: [{path: a}, {path: b}]}\n";
  const Config c = load_text(text, 0, {"data.train[1].path=c", "data.train[0].weight=4", "optimizer.betas[1]=0.7"});
  CHECK(c.data.train[0].path == "a");
  CHECK(c.data.train[0].weight == 4);
  CHECK(c.data.train[1].path == "c");
  CHECK(c.optimizer.betas[0] == 0.1);
  CHECK(c.optimizer.betas[1] == 0.7);
}

TEST_CASE("a good override hides the file's bad value, a bad one is named by its own text") {
  CHECK(error_of("train: {steps: x}\n", 0, {"train.steps=5"}).empty());
  CHECK(error_of("train: {steps: 5}\n", 0, {"train.steps=x"}) ==
        "--set train.steps=x: train.steps: expected a whole number, found 'x'");
  CHECK(error_of("", 0, {"model.leyers=5"}) == "--set model.leyers=5: model.leyers: unknown key; did you mean layers?");
  CHECK(error_of(kLegal, 0, {"parallel.tensor=3"}).find("--set parallel.tensor=3: ") != std::string::npos);
}

TEST_CASE("an override that makes no sense by itself says so") {
  const std::string malformed = ": expected key=value with a key such as model.layers or data.train[0].path";
  for (const char* bad : {"model.layers", "=5", ".a=1", "a..b=1", "a.=1", "[0]=1", "a[x]=1", "a[0=1", "a[-1]=1", ""}) {
    CHECK(error_of(kLegal, 0, {bad}) == "--set " + std::string(bad) + malformed);
  }
  std::string deep = "a";
  for (int i = 0; i < 1000; ++i) deep += ".a";
  CHECK(error_of(kLegal, 0, {deep + "=1"}).find("expected key=value") != std::string::npos);
  CHECK(error_of(kLegal, 0, {"model={layers: 2}"}) ==
        "--set model={layers: 2}: a section can't be set at once; set its keys one by one");
  CHECK(error_of(kLegal, 0, {"data.train[1].path=x"}) ==
        "--set data.train[1].path=x: there is no list with an element 1 here");
  CHECK(error_of(kLegal, 0, {"model[0]=x"}) == "--set model[0]=x: there is no list with an element 0 here");
  CHECK(error_of(kLegal, 0, {"model.layers.x=1"}) == "--set model.layers.x=1: nothing here can hold the key 'x'");
  CHECK(error_of(kLegal, 0, {"name='a"}).find("--set name='a: the value: not readable as YAML: ") == 0);
  CHECK(error_of(kLegal, 0, {"name=\x01"}) ==
        "--set name=\\x01: the value: control character 1; a config is plain text");
}

TEST_CASE("a malformed override does not hide the other mistakes") {
  const std::string message = error_of(kLegal, 0, {"foo", "parallel.tensor=3", "train.steps=0"});
  CHECK(message.find("4 mistakes in the config:\n--set foo: ") == 0);
  CHECK(message.find("\n--set train.steps=0: ") != std::string::npos);
  CHECK(message.find("model.heads: 4 can't be shared by parallel.tensor = 3 ranks") != std::string::npos);
  CHECK(message.find("model.ffn_hidden: 256 can't be shared by parallel.tensor = 3 ranks") != std::string::npos);
}

TEST_CASE("an override that fails leaves the tree as it was") {
  YamlResult tree = read_yaml("a: {b: 1}\n");
  REQUIRE_FALSE(tree.fault.has_value());
  CHECK(apply_override(tree.root, "c.d[0]=1", 1).has_value());
  CHECK(tree.root.keys.size() == 1);
  CHECK_FALSE(apply_override(tree.root, "c.d=1", 1).has_value());
  CHECK(tree.root.keys.size() == 2);
  CHECK(tree.root.find("c")->find("d")->source == 1);
}

}  // namespace trident
