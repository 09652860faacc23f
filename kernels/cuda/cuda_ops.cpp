#include "kernels/cuda/cuda_ops.h"

#include "core/base/error.h"
#include "kernels/check.h"
#include "kernels/cuda/attention_dispatch.h"
#include "kernels/cuda/families.h"
#include "kernels/cuda/gemm.h"

namespace trident {
namespace {

cudaStream_t of(Stream stream) { return static_cast<cudaStream_t>(stream.handle); }

class CudaOps final : public Ops {
 public:
  explicit CudaOps(AttentionKernel attention) : attention_(attention, cuda::make_cudnn()) {}

  void gemm(Stream stream, const GemmArgs& args) const override {
    check(args);
    gemm_.run(of(stream), args);
  }

  void norm_forward(Stream stream, const NormArgs& args) const override {
    check_norm_forward(args);
    cuda::norm_forward(of(stream), args);
  }
  void norm_backward(Stream stream, const NormBackwardArgs& args) const override {
    check(args);
    cuda::norm_backward(of(stream), args);
  }

  void rope(Stream stream, const RopeArgs& args) const override {
    check(args);
    cuda::rope(of(stream), args);
  }
  void attention_forward(Stream stream, const AttentionArgs& args) const override {
    check(args);
    attention_.forward(of(stream), args);
  }
  void attention_backward(Stream stream, const AttentionBackwardArgs& args) const override {
    check(args);
    attention_.backward(of(stream), args);
  }

  void activation_forward(Stream stream, ActivationKind kind, Tensor y_TF, Tensor x) const override {
    check_activation_forward(kind, y_TF, x);
    cuda::activation_forward(of(stream), kind, y_TF, x);
  }
  void activation_backward(Stream stream, ActivationKind kind, Tensor dx, Tensor dy_TF, Tensor x) const override {
    check_activation_backward(kind, dx, dy_TF, x);
    cuda::activation_backward(of(stream), kind, dx, dy_TF, x);
  }

  void dropout_add(Stream stream, Tensor y_TN, Tensor x_TN, Tensor z_TN, const DropoutSpec& drop) const override {
    check_dropout_add(y_TN, x_TN, z_TN, drop);
    cuda::dropout_add(of(stream), y_TN, x_TN, z_TN, drop);
  }
  void dropout_backward(Stream stream, Tensor dz_TN, Tensor dy_TN, const DropoutSpec& drop) const override {
    check_dropout_backward(dz_TN, dy_TN, drop);
    cuda::dropout_add(of(stream), dz_TN, Tensor{}, dy_TN, drop);
  }

  void bias_backward(Stream stream, Tensor db_N, Tensor dy_TN, Tensor scratch) const override {
    check_bias_backward(db_N, dy_TN);
    cuda::bias_backward(of(stream), db_N, dy_TN, scratch);
  }
  void bias_add(Stream stream, Tensor x_TN, Tensor b_N) const override {
    check_bias_add(x_TN, b_N);
    cuda::bias_add(of(stream), x_TN, b_N);
  }
  void add(Stream stream, Tensor y, Tensor x) const override {
    check_elementwise("add", y, x);
    cuda::add(of(stream), y, x);
  }
  void scale(Stream stream, Tensor y, Tensor x, float factor) const override {
    check_elementwise("scale", y, x);
    cuda::scale(of(stream), y, x, factor);
  }

  void embedding_forward(Stream stream, Tensor y_TD, Tensor id_T, Tensor table_VD, int64_t first_id) const override {
    check_embedding_forward(y_TD, id_T, table_VD);
    cuda::embedding_forward(of(stream), y_TD, id_T, table_VD, first_id);
  }
  void embedding_backward(Stream stream, Tensor dtable_VD, Tensor id_T, Tensor dy_TD, int64_t first_id,
                          Tensor scratch) const override {
    check_embedding_backward(dtable_VD, id_T, dy_TD, scratch);
    cuda::embedding_backward(of(stream), dtable_VD, id_T, dy_TD, first_id, scratch);
  }
  void position_forward(Stream stream, Tensor y_TD, Tensor table_PD, int64_t first_row,
                        int64_t context) const override {
    check_position_forward(y_TD, table_PD, first_row, context);
    cuda::position_forward(of(stream), y_TD, table_PD, first_row, context);
  }
  void position_backward(Stream stream, Tensor dtable_PD, Tensor dy_TD, int64_t first_row,
                         int64_t context) const override {
    check_position_backward(dtable_PD, dy_TD, first_row, context);
    cuda::position_backward(of(stream), dtable_PD, dy_TD, first_row, context);
  }

