#include "core/plan/settings.h"

#include "core/base/error.h"

namespace trident {
namespace {

ActivationKind activation_of(Activation activation) {
  switch (activation) {
    case Activation::gelu: return ActivationKind::gelu_tanh;
    case Activation::swiglu: return ActivationKind::swiglu;
    case Activation::relu: return ActivationKind::relu;
    case Activation::silu: return ActivationKind::silu;
  }
  throw InternalError("an activation of the config has a kernel");
}

PositionKind position_of(Position position) {
  switch (position) {
    case Position::learned: return PositionKind::learned;
    case Position::rope: return PositionKind::rope;
    case Position::none: return PositionKind::none;
  }
  throw InternalError("a position kind of the config has a module");
}

Sched sched_of(Schedule schedule) {
  switch (schedule) {
    case Schedule::gpipe: return Sched::gpipe;
    case Schedule::one_f_one_b: return Sched::one_f_one_b;
    case Schedule::interleaved: return Sched::interleaved;
  }
  throw InternalError("a schedule of the config has instructions");
}

}  // namespace

DType dtype_of(Precision precision) {
  switch (precision) {
    case Precision::fp32: return DType::f32;
    case Precision::bf16: return DType::bf16;
    case Precision::fp16: return DType::f16;
  }
  throw InternalError("a precision of the config has a dtype");
}

AttentionKernel attention_kernel_of(AttentionSource source) {
  switch (source) {
    case AttentionSource::automatic: return AttentionKernel::automatic;
    case AttentionSource::own: return AttentionKernel::own;
    case AttentionSource::cudnn: return AttentionKernel::cudnn;
  }
  throw InternalError("a source of attention in the config has a kernel");
}

Topology topology_of(const ParallelConfig& p, const ZeroConfig& z) {
  return {
      .tensor = p.tensor, .context = p.context, .data = p.data, .pipeline = p.pipeline, .shard_group = z.shard_group};
}

ModelShape model_shape_of(const ModelConfig& m, const ParallelConfig& p) {
  return {.layers = m.layers,
          .hidden = m.hidden,
          .heads = m.heads,
          .kv_heads = m.kv_heads,
          .head_size = m.head_dim,
          .ffn = m.ffn_hidden,
          .vocab = m.vocab,
          .context = m.context,
          .max_positions = m.max_positions,
          .norm = m.norm == Norm::layer_norm ? NormKind::layer_norm : NormKind::rms_norm,
          .activation = activation_of(m.activation),
          .position = position_of(m.position),
          .bias = m.bias,
          .tied = m.tie_embeddings,
          .dropout = static_cast<float>(m.dropout),
          .norm_eps = static_cast<float>(m.norm_eps),
          .rope_theta = m.rope_theta,
          .init_std = static_cast<float>(m.init_std),
          .scale_residual_init = true,
          .tensor = p.tensor,
          .sequence_parallel = p.sequence};
}

FlopShape flop_shape_of(const ModelConfig& m) {
  return {.layers = m.layers,
          .hidden = m.hidden,
          .heads = m.heads,
          .kv_heads = m.kv_heads,
          .head_dim = m.head_dim,
          .ffn_hidden = m.ffn_hidden,
          .vocab = m.vocab,
          .context = m.context,
          .gated = m.activation == Activation::swiglu};
}

EngineOptions engine_options_of(const Config& c) {
  ensure(c.train.recompute != Recompute::automatic,
         "train.recompute: auto is decided (settle_recompute) before a plan");
  const DType dtype = dtype_of(c.train.precision);
  return {.shape = model_shape_of(c.model, c.parallel),
          .chunks = c.parallel.virtual_stages,
          .executor = {.schedule = sched_of(c.parallel.schedule),
                       .micros = static_cast<int>(c.micro_batches()),
                       .micro_batch = c.train.micro_batch,
                       .dtype = dtype,
                       .seed = static_cast<uint64_t>(c.train.seed),
                       .recompute = c.train.recompute == Recompute::full,
                       .offload_inputs = c.train.offload_activations != Offload::none,
                       .redo_cheap = c.train.recompute == Recompute::selective},
          .zero = {.dtype = dtype,
                   .state_dtype = c.optimizer.state_dtype == StateDtype::bf16 ? DType::bf16 : DType::f32,
                   .stage = c.zero.stage,
                   .blocks = c.model.layers + 2,
                   .tied = c.model.tie_embeddings,
                   .keep_gathered = c.zero.keep_gathered,
                   .offload = c.zero.offload != Offload::none,
                   .offload_parameters = c.zero.offload_parameters != Offload::none,
                   .parameter_directory = c.zero.offload_parameters == Offload::nvme ? c.zero.nvme_path : ""},
          .state = {.file_directory = c.zero.offload == Offload::nvme ? c.zero.nvme_path : "",
                    .delayed = c.zero.delayed_update},
          .adamw = {.beta1 = static_cast<float>(c.optimizer.betas[0]),
                    .beta2 = static_cast<float>(c.optimizer.betas[1]),
                    .eps = static_cast<float>(c.optimizer.eps),
                    .weight_decay = static_cast<float>(c.optimizer.weight_decay),
                    .seed = static_cast<uint64_t>(c.train.seed)}};
}

}  // namespace trident
