#include "core/train/executor.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

#include "core/base/trace.h"
#include "core/comm/dry_communicator.h"
#include "core/device/dry_device.h"
#include "core/model/head.h"

namespace trident {
namespace {

// Parameters with shapes and no memory, for the dry run.
class DryStore final : public BlockStore {
 public:
  DryStore(const std::vector<BlockLayout>& layouts, DType dtype) {
    for (const BlockLayout& layout : layouts) {
      const Tensor value(nullptr, dtype, {layout.numel}), grad(nullptr, DType::f32, {layout.numel});
      first_ = std::min(first_, layout.block);
      params_.emplace(layout.block, bind_block(layout, value, grad, params_.empty() ? nullptr : &params_.at(first_)));
    }
  }
  const BlockParams& acquire(int64_t block, Pass, Stream) override { return params_.at(block); }
  void release(int64_t, Stream) override {}
  void prefetch(int64_t) override {}
  void grads_ready(int64_t, Stream) override {}

 private:
  int64_t first_ = std::numeric_limits<int64_t>::max();
  std::map<int64_t, BlockParams> params_;
};

/// Over what an arena has left of its memory.
Saved saved_over_rest(const Memory& memory, const Arena& arena) {
  char* rest = memory.data() == nullptr ? nullptr : static_cast<char*>(memory.data()) + arena.used();
  return Saved(Arena(rest, memory.bytes() - arena.used(), memory.place()));
}

size_t activation_bytes(int64_t rows, int64_t hidden, DType dtype) {
  return static_cast<size_t>(rows * hidden) * dtype_bytes(dtype);
}

}  // namespace

Executor::Executor(const ExecutorOptions& options, const Stage& stage, BlockStore& store, Device& device, Grid& grid,
                   Ledger& ledger)
    : options_(options),
      stage_(stage),
      store_(store),
      device_(device),
      grid_(grid),
      ledger_(ledger),
      schedule_(
          make_schedule(options.schedule, grid.topology.pipeline, grid.at.pipeline, options.micros, stage.chunks())),
      tokens_(options.micro_batch * stage.shape().context),
      rows_(tokens_ / stage.shape().row_split()),
      loss_chunks_(head_chunks(stage.shape(), options.dtype, tokens_)) {
  allocate();
}

Executor::Sizes Executor::measure() const {
  Sizes sizes;
  const std::unique_ptr<Device> device = make_dry_device(device_.ops());
  const auto tensor = make_dry_communicator("tensor", grid_.at.tensor, grid_.topology.tensor);
  DryStore store(stage_.layouts(grid_.topology.shards()), options_.dtype);
  Ledger ledger;
  Arena scratch, host;
  InputOffload inputs(options_.dtype, rows_, stage_.shape().hidden, *device);
  std::vector<int64_t> rows(static_cast<size_t>(max_logit_rows()), 0);
  for (int chunk = 0; chunk < stage_.chunks(); ++chunk) {
    for (const HeadMode mode : {HeadMode::train, HeadMode::logits}) {
      Saved saved{Arena{}};
      Redo redo;
      redo.input_TD = Tensor(nullptr, options_.dtype, {tokens_, stage_.shape().hidden});
      if (options_.offload_inputs) redo.inputs = &inputs;
      host.release_to(0);
      inputs.use(host);
      Redo* const redone = options_.recompute ? &redo : nullptr;
      Exec ex{.ops = device->ops(),
              .device = *device,
              .stream = {},
              .scratch = scratch,
              .tensor = *tensor,
              .dtype = options_.dtype,
              .redo_cheap = options_.redo_cheap};
      ex.micro = {.tokens_T = Tensor(nullptr, DType::i32, {tokens_}),
                  .targets_T = Tensor(nullptr, DType::i32, {tokens_}),
                  .mode = mode,
                  .loss_N = Tensor(nullptr, DType::f64, {loss_chunks_}),
                  .logit_rows = rows,
                  .logits_PNV = Tensor(nullptr, DType::f32,
                                       {grid_.topology.tensor, max_logit_rows(), stage_.shape().local_vocab()})};
      const Tensor x_RD(nullptr, options_.dtype, {rows_, stage_.shape().hidden});
      stage_.forward(ex, store, ledger, chunk, 0, stage_.first(chunk) ? Tensor{} : x_RD, saved, redone);
      if (mode == HeadMode::train) stage_.backward(ex, store, ledger, chunk, 0, false, x_RD, saved, redone);
      sizes.saved = std::max(sizes.saved, saved.peak());
      sizes.redo = std::max(sizes.redo, redo.saved.peak());
    }
  }
  sizes.scratch = scratch.peak();
  sizes.host = host.peak();
  return sizes;
}

void Executor::allocate() {
  const Sizes sizes = measure();
  const ModelShape& shape = stage_.shape();
  const size_t row_bytes = activation_bytes(rows_, shape.hidden, options_.dtype);
  bool any_first = false, any_last = false, any_input = false;
  for (int c = 0; c < stage_.chunks(); ++c) {
    any_first |= stage_.first(c);
    any_last |= stage_.last(c);
    any_input |= !stage_.first(c);
  }

  slots_.resize(static_cast<size_t>(schedule_slots(schedule_)));
  for (size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    const size_t input_bytes = any_input ? row_bytes : 0;
    const size_t id_bytes = any_first || any_last ? static_cast<size_t>(tokens_) * sizeof(int32_t) : 0;
    slot.memory =
        device_.alloc(input_bytes + Arena::kAlign + sizes.saved, Place::device, build_string("activations: slot ", i));
    Arena arena(slot.memory.data(), slot.memory.bytes(), slot.memory.place());
    if (any_input) slot.input_RD = arena.alloc(options_.dtype, {rows_, shape.hidden});
    slot.saved = saved_over_rest(slot.memory, arena);
    if (options_.offload_inputs) {
      slot.host_memory =
          device_.alloc(sizes.host, Place::pinned, build_string("inputs of layers, on the host: slot ", i));
      slot.host = Arena(slot.host_memory.data(), slot.host_memory.bytes(), Place::pinned);
    }

    slot.ids_memory = device_.alloc(2 * id_bytes, Place::device, build_string("tokens: slot ", i));
    slot.ids_staging = device_.alloc(2 * id_bytes, Place::pinned, build_string("tokens, on the host: slot ", i));
    slot.staged_2T = Tensor(slot.ids_staging.data(), DType::i32, {id_bytes > 0 ? 2 * tokens_ : 0}, Place::pinned);
    char* ids = static_cast<char*>(slot.ids_memory.data());
    slot.tokens_T = Tensor(id_bytes > 0 ? ids : nullptr, DType::i32, {tokens_}, slot.ids_memory.place());
    slot.targets_T = Tensor(id_bytes > 0 && ids != nullptr ? ids + id_bytes : nullptr, DType::i32, {tokens_},
                            slot.ids_memory.place());
  }
  if (options_.recompute) allocate_redo(sizes.redo);
  scratch_memory_ = device_.alloc(sizes.scratch, Place::device, "scratch");
  scratch_ = Arena(scratch_memory_.data(), scratch_memory_.bytes(), scratch_memory_.place());
  for (size_t i = 0; i < 2; ++i) {
    // Two: a gradient is received while the one before is still being sent. Without a pipeline nothing is sent.
    gradient_memory_[i] = device_.alloc(i == 0 || grid_.topology.pipeline > 1 ? row_bytes : 0, Place::device,
                                        build_string("gradients of activations: buffer ", i));
    gradient_RD_[i] = Tensor(gradient_memory_[i].data(), options_.dtype, {rows_, shape.hidden}, Place::device);
  }
  const int64_t losses = any_last ? options_.micros * loss_chunks_ : 0;
  loss_memory_ = device_.alloc(static_cast<size_t>(losses) * sizeof(double), Place::device, "losses");
  loss_N_ = Tensor(loss_memory_.data(), DType::f64, {losses}, Place::device);
  loss_host_.resize(static_cast<size_t>(losses));
  logits_PNV_ =
      Tensor(nullptr, DType::f32, {grid_.topology.tensor, max_logit_rows(), shape.local_vocab()}, Place::device);
  logits_memory_ = device_.alloc(any_last ? logits_PNV_.bytes() : 0, Place::device, "logits of generated tokens");
  logits_PNV_.data = logits_memory_.data();
}

void Executor::allocate_redo(size_t saved_bytes) {
  const Tensor input_TD(nullptr, options_.dtype, {stage_.keeps_parts(tokens_) ? tokens_ : 0, stage_.shape().hidden});
  redo_memory_ = device_.alloc(input_TD.bytes() + Arena::kAlign + saved_bytes, Place::device, "recomputed activations");
  Arena arena(redo_memory_.data(), redo_memory_.bytes(), redo_memory_.place());
  redo_.input_TD = arena.alloc(options_.dtype, {input_TD.dim[0], input_TD.dim[1]});
  redo_.saved = saved_over_rest(redo_memory_, arena);
  if (!options_.offload_inputs) return;
  inputs_ = std::make_unique<InputOffload>(options_.dtype, rows_, stage_.shape().hidden, device_);
  redo_.inputs = inputs_.get();
}

Exec Executor::exec(HeadMode mode, int64_t step, const Slot& slot) {
  Exec ex{.ops = device_.ops(),
          .device = device_,
          .stream = device_.stream(Role::compute),
          .scratch = scratch_,
          .tensor = *grid_.tensor,
          .dtype = options_.dtype,
          .seed = options_.seed,
          .step = step,
          .redo_cheap = options_.redo_cheap};
  ex.micro = {
      .tokens_T = slot.tokens_T, .targets_T = slot.targets_T, .first_sequence = slot.first_sequence, .mode = mode};
  return ex;
}

StepLoss Executor::train(const DataSource& data, int64_t step) {
  StepLoss loss;
  backwards_ = 0;
  for (const Instr& instr : schedule_) run(instr, data, step, loss.tokens);
  const int64_t losses = options_.micros * loss_chunks_;
  if (loss_N_.numel() > 0 && counts_loss()) loss.loss_L = loss_N_.rows(0, losses);
  return loss;
}

StepLoss Executor::inspect(const DataSource& data, int64_t step, Inspector& inspector) {
  inspector_ = &inspector;
  const StepLoss loss = train(data, step);
  inspector_ = nullptr;
  return loss;
}

void Executor::run(const Instr& instr, const DataSource& data, int64_t step, int64_t& tokens) {
  Slot& slot = slots_[static_cast<size_t>(instr.slot)];
  switch (instr.what) {
    case Do::load_batch: {
      const trace::Section loading(trace::Activity::data);
      tokens += load(slot, data.batch(step, instr.micro, grid_.at.data), stage_.last(instr.chunk));
      break;
    }
    case Do::recv_activation: receive(slot, instr); break;
    case Do::forward: {
      const Range range(device_, "forward of micro-batch", instr.micro);
      slot.first_sequence =
          (static_cast<int64_t>(instr.micro) * grid_.topology.data + grid_.at.data) * options_.micro_batch;
      Exec ex = exec(HeadMode::train, step, slot);
      if (stage_.last(instr.chunk))
        ex.micro.loss_N = loss_N_.rows(instr.micro * loss_chunks_, (instr.micro + 1) * loss_chunks_);
      take(slot);
      slot.output_RD =
          stage_.forward(ex, store_, ledger_, instr.chunk, instr.micro,
                         stage_.first(instr.chunk) ? Tensor{} : slot.input_RD, slot.saved, redo(), inspector_);
      break;
    }
    case Do::send_activation: send(slot, instr); break;
    case Do::recv_gradient: {
      const size_t i = gradient_buffer(backwards_);
      if (gradient_sending_[i]) device_.wait(device_.stream(Role::compute), gradient_sent_[i]);
      gradient_sending_[i] = false;
      const Message from = message_of(instr, grid_.topology.pipeline, grid_.at.pipeline);
      grid_.pipeline->recv(gradient_RD_[i], from.stage, from.tag, device_.stream(Role::compute));
      break;
    }
    case Do::backward: {
      const Range range(device_, "backward of micro-batch", instr.micro);
      backward(slot, instr, step);
      break;
    }
    case Do::send_gradient: {
      const size_t i = gradient_buffer(backwards_ - 1);
      gradient_sent_[i] = send_tensor(gradient_RD_[i], instr);
      gradient_sending_[i] = true;
      break;
    }
  }
}

int64_t Executor::load(Slot& slot, const Batch& batch, bool holds_loss) {
  ensure(batch.sequences == options_.micro_batch && batch.context == stage_.shape().context,
         "a batch has the executor's shape");
  const Stream compute = device_.stream(Role::compute);
  // The copy of the slot's last batch may still be on its way: usually long past.
  device_.synchronize(slot.staged);
  auto* staged = slot.staged_2T.as<int32_t>();
  std::copy(batch.tokens.begin(), batch.tokens.end(), staged);
  std::copy(batch.targets.begin(), batch.targets.end(), staged + tokens_);
  device_.copy(slot.tokens_T, slot.staged_2T.rows(0, tokens_), compute);
  device_.copy(slot.targets_T, slot.staged_2T.rows(tokens_, 2 * tokens_), compute);
  slot.staged = device_.record(compute);
  if (!holds_loss || !counts_loss()) return 0;
  return std::count_if(batch.targets.begin(), batch.targets.end(), [](int32_t id) { return id >= 0; });
}

void Executor::receive(Slot& slot, const Instr& instr) {
  const Message from = message_of(instr, grid_.topology.pipeline, grid_.at.pipeline);
  grid_.pipeline->recv(slot.input_RD, from.stage, from.tag, device_.stream(Role::compute));
}

Event Executor::send_tensor(Tensor t, const Instr& instr) {
  const Stream stream = device_.stream(Role::send);
  const Message to = message_of(instr, grid_.topology.pipeline, grid_.at.pipeline);
  device_.wait(stream, device_.record(device_.stream(Role::compute)));
  grid_.pipeline->send(t, to.stage, to.tag, stream);
  return device_.record(stream);
}

void Executor::send(Slot& slot, const Instr& instr) {
  slot.sent = send_tensor(slot.output_RD, instr);
  slot.sending = true;
}

void Executor::take(Slot& slot) {
  // In training the gradient has come back by then, so the output was received: the wait is over before it begins.
  if (slot.sending) device_.wait(device_.stream(Role::compute), slot.sent);
  slot.sending = false;
  slot.saved.reset();
  slot.host.release_to(0);
  if (inputs_) inputs_->use(slot.host);
}

void Executor::backward(Slot& slot, const Instr& instr, int64_t step) {
  const size_t i = gradient_buffer(backwards_);
  // The last model chunk receives no gradient, so the buffer may still be on its way to the stage before.
  if (gradient_sending_[i]) device_.wait(device_.stream(Role::compute), gradient_sent_[i]);
  gradient_sending_[i] = false;
  Exec ex = exec(HeadMode::train, step, slot);
  stage_.backward(ex, store_, ledger_, instr.chunk, instr.micro, instr.micro + 1 == options_.micros, gradient_RD_[i],
                  slot.saved, redo(), inspector_);
  ensure(slot.saved.empty(), "backward takes all that forward saved");
  ++backwards_;
}

double Executor::read_losses(int64_t count) {
  if (loss_host_.empty() || !counts_loss()) return 0.0;
  const Stream compute = device_.stream(Role::compute);
  device_.copy(Tensor(loss_host_.data(), DType::f64, {count}), loss_N_.rows(0, count), compute);
  device_.synchronize(compute);
  return std::accumulate(loss_host_.begin(), loss_host_.begin() + count, 0.0);
}

void Executor::forward_only(const Batch& batch, HeadMode mode, int micro, LossSum& sum, std::span<const int64_t> rows) {
  Slot& slot = slots_.front();
  for (int chunk = 0; chunk < stage_.chunks(); ++chunk) {
    const auto instr = [&](Do what) {
      return Instr{what, static_cast<int16_t>(micro), static_cast<int16_t>(chunk), 0};
    };
    if (stage_.first(chunk) || stage_.last(chunk)) sum.tokens += load(slot, batch, stage_.last(chunk));
    if (!stage_.first(chunk)) receive(slot, instr(Do::recv_activation));
    Exec ex = exec(mode, 0, slot);
    if (stage_.last(chunk) && mode == HeadMode::evaluate)
      ex.micro.loss_N = loss_N_.rows(micro * loss_chunks_, (micro + 1) * loss_chunks_);
    if (stage_.last(chunk) && mode == HeadMode::logits) {
      ex.micro.logit_rows = rows;
      ex.micro.logits_PNV =
          Tensor(logits_PNV_.data, DType::f32,
                 {logits_PNV_.dim[0], static_cast<int64_t>(rows.size()), logits_PNV_.dim[2]}, Place::device);
    }
    take(slot);
    slot.output_RD = stage_.forward(ex, store_, ledger_, chunk, micro, stage_.first(chunk) ? Tensor{} : slot.input_RD,
                                    slot.saved, redo());
    if (!stage_.last(chunk)) send(slot, instr(Do::send_activation));
  }
}

LossSum Executor::evaluate(const DataSource& data, int64_t step) {
  LossSum sum;
  for (int micro = 0; micro < options_.micros; ++micro) {
    forward_only(data.batch(step, micro, grid_.at.data), HeadMode::evaluate, micro, sum, {});
  }
  sum.loss = read_losses(options_.micros * loss_chunks_);
  return sum;
}

LossSum Executor::evaluate(const Batch& batch) {
  ensure(batch.sequences <= options_.micro_batch, "a probe batch fits a micro-batch");
  Batch padded = batch;
  padded.sequences = options_.micro_batch;
  padded.tokens.resize(static_cast<size_t>(tokens_), 0);
  padded.targets.resize(static_cast<size_t>(tokens_), -1);
  LossSum sum;
  forward_only(padded, HeadMode::evaluate, 0, sum, {});
  sum.loss = read_losses(loss_chunks_);
  if (grid_.at.data != 0) sum = {};
  return sum;
}

std::vector<float> Executor::logits(const Batch& batch, std::span<const int64_t> rows) {
  LossSum unused;
  const auto n = static_cast<int64_t>(rows.size());
  ensure(n <= max_logit_rows(), "logits are asked for one row a sequence");
  forward_only(batch, HeadMode::logits, 0, unused, rows);
  if (!stage_.last(stage_.chunks() - 1)) return {};

  const int64_t parts = logits_PNV_.dim[0], local = logits_PNV_.dim[2], vocab = stage_.shape().vocab;
  std::vector<float> gathered(static_cast<size_t>(parts * n * local));
  const Stream compute = device_.stream(Role::compute);
  device_.copy(Tensor(gathered.data(), DType::f32, {parts * n * local}),
               Tensor(logits_PNV_.data, DType::f32, {parts * n * local}, Place::device), compute);
  device_.synchronize(compute);
  std::vector<float> out_NV(static_cast<size_t>(n * vocab));
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t first = part * local, valid = std::clamp<int64_t>(vocab - first, 0, local);
    for (int64_t i = 0; i < n; ++i) {
      std::copy_n(gathered.begin() + (part * n + i) * local, valid, out_NV.begin() + i * vocab + first);
    }
  }
  return out_NV;
}

}  // namespace trident