  void softmax_max(Stream stream, Tensor max_T, Tensor logits_TV, int64_t valid) const override {
    check_softmax_max(max_T, logits_TV, valid);
    cuda::softmax_max(of(stream), max_T, logits_TV, valid);
  }
  void softmax_sum(Stream stream, Tensor sum_T, Tensor target_T, Tensor logits_TV, Tensor max_T, Tensor id_T,
                   int64_t first_id, int64_t valid) const override {
    check_softmax_sum(sum_T, target_T, logits_TV, max_T, id_T, valid);
    cuda::softmax_sum(of(stream), sum_T, target_T, logits_TV, max_T, id_T, first_id, valid);
  }
  void softmax_loss(Stream stream, Tensor loss_T, Tensor logits_TV, Tensor max_T, Tensor sum_T, Tensor target_T,
                    Tensor id_T, int64_t first_id, int64_t valid, bool gradient) const override {
    check_softmax_loss(loss_T, logits_TV, max_T, sum_T, target_T, id_T, valid);
    cuda::softmax_loss(of(stream), loss_T, logits_TV, max_T, sum_T, target_T, id_T, first_id, valid, gradient);
  }

  void adamw(Stream stream, const AdamWArgs& args) const override {
    check(args);
    cuda::adamw(of(stream), args);
  }
  void step_sums(Stream stream, const StepSumsArgs& args) const override {
    check(args);
    cuda::step_sums(of(stream), args);
  }
  void step_control(Stream stream, const StepControlArgs& args) const override {
    check(args);
    cuda::step_control(of(stream), args);
  }
  void sum_squares(Stream stream, Tensor out_1, Tensor x, Tensor scratch) const override {
    check_total("sum_squares", out_1, x);
    cuda::sum_squares(of(stream), out_1, x, scratch);
  }
  void sum(Stream stream, Tensor out_1, Tensor x, Tensor scratch) const override {
    check_total("sum", out_1, x);
    cuda::sum(of(stream), out_1, x, scratch);
  }

  std::string describe(const AttentionArgs& args) const override {
    const AttentionChoice choice = attention_.choose(args);
    return choice.cudnn ? cudnn_description() : build_string("own kernels (not cuDNN: ", choice.reason, ")");
  }

  size_t scratch_bytes(const GemmArgs& args) const override { return cuda::gemm_scratch_bytes(args); }
  size_t scratch_bytes(const NormBackwardArgs& args) const override { return cuda::norm_scratch_bytes(args); }
  size_t scratch_bytes(const AttentionArgs& args) const override { return attention_.scratch_bytes(args); }
  size_t scratch_bytes(const AttentionBackwardArgs& args) const override { return attention_.scratch_bytes(args); }
  size_t embedding_scratch_bytes(int64_t tokens, int64_t rows) const override {
    return cuda::embedding_scratch_bytes(tokens, rows);
  }
  size_t bias_scratch_bytes(int64_t rows, int64_t columns) const override {
    return cuda::bias_scratch_bytes(rows, columns);
  }
  size_t sum_scratch_bytes() const override { return cuda::kSumScratchBytes; }

 private:
  cuda::Gemm gemm_;
  cuda::AttentionDispatch attention_;
};

}  // namespace

std::unique_ptr<Ops> make_cuda_ops(AttentionKernel attention) { return std::make_unique<CudaOps>(attention); }

std::string cudnn_description() {
  const std::string version = cuda::cudnn_version();
  return version.empty() ? "no cuDNN" : "cuDNN " + version;
}

}  // namespace trident
