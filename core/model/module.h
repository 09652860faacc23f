// Module: one block of the model, with forward and backward written by hand. It knows its maths and its parameters;
// not data parallelism, pipelines, ZeRO or micro-batches.
//
// Legend: T tokens of the micro-batch, R = T / row_split rows held outside tensor-parallel regions, D hidden.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/base/rng.h"
#include "core/comm/communicator.h"
#include "core/device/arena.h"
#include "core/device/device.h"
#include "core/model/model_shape.h"
#include "core/model/param_spec.h"
#include "kernels/ops.h"

namespace trident {

/// One block's parameters as the store hands them out, in the order of Module::params(). Gradients are f32 (f64 in f64
/// runs) and always accumulate; they are absent in evaluation.
struct BlockParams {
  std::vector<Tensor> value, grad;
};

/// What backward needs of forward, for one micro-batch: a stack of tensors in an arena. Forward pushes, backward pops
/// in reverse. Modules allocate their outputs here too, so that an output lives until its consumer's backward.
class Saved {
 public:
  explicit Saved(Arena arena) : arena_(arena) {}

  Tensor alloc(DType dtype, std::initializer_list<int64_t> shape) { return arena_.alloc(dtype, shape); }
  void push(Tensor t) { kept_.push_back(t); }
  Tensor pop() {
    ensure(!kept_.empty(), "backward pops what forward pushed");
    const Tensor t = kept_.back();
    kept_.pop_back();
    return t;
  }
  bool empty() const { return kept_.empty(); }
  /// What is kept now, oldest first.
  std::span<const Tensor> kept() const { return kept_; }
  /// Forgets everything; the arena starts again.
  void reset() {
    kept_.clear();
    arena_.release_to(0);
  }
  size_t peak() const { return arena_.peak(); }

 private:
  Arena arena_;
  std::vector<Tensor> kept_;
};

/// What the head does with its logits.
enum class HeadMode : uint8_t {
  train,     ///< loss and all gradients
  evaluate,  ///< loss only
  logits,    ///< f32 logits of chosen rows
};

/// One micro-batch as the modules see it.
struct MicroBatch {
  Tensor tokens_T, targets_T;  ///< i32 on the device; target < 0: ignored
  int64_t first_sequence = 0;  ///< index of its first sequence in the step's global batch
  HeadMode mode = HeadMode::train;
  Tensor loss_N;                        ///< f64: the head writes one partial sum of token losses per chunk of tokens
  std::span<const int64_t> logit_rows;  ///< mode logits: which tokens
  Tensor logits_PNV;                    ///< mode logits: f32 [tensor ranks, rows, local vocabulary]
};

/// Where and with what a module runs. Built by the executor once per call.
struct Exec {
  const Ops& ops;
  Device& device;
  Stream stream;
  Arena& scratch;
  Communicator& tensor;
  DType dtype = DType::f32;  ///< of weights and activations
  uint64_t seed = 0;
  int64_t step = 0;
  /// Selective recomputation: what is cheap (norms' outputs, activations) is not kept but made again in backward.
  bool redo_cheap = false;
  MicroBatch micro;

  int64_t tokens() const { return micro.tokens_T.dim[0]; }
  /// u8[bytes] of scratch for an operation; absent for 0 bytes.
  Tensor scratch_for(size_t bytes) {
    return bytes == 0 ? Tensor{} : scratch.alloc(DType::u8, {static_cast<int64_t>(bytes)});
  }
  bool training() const { return micro.mode == HeadMode::train; }
  /// Statistics and parameter gradients: f32, or f64 in a gradient test.
  DType wide() const { return dtype == DType::f64 ? DType::f64 : DType::f32; }
};

class Module {
 public:
  virtual ~Module() = default;

  /// The parameters in the order of BlockParams.
  virtual std::vector<ParamSpec> params() const = 0;

  /// x_RD -> y_RD (the embedding takes an absent x, the head returns an absent y). y lives in `saved`.
  virtual Tensor forward(Exec&, const BlockParams&, Tensor x_RD, Saved&) const = 0;

  /// In place: dx_RD holds the gradient of this block's output on entry and that of its input on return. The head
  /// ignores the entry value, the embedding leaves none.
  virtual void backward(Exec&, const BlockParams&, Tensor dx_RD, Saved&) const = 0;
};

/// The whole model as blocks: 0 the embedding, 1 ... L the layers, L + 1 the head.
std::vector<std::unique_ptr<Module>> make_model(const ModelShape&);
/// Block `index` of make_model, alone: a stage builds only its own.
std::unique_ptr<Module> make_block(const ModelShape&, int64_t index);

}  // namespace trident
