// Every check across keys: the exact place, values and legal neighbours. Each case breaks kLegal by overrides, so the
// place is the override that is pointed at.
#include "core/config/validate.h"

#include "config/helpers.h"
#include "core/config/preset.h"
#include "support/catch.h"

namespace trident {
namespace {

struct Case {
  std::vector<std::string> overrides;
  int ranks;
  const char* message;
};

void check_cases(std::span<const Case> cases) {
  for (const Case& c : cases) CHECK(error_of(kLegal, c.ranks, c.overrides) == c.message);
}

}  // namespace

TEST_CASE("the legal text is legal") {
  CHECK(error_of(kLegal, 8).empty());
  CHECK(error_of(kLegal, 0).empty());
}

TEST_CASE("heads, kv_heads and ffn_hidden must be shared evenly by the tensor ranks") {
  const Case cases[] = {
      {{"model.heads=2", "parallel.tensor=4", "model.ffn_hidden=64"},
       16,
       "--set model.heads=2: model.heads: 2 can't be shared by parallel.tensor = 4 ranks; the nearest are 4, or "
       "parallel.tensor one of 1, 2"},
      {{"model.kv_heads=1"},
       8,
       "--set model.kv_heads=1: model.kv_heads: 1 can't be shared by parallel.tensor = 2 ranks; the nearest are 2, or "
       "parallel.tensor one of 1"},
      {{"model.ffn_hidden=255"},
       8,
       "--set model.ffn_hidden=255: model.ffn_hidden: 255 can't be shared by parallel.tensor = 2 ranks; the nearest "
       "are "
       "254 or 256, or parallel.tensor one of 1, 3, 5, 15, 17, 51, 85, 255"},
  };
  check_cases(cases);
}

TEST_CASE("kv_heads divides heads, and heads divide hidden") {
  const Case cases[] = {
      {{"model.heads=8", "model.kv_heads=6"},
       8,
       "--set model.kv_heads=6: model.kv_heads: kv_heads = 6 does not divide heads = 8; legal are 1, 2, 4, 8"},
      {{"model.hidden=66"},
       8,
       "--set model.hidden=66: model.hidden: hidden = 66 does not divide by heads = 4; the nearest hidden is 64 or 68, "
       "or set head_dim"},
      {{"model.hidden=66", "model.head_dim=16"}, 8, ""},
      {{"model.head_dim=15", "model.position=rope"},
       8,
       "--set model.head_dim=15: model.head_dim: head_dim = 15 is odd, but rotary positions turn pairs of elements; "
       "the "
       "nearest are 14 or 16"},
      {{"model.head_dim=15"}, 8, ""},
  };
  check_cases(cases);
}

TEST_CASE("positions reach to the end of the context, and rope's base needs rope") {
  const Case cases[] = {
      {{"model.max_positions=31"},
       8,
       "--set model.max_positions=31: model.max_positions: max_positions = 31 is less than context = 32; set it to 32 "
       "or "
       "more"},
      {{"model.max_positions=64"}, 8, ""},
      {{"model.rope_theta=500000"},
       8,
       "--set model.rope_theta=500000: model.rope_theta: has no effect with position: learned; remove it or set "
       "position: rope"},
      {{"model.rope_theta=500000", "model.position=rope"}, 8, ""},
  };
  check_cases(cases);
}

TEST_CASE("sharding and offload fit together") {
  const Case cases[] = {
      {{"train.recompute=selective", "train.offload_activations=host"},
       8,
       "--set train.offload_activations=host: train.offload_activations: is for the inputs of layers that recompute: "
       "full "
       "keeps; with selective set train.recompute: full, or remove it"},
      {{"zero.stage=0", "zero.shard_group=2"},
       8,
       "--set zero.shard_group=2: zero.shard_group: stage 0 has no shards to share out; set zero.stage to 1, 2 or 3, "
       "or "
       "remove shard_group"},
      {{"zero.stage=1", "zero.shard_group=3"},
       8,
       "--set zero.shard_group=3: zero.shard_group: 3 does not divide data = 2; legal are 1, 2"},
      {{"zero.stage=2", "zero.keep_gathered=true"},
       8,
       "--set zero.keep_gathered=true: zero.keep_gathered: has no effect with stage 2, which gathers nothing in a "
       "step; "
       "remove it or set zero.stage: 3"},
      {{"zero.nvme_path=/scratch"},
       8,
       "--set zero.nvme_path=/scratch: zero.nvme_path: has no effect with offload: none; remove it or set "
       "zero.offload: "
       "nvme"},
      {{"zero.delayed_update=true"},
       8,
       "--set zero.delayed_update=true: zero.delayed_update: is for an update beside the device; set zero.offload: "
       "host "
       "or nvme, or remove it"},
      {{"zero.stage=2", "zero.offload=host", "zero.offload_parameters=host"},
       8,
       "--set zero.offload_parameters=host: zero.offload_parameters: offloads the shards of the weights, which stage 2 "
       "does not make; set zero.stage: 3 (it works on one data rank, too), or remove it"},
      {{"zero.stage=3", "zero.offload_parameters=host"},
       8,
       "--set zero.offload_parameters=host: zero.offload_parameters: needs the update where the weights are; set "
       "zero.offload: host, or remove it"},
      {{"zero.stage=3", "zero.offload=host", "zero.offload_parameters=nvme"},
       8,
       "--set zero.offload_parameters=nvme: zero.nvme_path: offload_parameters: nvme needs a directory on a fast local "
       "disk; set zero.nvme_path"},
      {{"zero.stage=3", "zero.offload_parameters=nvme", "zero.nvme_path=/scratch"},
       8,
       "--set zero.offload_parameters=nvme: zero.offload_parameters: needs the update where the weights are; set "
       "zero.offload: host, or remove it"},
  };
  check_cases(cases);
}

TEST_CASE("the pipeline has layers for every chunk, but they need not divide evenly") {
  const Case cases[] = {
      {{"model.layers=1"},
       8,
       "--set model.layers=1: model.layers: 1 layers can't fill pipeline = 2 x virtual_stages = 1 = 2 chunks; have 2 "
       "layers or more, or fewer stages"},
      {{"model.layers=5"}, 8, ""},
      {{"parallel.virtual_stages=2"},
       8,
       "--set parallel.virtual_stages=2: parallel.virtual_stages: virtual_stages = 2 needs schedule: interleaved, not "
       "1f1b"},
      {{"parallel.schedule=interleaved"},
       8,
       "--set parallel.schedule=interleaved: parallel.virtual_stages: schedule: interleaved needs virtual_stages of 2 "
       "or "
       "more; with 1 it is 1f1b"},
      {{"parallel.schedule=interleaved", "parallel.virtual_stages=2", "parallel.pipeline=1"},
       8,
       "--set parallel.pipeline=1: parallel.pipeline: schedule: interleaved needs pipeline of 2 or more; with one "
       "stage "
       "use 1f1b"},
      {{"parallel.schedule=interleaved", "parallel.virtual_stages=2"}, 8, ""},
      {{"parallel.schedule=interleaved", "parallel.virtual_stages=2", "train.global_batch=12"},
       8,
       "--set train.global_batch=12: train.global_batch: schedule: interleaved needs a multiple of pipeline = 2 "
       "micro-batches per replica, not 3; the nearest global_batch is 8 or 16"},
  };
  check_cases(cases);
}

TEST_CASE("the degrees multiply to the ranks of the job") {
  const Case cases[] = {
      {{"parallel.data=3", "train.global_batch=18"},
       8,
       "--set parallel.data=3: parallel.data: pipeline 2 x tensor 2 x data 3 = 12 ranks, but the job has 8; start 12, "
       "or "
       "set parallel.data to 2 or auto"},
      {{"parallel.tensor=4"},
       8,
       "c.yaml:2:22: parallel.data: pipeline 2 x tensor 4 x data 1 = 8 ranks, but the job has 9; start 8, or another "
       "multiple of 8 with parallel.data: auto"},
      {{"parallel.data=2"}, 0, ""},
      {{"parallel.pipeline=4", "parallel.tensor=1", "parallel.data=300000"},
       0,
       "--set parallel.data=300000: parallel.data: 300000 is out of range: data must be from 1 to 65536 (ranks), or "
       "auto"},
  };
  CHECK(error_of(kLegal, 8, cases[0].overrides) == cases[0].message);
  CHECK(error_of(kLegal, 9, cases[1].overrides) == cases[1].message);
  CHECK(error_of(kLegal, 0, cases[2].overrides).empty());
  CHECK(error_of("parallel: {pipeline: 128, data: 16384}\ntrain: {global_batch: 16384}\nmodel: {layers: 128}\n") ==
        "c.yaml:1:33: parallel.data: pipeline 128 x tensor 1 x data 16384 = 2097152 ranks; more than 1048576 are not "
        "meant");
}

TEST_CASE("the batch divides into micro-batches over the replicas") {
  const Case cases[] = {
      {{"train.global_batch=30"},
       8,
       "--set train.global_batch=30: train.global_batch: global_batch = 30 is not a multiple of micro_batch = 2 x data "
       "= "
       "2 (4); the nearest are 28 or 32"},
      {{"train.micro_batch=16"},
       8,
       "c.yaml:3:35: train.global_batch: global_batch = 16 is not a multiple of micro_batch = 16 x data = 2 (32); the "
       "nearest are 32"},
      {{"train.micro_batch=65536", "model.context=65536", "train.global_batch=131072"},
       8,
       "--set train.micro_batch=65536: train.micro_batch: micro_batch = 65536 x context = 65536 is more than "
       "2147483648 "
       "tokens; lower micro_batch, global_batch stays"},
      {{"parallel.sequence=true", "model.context=31", "train.micro_batch=1"},
       8,
       "--set parallel.sequence=true: parallel.sequence: micro_batch = 1 x context = 31 = 31 tokens can't be split "
       "over "
       "tensor = 2 ranks; set parallel.sequence: false, or a multiple such as 30 or 32"},
      {{"parallel.sequence=true"}, 8, ""},
  };
  check_cases(cases);
}

TEST_CASE("the learning rate makes sense, and no key of it is without effect") {
  const Case cases[] = {
      {{"optimizer.min_lr=1e-2", "optimizer.lr=1e-3"},
       8,
       "--set optimizer.min_lr=1e-2: optimizer.min_lr: min_lr = 0.01 is above lr = 0.001"},
      {{"optimizer.schedule=constant", "optimizer.min_lr=1e-6"},
       8,
       "--set optimizer.min_lr=1e-6: optimizer.min_lr: min_lr has no effect with schedule: constant; remove it or "
       "choose "
       "another schedule"},
      {{"optimizer.schedule=constant", "optimizer.decay_steps=5"},
       8,
       "--set optimizer.decay_steps=5: optimizer.decay_steps: decay_steps has no effect with schedule: constant; "
       "remove "
       "it or choose another schedule"},
      {{"optimizer.schedule=constant", "optimizer.warmup_steps=500"}, 8, ""},
      {{"optimizer.warmup_steps=101"},
       8,
       "--set optimizer.warmup_steps=101: optimizer.warmup_steps: warmup_steps = 101 is more than decay_steps = 100 "
       "(train.steps unless set)"},
      {{"optimizer.stable_fraction=0.5"},
       8,
       "--set optimizer.stable_fraction=0.5: optimizer.stable_fraction: stable_fraction has no effect with schedule: "
       "cosine; remove it or set schedule: wsd"},
      {{"optimizer.stable_fraction=0.5", "optimizer.schedule=wsd"}, 8, ""},
  };
  check_cases(cases);
}

TEST_CASE("the data is there and fits the model") {
  const Case cases[] = {
      {{"data.train=[]"}, 8, ""},  // generation needs none; `train` refuses
      {{"data.train=[{path: a}, {weight: 2}]"},
       8,
       "--set data.train=[{path: a}, {weight: 2}]: data.train[1].path: path is missing; give the prefix of a .bin/.idx "
       "pair"},
      {{"data.valid=[{path: a, weight: 0}]"},
       8,
       "--set data.valid=[{path: a, weight: 0}]: data.valid: every weight is 0; nothing would be read"},
      {{"data.eval_every=10"},
       8,
       "--set data.eval_every=10: data.eval_every: eval_every = 10 needs data.valid; add `valid: [{path: PREFIX}]`"},
      {{"data.tokenizer.path=x"},
       8,
       "--set data.tokenizer.path=x: data.tokenizer.path: has no effect with kind: byte; remove it"},
      {{"model.vocab=256"},
       8,
       "--set model.vocab=256: model.vocab: vocab = 256 is less than the 257 ids of the byte tokenizer; set it to 257, "
       "or tokenizer: {kind: none}"},
      {{"model.vocab=256", "data.tokenizer.kind=none"}, 8, ""},
  };
  check_cases(cases);
}

TEST_CASE("attention by cuDNN is asked for where cuDNN can be") {
  const Case cases[] = {
      {{"train.attention_kernel=cudnn"},
       8,
       "--set train.attention_kernel=cudnn: train.attention_kernel: cudnn runs on device: cuda, not on cpu; set it to "
       "auto or own"},
      {{"device=cuda", "train.attention_kernel=cudnn", "train.precision=fp32"},
       8,
       "--set train.attention_kernel=cudnn: train.attention_kernel: cuDNN's attention takes 16-bit numbers, not fp32; "
       "set it to auto or own, or precision to bf16"},
      {{"device=cuda", "train.attention_kernel=cudnn", "model.dropout=0.1"},
       8,
       "--set train.attention_kernel=cudnn: train.attention_kernel: cuDNN's dropout would draw other elements than "
       "every other device; set it to auto or own, or dropout to 0"},
      {{"device=cuda", "train.attention_kernel=cudnn"}, 8, ""},
      {{"train.attention_kernel=own"}, 8, ""},
      {{"log.profile=true"}, 8, ""},
      {{"device=simt", "log.profile=true"},
       8,
       "--set log.profile=true: log.profile: a profile is of device: cpu, not of simt, where a step's time is not its "
       "caller's; set it to false, and look at a GPU's steps with `nsys profile`"},
  };
  check_cases(cases);
}

TEST_CASE("the name can name a directory") {
  for (const char* bad : {"a/b", ".hidden", "\"\""}) {
    CHECK(error_of(kLegal, 8, {"name=" + std::string(bad)}).find("it names a directory") != std::string::npos);
  }
}

TEST_CASE("a place in the file is the value's, not the line's beginning") {
  CHECK(error_of("model: {heads: 12, hidden: 100}\n").find("c.yaml:1:28: model.hidden: ") == 0);
  // A key that is not set is pointed at by the one that is, or by its section.
  CHECK(error_of("train: {micro_batch: 3}\n").find("c.yaml:1:22: train.global_batch: ") == 0);
}

TEST_CASE("the problems of a config made in C++ name their keys") {
  Config c;
  c.model.heads = 5;
  resolve(c, 0);
  const std::vector<Problem> problems = validate(c, 0);
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].keys[0] == "model.hidden");
}

}  // namespace trident
