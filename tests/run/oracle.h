// What the parity tests share: the recordings of HuggingFace transformers (tests/oracle), a config of their recipe, and
// the bounds that hold for equal weights.
//
// Both sides compute in f32 and differ in the order of their sums. Gradients: gradient_bound (core/run/verify.h) is
// derived for exactly that and lies below the 1e-4 that the project promises. Losses are means of positive terms and
// differ by a few roundings: 1e-5 promised, kLossBound checked.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/checkpoint/manifest.h"
#include "core/checkpoint/shard_file.h"
#include "core/config/load.h"
#include "core/data/indexed_writer.h"
#include "core/run/verify.h"
#include "support/catch.h"

namespace trident::testing {

inline constexpr double kLossBound = 1e-6;  // relative, same weights

/// What generate.py recorded for one architecture.
class Oracle {
 public:
  explicit Oracle(const std::string& arch)
      : directory_(TRIDENT_SOURCE_DIR "/tests/oracle/fixtures/" + arch), file_(directory_ + "/oracle.safetensors") {
    std::ifstream in(directory_ + "/recipe.json");
    recipe_ = nlohmann::json::parse(in);
  }

  const std::string& directory() const { return directory_; }
  const nlohmann::json& recipe() const { return recipe_; }
  int64_t size(const char* key) const { return recipe_[key].get<int64_t>(); }

  std::vector<float> floats(const std::string& name) const { return read<float>(name); }
  std::vector<int32_t> ints(const std::string& name) const { return read<int32_t>(name); }

  /// The tokens [batch, context + 1] of a step.
  std::vector<int32_t> tokens(int64_t step) const {
    const std::vector<int32_t> all = ints("tokens");
    const int64_t count = size("batch") * (size("context") + 1);
    return {all.begin() + step * count, all.begin() + (step + 1) * count};
  }

  /// A dataset whose one epoch is the batch of this step: the sequences overlap by one token, as samples do.
  std::string write_dataset(int64_t step, const std::string& prefix, int64_t vocab) const {
    const std::vector<int32_t> rows = tokens(step);
    const int64_t context = size("context"), batch = size("batch");
    IndexedDatasetWriter writer(prefix, vocab);
    for (int64_t s = 0; s < batch; ++s) {
      const auto first = rows.begin() + s * (context + 1);
      writer.append(std::vector<int32_t>(first, first + context + (s + 1 == batch ? 1 : 0)));
    }
    writer.finish();
    return prefix;
  }

 private:
  template <class T>
  std::vector<T> read(const std::string& name) const {
    const ShardTensor& tensor = file_.find(name);
    std::vector<T> values(static_cast<size_t>(tensor.numel()));
    file_.read(tensor, Tensor(values.data(), DTypeOf<T>::value, {tensor.numel()}));
    return values;
  }

  std::string directory_;
  ShardFileReader file_;
  nlohmann::json recipe_;
};

/// The imported checkpoint's config with the recording's recipe.
inline Config recorded_config(const Oracle& oracle, const std::string& checkpoint, const std::string& dataset,
                              const std::string& out, int64_t micro_batch) {
  Config config = parse_config(read_manifest(checkpoint).meta.config, "manifest").config;
  const nlohmann::json& adamw = oracle.recipe()["adamw"];
  config.model.context = oracle.size("context");
  config.train.precision = Precision::fp32;
  config.train.global_batch = oracle.size("batch");
  config.train.micro_batch = micro_batch;
  config.train.grad_clip = adamw["clip_norm"].get<double>();
  config.optimizer.schedule = LrSchedule::constant;
  config.optimizer.lr = adamw["lr"].get<double>();
  config.optimizer.betas = adamw["betas"].get<std::array<double, 2>>();
  config.optimizer.eps = adamw["eps"].get<double>();
  config.optimizer.weight_decay = adamw["weight_decay"].get<double>();
  config.optimizer.warmup_steps = 0;
  config.data.train = {{.path = dataset}};
  config.checkpoint.async = false;
  config.out = out;
  return config;
}

inline double derived_gradient_bound(const Config& config) {
  const int64_t largest_sum =
      std::max({config.train.global_batch * config.model.context, config.model.vocab, config.model.ffn_hidden});
  const double bound = gradient_bound(DType::f32, config.model.layers, largest_sum);
  REQUIRE(bound < 1e-4);
  return bound;
}

}  // namespace trident::testing
