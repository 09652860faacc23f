// The sections that say how the model is laid over ranks: parallel, zero, memory, comm.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/fields.h"
#include "core/config/enums.h"

namespace trident {

/// After resolve (core/config/preset.h) data is not 0.
struct ParallelConfig {
  int pipeline = 1;
  int tensor = 1;
  int data = 0;
  int context = 1;
  int expert = 1;
  bool sequence = false;
  Schedule schedule = Schedule::one_f_one_b;
  int virtual_stages = 1;

  /// Size of the grid. A validated config has at most 2^20 ranks.
  int ranks() const { return pipeline * tensor * data * context; }
  bool operator==(const ParallelConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    constexpr FieldGroup kSpeed = FieldGroup::performance;
    visit(self.pipeline,
          {.name = "pipeline",
           .unit = "ranks",
           .range = between(1, 4096),
           .group = kSpeed,
           .effect = "Stages the layers are split over. They need not divide evenly; the last takes fewer, by "
                     "as much arithmetic as the head is."});
    visit(self.tensor, {.name = "tensor",
                        .unit = "ranks",
                        .range = between(1, 1024),
                        .group = kSpeed,
                        .effect = "Ranks that share each matrix; best within one node. Must divide heads, kv_heads "
                                  "and ffn_hidden."});
    visit(self.data, {.name = "data",
                      .unit = "ranks",
                      .range = between(1, 65536),
                      .zero_is_auto = true,
                      .derived = "what is left of the ranks",
                      .group = kSpeed,
                      .effect = "Replicas that share the batch. micro_batch x data must divide global_batch."});
    visit(self.context, {.name = "context",
                         .unit = "ranks",
                         .range = between(1, 4096),
                         .group = kSpeed,
                         .effect = "Ranks that share each sequence."});
    visit(self.expert, {.name = "expert",
                        .unit = "ranks",
                        .range = between(1, 4096),
                        .group = kSpeed,
                        .effect = "Ranks that share the experts, cut out of data x context."});
    visit(self.sequence, {.name = "sequence",
                          .group = kSpeed,
                          .effect = "Splits norms, dropout and residuals over the tensor ranks by token: less "
                                    "activation memory, the same communication."});
    visit(self.schedule, {.name = "schedule",
                          .group = kSpeed,
                          .effect = "Order of the micro-batches in the pipeline. 1f1b keeps at most `pipeline` of them "
                                    "in memory, gpipe all; interleaved shrinks the bubble by virtual_stages."});
    visit(self.virtual_stages, {.name = "virtual_stages",
                                .range = between(1, 64),
                                .group = kSpeed,
                                .effect = "Chunks of layers per pipeline rank. Only with schedule: interleaved."});
  }
};

struct ZeroConfig {
  int stage = 0;
  int shard_group = 0;
  bool keep_gathered = false;
  Offload offload = Offload::none;
  Offload offload_parameters = Offload::none;
  std::string nvme_path;
  bool delayed_update = false;

  bool operator==(const ZeroConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    constexpr FieldGroup kSpeed = FieldGroup::performance;
    visit(self.stage, {.name = "stage",
                       .range = between(0, 3),
                       .group = kSpeed,
                       .effect = "What is sharded over the data ranks: 0 nothing, 1 the optimizer state, 2 also the "
                                 "gradients, 3 also the weights. 0 and 1 agree bit for bit, and so do 2 and 3, which "
                                 "sum over the data ranks after every micro-batch."});
    visit(self.shard_group,
          {.name = "shard_group",
           .unit = "data ranks",
           .range = between(1, 65536),
           .zero_is_auto = true,
           .derived = "all data ranks",
           .group = kSpeed,
           .effect = "Hybrid sharding: shards are shared out in groups of this many consecutive data ranks (those of a "
                     "node), and the groups hold replicas: gathers stay inside a group, more memory is used."});
    visit(self.keep_gathered,
          {.name = "keep_gathered",
           .group = kSpeed,
           .effect =
               "With stage 3: the gathered weights of a layer stay until the update, so that a step gathers each "
               "layer once, however many micro-batches it has; the memory of stage 2. Otherwise a layer is gathered "
               "for each forward and each backward."});
    visit(self.offload, {.name = "offload",
                         .group = kSpeed,
                         .effect = "Where the optimizer state lives, with the gradients that a rank owns, and where it "
                                   "is updated: on the device, or by the processor in host memory or on NVMe. The same "
                                   "result bit for bit where the update is the same (device: cpu)."});
    visit(self.offload_parameters,
          {.name = "offload_parameters",
           .group = kSpeed,
           .effect = "Where the shards of the weights live with stage 3 and an offloaded optimizer: the device then "
                     "holds the layers in use alone, and copies each from there twice a micro-batch. With nvme the "
                     "next layer is read from a file while this one computes."});
    visit(self.nvme_path,
          {.name = "nvme_path",
           .group = kSpeed,
           .effect = "Directory on a fast local disk, for offload and offload_parameters: nvme. Each rank makes files "
                     "there that have no name and are gone when the process ends; checkpoints go to `out` as always."});
    visit(self.delayed_update,
          {.name = "delayed_update",
           .effect = "With an offloaded optimizer: the update of a step runs beside the next step's forward and "
                     "backward, which still see the weights before it. A checkpoint waits for it, so that the step "
                     "after one sees the newest weights."});
  }
};

struct MemoryConfig {
  ByteSize device_limit;

  bool operator==(const MemoryConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit(self.device_limit,
          {.name = "device_limit",
           .unit = "bytes per rank",
           .group = FieldGroup::performance,
           .effect = "Device memory a rank may take; more is an error that lists what it holds. On device: cpu it sets "
                     "apart a part of the memory as the device's; the rest is the host's."});
  }
};

struct CommConfig {
  double timeout = 600;
  bool shared_memory = true;

  bool operator==(const CommConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit(self.timeout, {.name = "timeout",
                         .unit = "seconds",
                         .range = between(1, 1e6),
                         .group = FieldGroup::bookkeeping,
                         .effect = "A collective that waits longer ends the job and names the missing ranks."});
    visit(self.shared_memory,
          {.name = "shared_memory",
           .group = FieldGroup::bookkeeping,
           .effect = "Collectives on the CPU between ranks of one host go through memory that they share, where the "
                     "system allows it; false: through MPI, with the same bits."});
  }
};

}  // namespace trident
