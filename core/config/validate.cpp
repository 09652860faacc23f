#include "core/config/validate.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/config/support.h"
#include "core/config/text.h"

namespace trident {

namespace {

constexpr int64_t kMaxRanks = int64_t{1} << 20;
constexpr int64_t kMaxMicroTokens = int64_t{1} << 31;

/// The nearest multiples of `step` around a number that is not one: "24 or 32".
std::string nearest_multiples(int64_t value, int64_t step) {
  const int64_t below = value / step * step;
  return below > 0 ? build_string(below, " or ", below + step) : std::to_string(step);
}

/// The divisors of `value`, at most 12 of them, those nearest to `wanted`.
std::string divisors_text(int64_t value, int64_t wanted) {
  std::vector<int64_t> divisors;
  for (int64_t d = 1; d <= value && d <= 65536; ++d) {
    if (value % d == 0) divisors.push_back(d);
  }
  std::stable_sort(divisors.begin(), divisors.end(),
                   [&](int64_t a, int64_t b) { return std::abs(a - wanted) < std::abs(b - wanted); });
  if (divisors.size() > 12) divisors.resize(12);
  std::sort(divisors.begin(), divisors.end());
  std::vector<std::string> texts;
  for (const int64_t d : divisors) texts.push_back(std::to_string(d));
  return join(texts);
}

/// Collects the problems of one config.
class Checker {
 public:
  Checker(const Config& config, int ranks) : c_(config), ranks_(ranks) {}

  std::vector<Problem> run() {
    check_names();
    check_heads();
    check_model();
    check_pipeline();
    check_ranks();
    check_batch();
    check_zero();
    check_optimizer();
    check_kernels();
    check_log();
    check_data();
    for (Problem& p : unsupported(c_)) problems_.push_back(std::move(p));
    return std::move(problems_);
  }

 private:
  template <class... Args>
  void fail(std::vector<std::string> keys, const Args&... message) {
    problems_.push_back({std::move(keys), build_string(message...)});
  }

  void check_names() {
    const std::string& name = c_.name;
    if (name.empty() || name.find('/') != std::string::npos || name[0] == '.') {
      fail({"name"}, "the name ", quoted(name), " must not be empty, begin with '.' or hold '/': it names a directory");
    }
  }

  /// A count that the tensor ranks share must divide by them.
  void check_shared(const char* key, int64_t count, std::vector<std::string> also) {
    const int tensor = c_.parallel.tensor;
    if (count % tensor == 0) return;
    std::vector<std::string> keys = {key, "parallel.tensor"};
    keys.insert(keys.end(), also.begin(), also.end());
    fail(keys, count, " can't be shared by parallel.tensor = ", tensor, " ranks; the nearest are ",
         nearest_multiples(count, tensor), ", or parallel.tensor one of ", divisors_text(count, tensor));
  }

  void check_heads() {
    const ModelConfig& m = c_.model;
    check_shared("model.heads", m.heads, {});
    // With as many kv_heads as heads the line above has said it.
    if (m.kv_heads != m.heads) check_shared("model.kv_heads", m.kv_heads, {});
    if (m.heads % m.kv_heads != 0) {
      fail({"model.kv_heads", "model.heads"}, "kv_heads = ", m.kv_heads, " does not divide heads = ", m.heads,
           "; legal are ", divisors_text(m.heads, m.kv_heads));
    }
    if (m.head_dim == 0) {
      fail({"model.hidden", "model.heads", "model.head_dim"}, "hidden = ", m.hidden,
           " does not divide by heads = ", m.heads, "; the nearest hidden is ", nearest_multiples(m.hidden, m.heads),
           ", or set head_dim");
    } else if (m.position == Position::rope && m.head_dim % 2 != 0) {
      fail({"model.head_dim", "model.hidden", "model.heads", "model.position", "model.arch"}, "head_dim = ", m.head_dim,
           " is odd, but rotary positions turn pairs of elements; the nearest are ",
           m.head_dim - 1 > 0 ? m.head_dim - 1 : 2, " or ", m.head_dim + 1);
    }
  }

