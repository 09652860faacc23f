// The op families of the CPU table, one file each. Contracts: kernels/ops.h. Nothing outside kernels/cpu includes this.
#pragma once

#include <memory>

#include "kernels/cpu/combine.h"
#include "kernels/cpu/isa.h"
#include "kernels/ops.h"

namespace trident::cpu {

/// What is seen of an instruction set outside its own code (cpu_ops.cpp). Only for processors that have it.
struct Kernels {
  std::unique_ptr<Ops> (*make_ops)();
  CombineFunction* combine;
};
template <CpuIsa>
Kernels kernels();

CombineFunction combine;

/// The GEMM front end, with the contract of Ops::gemm. Owns what it has prepared per shape; thread-safe.
class Gemm {
 public:
  /// bf16 and f32 go to AMX tiles; else bf16 to oneDNN where the processor multiplies bf16 itself. `onednn_f32` sends
  /// all f32 there: that is how the oneDNN path is tested on every processor.
  explicit Gemm(bool onednn_f32 = false);
  ~Gemm();
  void run(const GemmArgs&) const;
  size_t scratch_bytes(const GemmArgs&) const;
  bool uses_onednn(const GemmArgs&) const;

 private:
  struct Table;
  std::unique_ptr<Table> table_;
};

void norm_forward(const NormArgs&);
void norm_backward(const NormBackwardArgs&);
size_t norm_scratch_bytes(const NormBackwardArgs&);

void rope(const RopeArgs&);
void attention_forward(const AttentionArgs&);
void attention_backward(const AttentionBackwardArgs&);
size_t attention_scratch_bytes(const AttentionArgs&);
size_t attention_scratch_bytes(const AttentionBackwardArgs&);

void activation_forward(ActivationKind, Tensor y_TF, Tensor x);
void activation_backward(ActivationKind, Tensor dx, Tensor dy_TF, Tensor x);
void dropout_add(Tensor y_TN, Tensor x_TN, Tensor z_TN, const DropoutSpec&);
/// Rows that are summed before their sum joins db. A GEMM that sums them on its way gives the same bits.
inline constexpr int64_t kBiasChunkRows = 32;
void bias_backward(Tensor db_N, Tensor dy_TN);
void bias_add(Tensor x_TN, Tensor b_N);
void add(Tensor y, Tensor x);
void scale(Tensor y, Tensor x, float factor);

void embedding_forward(Tensor y_TD, Tensor id_T, Tensor table_VD, int64_t first_id);
void embedding_backward(Tensor dtable_VD, Tensor id_T, Tensor dy_TD, int64_t first_id);
void position_forward(Tensor y_TD, Tensor table_PD, int64_t first_row, int64_t context);
void position_backward(Tensor dtable_PD, Tensor dy_TD, int64_t first_row, int64_t context);

void softmax_max(Tensor max_T, Tensor logits_TV, int64_t valid);
void softmax_sum(Tensor sum_T, Tensor target_T, Tensor logits_TV, Tensor max_T, Tensor id_T, int64_t first_id,
                 int64_t valid);
void softmax_loss(Tensor loss_T, Tensor logits_TV, Tensor max_T, Tensor sum_T, Tensor target_T, Tensor id_T,
                  int64_t first_id, int64_t valid, bool gradient);
int64_t softmax_rows(Tensor logits_TV);

void adamw(const AdamWArgs&);
void step_sums(const StepSumsArgs&);
void step_control(const StepControlArgs&);
void sum_squares(Tensor out_1, Tensor x);
void sum(Tensor out_1, Tensor x);

}  // namespace trident::cpu
