// Parity with HuggingFace transformers (tests/oracle): the way a user goes, import -> load -> a batch of a dataset,
// gives the loss, logits and gradients that PyTorch recorded.
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/support.h"
#include "core/checkpoint/hf_layout.h"
#include "core/checkpoint/huggingface.h"
#include "core/run/run.h"
#include "run/oracle.h"

namespace trident::testing {
namespace {

/// Gradients of the mean loss by logical name, each tensor once.
std::map<std::string, std::vector<float>> mean_gradients(Run& run, int64_t valid_tokens) {
  std::map<std::string, std::vector<float>> gradients;
  const ZeroStore& store = run.engine().store;
  for (const int64_t block : store.blocks()) {
    const BlockLayout& layout = store.layout(block);
    for (size_t i = 0; i < layout.params.size(); ++i) {
      if (layout.params[i].spec.tied_copy) continue;
      const Tensor& grad = store.params(block).grad[i];
      std::vector<float>& values = gradients[layout.params[i].spec.name];
      values.assign(grad.as<float>(), grad.as<float>() + grad.numel());
      for (float& value : values) value /= static_cast<float>(valid_tokens);
    }
  }
  return gradients;
}

/// The gradients of a HuggingFace tensor's parts as it lies on disk.
std::vector<float> as_on_disk(const HfTensor& tensor, const std::map<std::string, std::vector<float>>& gradients) {
  std::vector<float> disk;
  if (!tensor.conv1d) {
    for (const HfPart& part : tensor.parts) {
      const std::vector<float>& values = gradients.at(part.name);
      disk.insert(disk.end(), values.begin(), values.end());
    }
    return disk;
  }
  const int64_t in = tensor.shape[0];
  for (int64_t i = 0; i < in; ++i) {
    for (const HfPart& part : tensor.parts) {
      for (int64_t row = 0; row < part.rows; ++row) disk.push_back(gradients.at(part.name)[row * in + i]);
    }
  }
  return disk;
}

/// |ours - theirs| / |theirs| in the 2-norm.
double relative_distance(const std::vector<float>& ours, const std::vector<float>& theirs) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < theirs.size(); ++i) {
    difference += std::pow(double{ours[i]} - double{theirs[i]}, 2);
    norm += std::pow(double{theirs[i]}, 2);
  }
  return std::sqrt(difference / norm);
}

void check_close(const char* what, double ours, double theirs, double bound) {
  INFO(what << " " << ours << ", recorded " << theirs);
  CHECK(std::abs(ours - theirs) <= bound * std::abs(theirs));
}

/// Where two tensors differ most, for the message.
std::string worst_element(const std::vector<float>& ours, const std::vector<float>& theirs) {
  size_t worst = 0;
  for (size_t i = 0; i < theirs.size(); ++i) {
    if (!(std::abs(ours[i] - theirs[i]) <= std::abs(ours[worst] - theirs[worst]))) worst = i;
  }
  return build_string("worst element ", worst, " of ", theirs.size(), ": ", ours[worst], ", recorded ", theirs[worst]);
}

void check_gradients(Run& run, const Oracle& oracle, int64_t valid_tokens, double bound) {
  const auto gradients = mean_gradients(run, valid_tokens);
  size_t parts = 0;
  for (const HfTensor& tensor : hf_layout(run.config().model)) {
    const std::vector<float> theirs = oracle.floats("grad." + tensor.name), ours = as_on_disk(tensor, gradients);
    REQUIRE(ours.size() == theirs.size());
    INFO(tensor.name << ": " << worst_element(ours, theirs));
    CHECK(relative_distance(ours, theirs) < bound);
    parts += tensor.parts.size();
  }
  CHECK(gradients.size() == parts);
}

}  // namespace

TEST_CASE("loss, gradient norm and every gradient agree with transformers", "[ranks=1]") {
  for (const std::string arch : {"gpt2", "llama"}) {
    const test::TempDir scratch;
    const Oracle oracle(arch);
    const std::string checkpoint = import_huggingface(oracle.directory(), scratch / "ckpt");
    const int64_t vocab = read_hf_model(oracle.directory()).model.vocab;
    const std::string dataset = oracle.write_dataset(0, scratch / "data", vocab);
    const std::unique_ptr<World> world = make_self_world();
    // 4: the batch at once. 1: four micro-batches accumulate.
    for (const int64_t micro_batch : {4, 1}) {
      INFO(arch << ", micro-batches of " << micro_batch);
      const Config config = recorded_config(oracle, checkpoint, dataset, scratch / "run", micro_batch);
      Run run(config, *world);
      CHECK(run.load(checkpoint).weights_only);
      const StepSums sums = run.gradients();
      CHECK(sums.valid_tokens == oracle.size("batch") * oracle.size("context"));
      check_close("loss", sums.loss(), oracle.floats("losses")[0], kLossBound);
      const double bound = derived_gradient_bound(config);
      check_close("gradient norm", sums.grad_norm(), oracle.floats("grad_norms")[0], bound);
      check_gradients(run, oracle, sums.valid_tokens, bound);
    }
  }
}

TEST_CASE("logits agree with transformers", "[ranks=1]") {
  for (const std::string arch : {"gpt2", "llama"}) {
    const test::TempDir scratch;
    const Oracle oracle(arch);
    const std::string checkpoint = import_huggingface(oracle.directory(), scratch / "ckpt");
    const int64_t context = oracle.size("context"), batch = oracle.size("batch");
    Config config = recorded_config(oracle, checkpoint, "", scratch / "run", batch);
    config.data.train.clear();
    const std::unique_ptr<World> world = make_self_world();
    Run run(config, *world);
    run.load(checkpoint);

    const std::vector<int32_t> rows = oracle.tokens(0), at = oracle.ints("logits_at");
    Batch inputs{.sequences = batch, .context = context};
    for (int64_t s = 0; s < batch; ++s) {
      const auto first = rows.begin() + s * (context + 1);
      inputs.tokens.insert(inputs.tokens.end(), first, first + context);
      inputs.targets.insert(inputs.targets.end(), first + 1, first + 1 + context);
    }
    std::vector<float> ours;
    for (size_t i = 0; i < at.size(); i += 2) {
      const int64_t row = at[i] * context + at[i + 1];
      const std::vector<float> logits = run.logits(inputs, {&row, 1});
      ours.insert(ours.end(), logits.begin(), logits.end());
    }
    const std::vector<float> theirs = oracle.floats("logits");
    REQUIRE(ours.size() == theirs.size());
    INFO(arch << ": " << worst_element(ours, theirs));
    // A forward pass is about a third of what the bound of the gradients allows for.
    CHECK(relative_distance(ours, theirs) < derived_gradient_bound(config) / 3);
  }
}

}  // namespace trident::testing