  void check_model() {
    const ModelConfig& m = c_.model;
    check_shared("model.ffn_hidden", m.ffn_hidden, {"model.hidden", "model.activation", "model.arch"});
    if (m.max_positions < m.context) {
      fail({"model.max_positions", "model.context"}, "max_positions = ", m.max_positions,
           " is less than context = ", m.context, "; set it to ", m.context, " or more");
    }
    if (m.position != Position::rope && m.rope_theta != ModelConfig{}.rope_theta) {
      fail({"model.rope_theta", "model.position", "model.arch"}, "has no effect with position: ", enum_name(m.position),
           "; remove it or set position: rope");
    }
  }

  void check_pipeline() {
    const ParallelConfig& p = c_.parallel;
    const std::vector<std::string> keys = {"parallel.virtual_stages", "parallel.schedule", "parallel.pipeline"};
    if (p.schedule != Schedule::interleaved && p.virtual_stages > 1) {
      fail(keys, "virtual_stages = ", p.virtual_stages, " needs schedule: interleaved, not ", enum_name(p.schedule));
    }
    if (p.schedule == Schedule::interleaved && p.virtual_stages < 2) {
      fail(keys, "schedule: interleaved needs virtual_stages of 2 or more; with 1 it is 1f1b");
    }
    if (p.schedule == Schedule::interleaved && p.pipeline < 2) {
      fail({"parallel.pipeline", "parallel.schedule"},
           "schedule: interleaved needs pipeline of 2 or more; with one stage use 1f1b");
    }
    const int64_t chunks = int64_t{p.pipeline} * p.virtual_stages;
    if (c_.model.layers < chunks) {
      fail({"model.layers", "parallel.pipeline", "parallel.virtual_stages"}, c_.model.layers,
           " layers can't fill pipeline = ", p.pipeline, " x virtual_stages = ", p.virtual_stages, " = ", chunks,
           " chunks; have ", chunks, " layers or more, or fewer stages");
    }
  }

  void check_log() {
    if (!c_.log.profile || c_.device == DeviceKind::cpu) return;
    fail({"log.profile", "device"}, "a profile is of device: cpu, not of ", enum_name(c_.device),
         ", where a step's time is not its caller's; set it to false, and look at a GPU's steps with `nsys profile`");
  }

  /// What is known before a GPU is asked; kernels/attention_kernel.h has the rest.
  void check_kernels() {
    if (c_.train.attention_kernel != AttentionSource::cudnn) return;
    if (c_.device != DeviceKind::cuda) {
      fail({"train.attention_kernel", "device"}, "cudnn runs on device: cuda, not on ", enum_name(c_.device),
           "; set it to auto or own");
    }
    if (c_.train.precision == Precision::fp32) {
      fail({"train.attention_kernel", "train.precision"},
           "cuDNN's attention takes 16-bit numbers, not fp32; set it to auto or own, or precision to bf16");
    }
    if (c_.model.dropout > 0) {
      fail({"train.attention_kernel", "model.dropout"},
           "cuDNN's dropout would draw other elements than every other device; set it to auto or own, or dropout to 0");
    }
  }

  void check_ranks() {
    const ParallelConfig& p = c_.parallel;
    // context and expert axes above 1 are refused by support.cpp; the product counts them all the same.
    const int64_t replica = int64_t{p.pipeline} * p.tensor * p.context;
    const int64_t product = replica * p.data;
    const std::vector<std::string> keys = {"parallel.data", "parallel.pipeline", "parallel.tensor", "parallel.context"};
    const std::string degrees = build_string("pipeline ", p.pipeline, " x tensor ", p.tensor,
                                             p.context > 1 ? build_string(" x context ", p.context) : "", " x data ",
                                             p.data, " = ", product, product == 1 ? " rank" : " ranks");
    if (product > kMaxRanks) {
      fail(keys, degrees, "; more than ", kMaxRanks, " are not meant");
    } else if (ranks_ > 0 && product != ranks_) {
      const std::string by_data = ranks_ % replica == 0
                                      ? build_string("set parallel.data to ", ranks_ / replica, " or auto")
                                      : build_string("another multiple of ", replica, " with parallel.data: auto");
      fail(keys, degrees, ", but the job has ", ranks_, "; start ", product, ", or ", by_data);
    }
  }

