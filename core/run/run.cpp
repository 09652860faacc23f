#include "core/run/run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <exception>
#include <limits>
#include <span>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/comm/nccl_comm.h"
#include "core/config/dump.h"
#include "core/data/blend.h"
#include "core/device/cuda_device.h"
#include "core/model/attention.h"
#include "core/plan/settings.h"
#include "core/run/bad_step.h"
#include "kernels/cpu/cpu_ops.h"

namespace trident {
namespace {

std::unique_ptr<DataSource> open_data(const std::vector<DataSourceConfig>& sources, const Config& c) {
  if (sources.empty()) return nullptr;
  std::vector<DatasetEntry> entries;
  for (const DataSourceConfig& s : sources) entries.push_back({.path = s.path, .weight = s.weight});
  return make_data_source(entries, {.context = c.model.context,
                                    .global_batch = c.train.global_batch,
                                    .micro_batch = c.train.micro_batch,
                                    .dp = c.parallel.data,
                                    .vocab = c.model.vocab,
                                    .seed = static_cast<uint64_t>(c.train.seed)});
}

LrPolicy lr_policy_of(const OptimizerConfig& o) {
  constexpr LrShape kShapes[] = {LrShape::constant, LrShape::linear, LrShape::cosine, LrShape::wsd};
  return {.shape = kShapes[static_cast<size_t>(o.schedule)],
          .lr = o.lr,
          .min_lr = o.min_lr,
          .warmup_steps = o.warmup_steps,
          .decay_steps = o.decay_steps,
          .stable_fraction = o.stable_fraction};
}

CheckpointOptions checkpoint_options_of(const Config& c) {
  constexpr int kAll = std::numeric_limits<int>::max();
  return {.root = c.out + "/checkpoints",
          .keep = c.checkpoint.keep == 0 ? kAll : static_cast<int>(std::min<int64_t>(c.checkpoint.keep, kAll)),
          .async = c.checkpoint.async};
}

int64_t counter(const CheckpointMeta& meta, const char* name, int64_t otherwise) {
  const auto found = meta.counters.find(name);
  return found == meta.counters.end() ? otherwise : found->second;
}

// How far the probe's loss may move between save and load. Loss is a mean of f32 log-probabilities: in f32 another grid
// only reorders sums; with bf16 anywhere, weights and activations carry a relative error of 2^-8 each.
double probe_bound(Precision saved, Precision loaded) {
  return saved == Precision::fp32 && loaded == Precision::fp32 ? 1e-5 : 0x1p-6;
}

}  // namespace

std::unique_ptr<Device> make_device(DeviceKind kind, const World& world, AttentionSource attention,
                                    ByteSize device_limit, OpObserver* observer) {
  const auto limit = static_cast<size_t>(device_limit.bytes);
  switch (kind) {
    case DeviceKind::cpu:
      return make_cpu_device(limit, observer == nullptr ? nullptr : make_observed_ops(make_cpu_ops(), *observer));
    case DeviceKind::cuda:
      if (cuda_build() == CudaBuild::emulated)
        throw UserError("device: cuda is not in trident-simt, which emulates it: use trident, or device: simt");
      break;
    case DeviceKind::simt:
      if (cuda_build() != CudaBuild::emulated)
        throw UserError(
            "device: simt runs in a binary of its own, trident-simt, which lies beside this one (scripts/build.sh "
            "release --target trident-simt builds it)");
      break;
  }
  return make_cuda_device(world.local_rank(), world.local_size(), attention_kernel_of(attention), limit);
}

Run::Run(const Config& config, World& world)
    : config_(config),
      world_(world),
      device_(make_device(config.device, world, config.train.attention_kernel, config.memory.device_limit,
                          config.log.profile ? &tracer_ : nullptr)),
      device_world_(config.device == DeviceKind::cpu
                        ? nullptr
                        : make_nccl_world(world, *device_, std::chrono::duration<double>(config.comm.timeout))),
      grid_(make_grid(device_world_ ? *device_world_ : world, topology_of(config.parallel, config.zero))),
      train_data_(open_data(config.data.train, config)),
      valid_data_(open_data(config.data.valid, config)),
      engine_(std::make_unique<Engine>(engine_options_of(config), *device_, grid_, world.ledger())),
      lr_policy_(lr_policy_of(config.optimizer)),
      guard_(config.train.max_bad_steps),
      state_(std::make_unique<StatePieces>(engine_->store, engine_->state)),
      writer_(std::make_unique<CheckpointWriter>(checkpoint_options_of(config), *grid_.world)) {}

Run::~Run() {
  if (std::uncaught_exceptions() > 0 && world_.size() > 1) {
    // This rank failed; others may wait for it in a collective that its streams wait in, too. Whoever catches ends the
    // job; until then the memory and communicators those streams use must stay, so they are left behind.
    (void)new Grid(std::move(grid_));
    (void)engine_.release();
    (void)device_world_.release();
    (void)device_.release();
    return;
  }
  try {
    for (const Role role : {Role::comm, Role::send, Role::upload, Role::download, Role::host})
      device_->synchronize(device_->stream(role));
  } catch (const std::exception& e) {
    log::error(e.what());
  }
}

void Run::initialize() {
  engine_->optimizer.initialize(static_cast<uint64_t>(config_.train.seed), device_->stream(Role::compute));
}

StartReport Run::load(const std::string& checkpoint, Checksums checksums) {
  CheckpointReader reader(checkpoint, checksums);
  const CheckpointMeta& meta = reader.manifest().meta;
  StartReport report{.checkpoint = checkpoint};
  report.weights_only = !load_state(engine_->store, engine_->state, *device_, reader);
  if (!report.weights_only) {
    step_ = meta.step;
    updates_ = counter(meta, "updates", meta.step);
    skipped_ = counter(meta, "skipped_steps", 0);
    tokens_ = counter(meta, "tokens", 0);
    engine_->optimizer.set_updates(updates_, device_->stream(Role::compute));
  }
  if (world_.rank() == 0 && train_data_ &&
      counter(meta, "dataset_tokens", train_data_->tokens()) != train_data_->tokens()) {
    log::warn(build_string("data.train holds ", train_data_->tokens(), " tokens, it held ",
                           counter(meta, "dataset_tokens", 0), " when ", checkpoint,
                           " was written: samples seen before may come again"));
  }
  check_probe(reader.manifest(), report);
  return report;
}

void Run::check_probe(const Manifest& manifest, StartReport& report) {
  const auto& probe = manifest.meta.probe;
  if (!probe) return;
  if (probe->context != config_.model.context || probe->sequences > config_.train.micro_batch) {
    log::info(build_string("the stored probe batch is ", probe->sequences, " x ", probe->context,
                           " tokens and does not fit this config's micro-batch: its loss is not checked"));
    return;
  }
  report.probe_expected = probe->loss;
  report.probe_found = probe_loss(*probe);
  const auto saved = manifest.meta.labels.find("precision");
  const Precision precision = saved != manifest.meta.labels.end() && saved->second == enum_name(Precision::fp32)
                                  ? Precision::fp32
                                  : Precision::bf16;
  const double bound = probe_bound(precision, config_.train.precision);
  if (!(std::abs(*report.probe_found - probe->loss) <= bound * std::abs(probe->loss))) {
    throw RunError(build_string("the probe batch stored in ", report.checkpoint, " has a loss of ", *report.probe_found,
                                " after loading, ", probe->loss, " when it was saved (allowed: ", bound,
                                " relative): the model section of the config differs from the checkpoint's, or this "
                                "build computes another model"));
  }
}

double Run::mean_loss(const LossSum& mine) {
  const double sums[2] = {mine.loss, static_cast<double>(mine.tokens)};
  double loss = 0, tokens = 0;
  for (const auto& bytes : grid_.world->all_gather_bytes(std::as_bytes(std::span(sums)))) {
    double theirs[2];
    std::memcpy(theirs, bytes.data(), sizeof theirs);
    loss += theirs[0];
    tokens += theirs[1];
  }
  return loss / tokens;
}

double Run::probe_loss(const ProbeBatch& probe) {
  return mean_loss(engine_->executor.evaluate(
      Batch{.tokens = probe.tokens, .targets = probe.targets, .sequences = probe.sequences, .context = probe.context}));
}

void Run::submit_gradients(bool stop) {
  if (!train_data_) throw UserError("data.train is empty: name at least one dataset to train on");
  const Stream compute = device_->stream(Role::compute);
  engine_->store.zero_grads(compute);
  const StepLoss mine = engine_->executor.train(*train_data_, step_);
  const Range range(*device_, "reduce", step_ + 1);
  engine_->store.finish_grads(compute);
  engine_->optimizer.reduce(mine, stop, *grid_.world, compute);
}

StepSums Run::gradients() {
  ensure(in_flight_.empty(), "gradients are looked at between steps");
  submit_gradients(false);
  return engine_->optimizer.read();
}

void Run::submit_step(bool stop) {
  const Range whole(*device_, "step", step_ + 1);
  submit_gradients(stop);
  const Range range(*device_, "update", step_ + 1);
  const float lr = learning_rate(lr_policy_, step_ + 1);
  engine_->optimizer.update(step_ + 1, lr, static_cast<float>(config_.train.grad_clip), device_->stream(Role::compute));
  in_flight_.push_back({.step = ++step_, .lr = lr, .sums = std::nullopt});
}

StepReport Run::finish_step() {
  ensure(!in_flight_.empty(), "a step is finished after it was submitted");
  const Submitted first = std::move(in_flight_.front());
  in_flight_.pop_front();
  const StepSums sums = first.sums ? *first.sums : engine_->optimizer.read();
  StepReport report{.step = first.step,
                    .loss = sums.loss(),
                    .grad_norm = sums.grad_norm(),
                    .lr = first.lr,
                    .valid_tokens = sums.valid_tokens,
                    .applied = BadStepGuard::finite(sums.loss(), sums.grad_norm()),
                    .stop = sums.stop_votes > 0};
  tokens_ += sums.valid_tokens;
  if (report.applied) {
    guard_.good();
    ++updates_;
  } else {
    ++skipped_;
    explain_bad_step(report);
  }
  return report;
}

void Run::explain_bad_step(const StepReport& report) {
  // The search uses the optimizer's sums, too: what later steps left there is read first.
  for (Submitted& later : in_flight_) {
    if (!later.sums) later.sums = engine_->optimizer.read();
  }
  const BadStep bad =
      find_bad_tensor({.step = report.step, .loss = report.loss, .grad_norm = report.grad_norm}, *engine_, *device_,
                      grid_, *train_data_, report.step - 1, config_.train.micro_batch);
  if (world_.rank() == 0) log::warn(build_string(describe(bad), "; the step is not applied"));
  guard_.bad(bad);
}

StepReport Run::train_step(bool stop) {
  submit_step(stop);
  return finish_step();
}

double Run::evaluate() {
  if (!valid_data_) throw UserError("data.valid is empty: name at least one dataset to validate on");
  LossSum total;
  for (int64_t i = 0; i < config_.data.eval_batches; ++i) {
    const LossSum part = engine_->executor.evaluate(*valid_data_, i);
    total.loss += part.loss;
    total.tokens += part.tokens;
  }
  return mean_loss(total);
}

std::vector<float> Run::logits(const Batch& batch, std::span<const int64_t> rows) {
  // Empty but on the last stage.
  const std::vector<float> mine_NV = engine_->executor.logits(batch, rows);
  const auto bytes = grid_.pipeline->all_gather_bytes(std::as_bytes(std::span(mine_NV))).back();
  std::vector<float> out_NV(rows.size() * static_cast<size_t>(config_.model.vocab));
  ensure(bytes.size() == out_NV.size() * sizeof(float), "the last stage has the logits");
  std::memcpy(out_NV.data(), bytes.data(), bytes.size());
  return out_NV;
}

std::string Run::describe_attention() const {
  const ModelShape shape = model_shape_of(config_.model, config_.parallel);
  const Tensor qkv(nullptr, dtype_of(config_.train.precision),
                   {config_.train.micro_batch * shape.context, shape.local_qkv()}, Place::device);
  const std::string training = device_->ops().describe(attention_args(shape, qkv, shape.dropout));
  const std::string evaluation = device_->ops().describe(attention_args(shape, qkv, 0));
  return training == evaluation ? training : build_string(training, "; in evaluation ", evaluation);
}

std::vector<std::string> Run::describe_files() const {
  std::vector<std::string> files;
  if (const StateFile* const file = engine_->state.file()) files.push_back(file->describe());
  if (const ParameterFile* const file = engine_->store.parameter_file()) files.push_back(file->describe());
  return files;
}

void Run::save() {
  const Range range(*device_, "checkpoint", step_);
  engine_->state.settle(device_->stream(Role::compute));
  CheckpointMeta meta{.step = step_,
                      .config = dump_config(config_),
                      .grid = build_string(grid_.topology.describe(), ", ZeRO ", config_.zero.stage),
                      .ranks = grid_.topology.ranks()};
  meta.counters = {{"tokens", tokens_}, {"updates", updates_}, {"skipped_steps", skipped_}};
  meta.labels = {{"precision", std::string(enum_name(config_.train.precision))}};
  if (train_data_) {
    meta.counters["dataset_tokens"] = train_data_->tokens();
    const Batch first = train_data_->batch(0, 0, 0);
    const auto n = static_cast<std::ptrdiff_t>(first.context);
    meta.probe = ProbeBatch{.sequences = 1,
                            .context = first.context,
                            .tokens = {first.tokens.begin(), first.tokens.begin() + n},
                            .targets = {first.targets.begin(), first.targets.begin() + n}};
    meta.probe->loss = probe_loss(*meta.probe);
  }
  writer_->begin_save(state_->pieces(), meta);
}

}  // namespace trident
