// Every complaint about a single key, with its exact place and words.
#include "core/config/reader.h"

#include "config/helpers.h"
#include "support/catch.h"

namespace trident {
namespace {

struct Case {
  const char* text;
  const char* message;
};

}  // namespace

TEST_CASE("each kind of field is read") {
  const Config c = load_text(
      "name: \"1 x\"\n"
      "model: {layers: 3, dropout: .5, bias: false, norm: rms_norm, kv_heads: auto, attention: {kind: dense}}\n"
      "optimizer: {betas: [0.8, 0.99], lr: 1}\n"
      "data: {train: [{path: a}, {path: b, weight: 2.5}]}\n"
      "log: {level: warn}\n"
      "checkpoint:\n");
  CHECK(c.name == "1 x");
  CHECK(c.model.layers == 3);
  CHECK(c.model.dropout == 0.5);
  CHECK_FALSE(c.model.bias);
  CHECK(c.model.norm == Norm::rms_norm);
  CHECK(c.model.kv_heads == 12);
  CHECK(c.optimizer.betas[0] == 0.8);
  CHECK(c.optimizer.betas[1] == 0.99);
  CHECK(c.optimizer.lr == 1.0);
  REQUIRE(c.data.train.size() == 2);
  CHECK(c.data.train[0].weight == 1.0);
  CHECK(c.data.train[1].path == "b");
  CHECK(c.data.train[1].weight == 2.5);
  CHECK(c.log.level == log::Level::warn);
  CHECK(c.checkpoint == CheckpointConfig{});
}

TEST_CASE("an unknown key is named with the nearest one") {
  const Case cases[] = {
      {"devise: cpu\n", "c.yaml:1:1: devise: unknown key; did you mean device?"},
      {"name: x\nmodel:\n  layres: 2\n", "c.yaml:3:3: model.layres: unknown key; did you mean layers?"},
      {"model: {attention: {kin: dense}}\n", "c.yaml:1:21: model.attention.kin: unknown key; did you mean kind?"},
      {"data:\n  train:\n    - path: x\n      wieght: 1\n",
       "c.yaml:4:7: data.train[0].wieght: unknown key; did you mean weight?"},
      {"layers: 2\n", "c.yaml:1:1: layers: unknown key here; did you mean model.layers?"},
      {"train: {lr: 1}\n", "c.yaml:1:9: train.lr: unknown key here; did you mean optimizer.lr?"},
      {"zero: {xyzzy: 1}\n",
       "c.yaml:1:8: zero.xyzzy: unknown key; zero has stage, shard_group, keep_gathered, offload, offload_parameters, "
       "nvme_path, "
       "delayed_update"},
      {"zero: {\"a\\nb\": 1}\n",
       "c.yaml:1:8: zero.'a\\x0ab': unknown key; zero has stage, shard_group, keep_gathered, offload, "
       "offload_parameters, nvme_path, "
       "delayed_update"},
  };
  for (const Case& c : cases) CHECK(error_of(c.text) == c.message);
}

TEST_CASE("a key that is set twice is pointed at the second time") {
  CHECK(error_of("model:\n  layers: 2\n  heads: 4\n  layers: 3\n") ==
        "c.yaml:4:3: model.layers: set twice, first in line 2; keep one");
  CHECK(error_of("zero: {}\nzero: {}\n") == "c.yaml:2:1: zero: set twice, first in line 1; keep one");
}

TEST_CASE("a value of the wrong type is shown") {
  const Case cases[] = {
      {"train: {steps: many}\n", "c.yaml:1:16: train.steps: expected a whole number, found 'many'"},
      {"train: {steps: 1e3}\n", "c.yaml:1:16: train.steps: expected a whole number, found '1e3'; write 1000"},
      {"train: {steps: 1.5}\n", "c.yaml:1:16: train.steps: expected a whole number, found '1.5'"},
      {"train: {steps: \"5\"}\n",
       "c.yaml:1:16: train.steps: expected a whole number without quotes, found the quoted text '5'"},
      {"train: {steps: }\n", "c.yaml:1:16: train.steps: expected a whole number, found nothing"},
      {"train:\n  steps:\n    a: 1\n", "c.yaml:3:5: train.steps: expected a whole number, found a section"},
      {"model: {kv_heads: some}\n", "c.yaml:1:19: model.kv_heads: expected a whole number or auto, found 'some'"},
      {"model: {layers: auto}\n", "c.yaml:1:17: model.layers: expected a whole number, found 'auto'"},
      {"optimizer: {lr: [1]}\n", "c.yaml:1:17: optimizer.lr: expected a number, found a list"},
      {"optimizer: {lr: .inf}\n", "c.yaml:1:17: optimizer.lr: expected a number, found '.inf'"},
      {"model: {bias: yes}\n", "c.yaml:1:15: model.bias: expected true or false, found 'yes'"},
      {"optimizer: {betas: 0.9}\n", "c.yaml:1:20: optimizer.betas: expected a list of 2 numbers, found '0.9'"},
      {"optimizer: {betas: [0.9]}\n", "c.yaml:1:20: optimizer.betas: expected a list of 2 numbers, found 1"},
      {"optimizer: {betas: [0.9, x]}\n", "c.yaml:1:26: optimizer.betas: expected a number, found 'x'"},
      {"optimizer: {betas: [0.9, []]}\n", "c.yaml:1:26: optimizer.betas: expected a number, found a list"},
      {"optimizer: {betas: [0.9, \"0.9\"]}\n",
       "c.yaml:1:26: optimizer.betas: expected a number, found the quoted text '0.9'"},
      {"name: [a]\n", "c.yaml:1:7: name: expected text, found a list"},
      {"name: \"a\\nb\"\n",
       "c.yaml:1:7: name: control characters or several lines in 'a\\x0ab'; one line of text is meant"},
      {"train: 3\n", "c.yaml:1:8: train: expected a section (lines of `key: value`), found '3'"},
      {"- a\n", "c.yaml:1:1: expected a section (lines of `key: value`), found a list"},
      {"data: {train: x}\n",
       "c.yaml:1:15: data.train: expected a list of sections (lines of `- key: value`), found 'x'"},
      {"data: {train: [x]}\n", "c.yaml:1:16: data.train[0]: expected a section (lines of `key: value`), found 'x'"},
  };
  for (const Case& c : cases) CHECK(error_of(c.text) == c.message);
}

TEST_CASE("a word that is not one of the enum's is answered with all of them") {
  CHECK(error_of("device: gpu\n") ==
        "c.yaml:1:9: device: expected one of cpu, cuda, simt, found 'gpu'; did you mean cpu?");
  CHECK(error_of("train: {precision: double}\n") ==
        "c.yaml:1:20: train.precision: expected one of fp32, bf16, fp16, found 'double'");
  CHECK(error_of("parallel: {schedule: 1F1B}\n").find("expected one of gpipe, 1f1b, interleaved") != std::string::npos);
}

TEST_CASE("a number out of range is answered with the range") {
  const Case cases[] = {
      {"model: {layers: 0}\n", "c.yaml:1:17: model.layers: 0 is out of range: layers must be from 1 to 16384"},
      {"model: {kv_heads: 0}\n",
       "c.yaml:1:19: model.kv_heads: 0 is out of range: kv_heads must be from 1 to 65536; write auto to have it "
       "derived"},
      {"train: {global_batch: -4}\n",
       "c.yaml:1:23: train.global_batch: -4 is out of range: global_batch must be from 1 to 1073741824 (sequences)"},
      {"optimizer: {betas: [0.9, 1]}\n",
       "c.yaml:1:26: optimizer.betas: 1 is out of range: betas must be from 0 up to but not 1"},
      {"optimizer: {eps: 0}\n", "c.yaml:1:18: optimizer.eps: 0 is out of range: eps must be above 0"},
      {"train: {grad_clip: -1}\n", "c.yaml:1:20: train.grad_clip: -1 is out of range: grad_clip must be at least 0"},
  };
  for (const Case& c : cases) CHECK(error_of(c.text) == c.message);
}

TEST_CASE("thousands of unknown keys are listed in part") {
  std::string text = "model:\n";
  for (int i = 0; i < 5000; ++i) text += "  key_" + std::to_string(i) + ": 1\n";
  const std::string message = error_of(text);
  CHECK(message.find("5000 mistakes in the config:\nc.yaml:2:3: model.key_0: ") == 0);
  CHECK(message.find("... and 4950 more") != std::string::npos);
  CHECK(message.size() < 30000);
}

}  // namespace trident