  void check_batch() {
    const TrainConfig& t = c_.train;
    const ParallelConfig& p = c_.parallel;
    const int64_t together = t.micro_batch * p.data;
    const std::vector<std::string> keys = {"train.global_batch", "train.micro_batch", "parallel.data",
                                           "parallel.pipeline", "parallel.tensor"};
    if (t.global_batch % together != 0) {
      fail(keys, "global_batch = ", t.global_batch, " is not a multiple of micro_batch = ", t.micro_batch,
           " x data = ", p.data, " (", together, "); the nearest are ", nearest_multiples(t.global_batch, together));
    } else if (p.schedule == Schedule::interleaved && (t.global_batch / together) % p.pipeline != 0) {
      fail({"train.global_batch", "train.micro_batch", "parallel.data", "parallel.schedule", "parallel.pipeline"},
           "schedule: interleaved needs a multiple of pipeline = ", p.pipeline, " micro-batches per replica, not ",
           t.global_batch / together, "; the nearest global_batch is ",
           nearest_multiples(t.global_batch, together * p.pipeline));
    }
    const int64_t tokens = t.micro_batch * c_.model.context;
    if (tokens > kMaxMicroTokens) {
      fail({"train.micro_batch", "model.context"}, "micro_batch = ", t.micro_batch, " x context = ", c_.model.context,
           " is more than ", kMaxMicroTokens, " tokens; lower micro_batch, global_batch stays");
    } else if (p.sequence && tokens % p.tensor != 0) {
      fail({"parallel.sequence", "parallel.tensor", "train.micro_batch", "model.context"},
           "micro_batch = ", t.micro_batch, " x context = ", c_.model.context, " = ", tokens,
           " tokens can't be split over tensor = ", p.tensor,
           " ranks; set parallel.sequence: false, or a multiple such as ", nearest_multiples(tokens, p.tensor));
    }
  }

  void check_zero() {
    if (c_.train.offload_activations != Offload::none && c_.train.recompute != Recompute::full) {
      fail({"train.offload_activations", "train.recompute"},
           "is for the inputs of layers that recompute: full keeps; with ", enum_name(c_.train.recompute),
           " set train.recompute: full, or remove it");
    }
    const ZeroConfig& z = c_.zero;
    const std::vector<std::string> group_keys = {"zero.shard_group", "parallel.data", "zero.stage"};
    if (z.shard_group > 0 && z.stage == 0) {
      fail(group_keys, "stage 0 has no shards to share out; set zero.stage to 1, 2 or 3, or remove shard_group");
    } else if (z.shard_group > 0 && c_.parallel.data % z.shard_group != 0) {
      fail(group_keys, z.shard_group, " does not divide data = ", c_.parallel.data, "; legal are ",
           divisors_text(c_.parallel.data, z.shard_group));
    }
    if (z.keep_gathered && z.stage != 3) {
      fail({"zero.keep_gathered", "zero.stage"}, "has no effect with stage ", z.stage,
           ", which gathers nothing in a step; remove it or set zero.stage: 3");
    }
    const bool files = z.offload == Offload::nvme || z.offload_parameters == Offload::nvme;
    if (files && z.nvme_path.empty()) {
      const bool states = z.offload == Offload::nvme;
      fail({"zero.nvme_path", states ? "zero.offload" : "zero.offload_parameters"},
           states ? "offload" : "offload_parameters",
           ": nvme needs a directory on a fast local disk; set zero.nvme_path");
    }
    if (!files && !z.nvme_path.empty()) {
      fail({"zero.nvme_path", "zero.offload"}, "has no effect with offload: ", enum_name(z.offload),
           "; remove it or set zero.offload: nvme");
    }
    if (z.delayed_update && z.offload == Offload::none) {
      fail({"zero.delayed_update", "zero.offload"},
           "is for an update beside the device; set zero.offload: host or nvme, or remove it");
    }
    if (z.offload_parameters == Offload::none) return;
    if (z.stage != 3) {
      fail({"zero.offload_parameters", "zero.stage"}, "offloads the shards of the weights, which stage ", z.stage,
           " does not make; set zero.stage: 3 (it works on one data rank, too), or remove it");
    }
    if (z.offload == Offload::none) {
      fail({"zero.offload_parameters", "zero.offload"},
           "needs the update where the weights are; set zero.offload: host, or remove it");
    }
  }

  void check_optimizer() {
    const OptimizerConfig& o = c_.optimizer;
    if (o.min_lr > o.lr) {
      fail({"optimizer.min_lr", "optimizer.lr"}, "min_lr = ", format_number(o.min_lr),
           " is above lr = ", format_number(o.lr));
    }
    if (o.schedule == LrSchedule::constant) {
      const char* remedy = " has no effect with schedule: constant; remove it or choose another schedule";
      if (o.min_lr != 0) fail({"optimizer.min_lr", "optimizer.schedule"}, "min_lr", remedy);
      if (o.decay_steps != 0) fail({"optimizer.decay_steps", "optimizer.schedule"}, "decay_steps", remedy);
    } else if (o.warmup_steps > o.decay_steps) {
      fail({"optimizer.warmup_steps", "optimizer.decay_steps", "train.steps", "optimizer.schedule"},
           "warmup_steps = ", o.warmup_steps, " is more than decay_steps = ", o.decay_steps,
           " (train.steps unless set)");
    }
    if (o.schedule != LrSchedule::wsd && o.stable_fraction != OptimizerConfig{}.stable_fraction) {
      fail({"optimizer.stable_fraction", "optimizer.schedule"},
           "stable_fraction has no effect with schedule: ", enum_name(o.schedule), "; remove it or set schedule: wsd");
    }
  }

  void check_sources(const std::string& key, const std::vector<DataSourceConfig>& sources) {
    double total = 0;
    for (size_t i = 0; i < sources.size(); ++i) {
      const std::string element = build_string(key, "[", i, "]");
      if (sources[i].path.empty()) {
        fail({element + ".path", element}, "path is missing; give the prefix of a .bin/.idx pair");
      }
      total += sources[i].weight;
    }
    if (!sources.empty() && !(total > 0)) fail({key, key + "[0].weight"}, "every weight is 0; nothing would be read");
  }

  void check_data() {
    const DataConfig& d = c_.data;
    check_sources("data.train", d.train);
    check_sources("data.valid", d.valid);
    if (d.eval_every > 0 && d.valid.empty()) {
      fail({"data.eval_every", "data.valid"}, "eval_every = ", d.eval_every,
           " needs data.valid; add `valid: [{path: PREFIX}]`");
    }
    const TokenizerKind kind = d.tokenizer.kind;
    if (!d.tokenizer.path.empty() && (kind == TokenizerKind::byte || kind == TokenizerKind::none)) {
      fail({"data.tokenizer.path", "data.tokenizer.kind"}, "has no effect with kind: ", enum_name(kind), "; remove it");
    }
    constexpr int64_t kByteIds = 257;
    if (kind == TokenizerKind::byte && c_.model.vocab < kByteIds) {
      fail({"model.vocab", "data.tokenizer.kind"}, "vocab = ", c_.model.vocab, " is less than the ", kByteIds,
           " ids of the byte tokenizer; set it to ", kByteIds, ", or tokenizer: {kind: none}");
    }
  }

  const Config& c_;
  const int ranks_;
  std::vector<Problem> problems_;
};

}  // namespace

std::vector<Problem> validate(const Config& config, int ranks) { return Checker(config, ranks).run(); }

}  // namespace trident
