// The GEMM front end over the emulated cuBLASLt: which algorithm multiplies, the way down the list to the hand-written
// kernel, which epilogues are the library's; and that the library refuses what NVIDIA's documentation leaves out.
#include <cublasLt.h>

#include "core/base/error.h"
#include "core/base/log.h"
#include "emulated_room.h"
#include "kernels/cases.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/families.h"
#include "kernels/cuda/gemm.h"
#include "kernels/simt/cublaslt.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::cases;

namespace {

/// Faults on, counters at zero, and the log quiet about fallbacks, until the end of a test.
class Fault {
 public:
  explicit Fault(int refuse = 0, bool create = false, bool fail = false) {
    log::configure(0, log::Level::error);
    set(refuse, create, fail);
  }
  ~Fault() {
    set(0, false, false);
    log::configure(0, log::Level::info);
  }

 private:
  static void set(int refuse, bool create, bool fail) {
    simt::CublasLt& library = simt::cublaslt;
    library.refuse_algorithms = refuse;
    library.refuse_create = create;
    library.fail_matmul = fail;
    library.heuristics = library.matmuls = library.fused = 0;
  }
};

constexpr int kEvery = 1000;

/// Runs the cases whose names contain `part`, by a table of their own; how many there were.
int run_cases(const std::string& part) {
  const std::unique_ptr<Ops> ops = make_cuda_ops();
  EmulatedRoom room;
  int count = 0;
  for (const Case& c : gemm_cases()) {
    if (c.name.find(part) == std::string::npos) continue;
    ++count;
    const std::string wrong = join_lines(compare(*ops, c, room));
    INFO(wrong);
    CHECK(wrong.empty());
  }
  return count;
}

/// What a call throws.
template <class Call>
std::string thrown(Call call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

Tensor dry(DType dtype, std::initializer_list<int64_t> shape) { return {nullptr, dtype, shape}; }

GemmArgs dry_args(int64_t m, int64_t n, int64_t k) {
  return {.c_MN = dry(DType::bf16, {m, n}), .a = dry(DType::bf16, {m, k}), .b = dry(DType::bf16, {k, n})};
}

}  // namespace

TEST_CASE("the hand-written kernel passes every gemm case when cuBLASLt has no algorithm", "[gemm]") {
  const Fault fault(kEvery);
  CHECK(run_cases("gemm") == static_cast<int>(gemm_cases().size()));
  CHECK(simt::cublaslt.matmuls == 0);
}

TEST_CASE("the first algorithm that runs is kept, and the heuristics are asked once per kind of call", "[gemm]") {
  // Aligned runs have three algorithms, the others one; each kind of alignment is a question of its own.
  const std::string name = "gemm 64x48x96 bf16->bf16 NN accumulate";
  uint64_t runs = 0;
  for (const int refuse : {0, 1, 2, 3}) {
    INFO(refuse << " algorithms refuse");
    const Fault fault(refuse);
    CHECK(run_cases(name) == 1);
    const uint64_t matmuls = simt::cublaslt.matmuls;
    if (refuse == 0) runs = matmuls;
    if (refuse == 1 || refuse == 2) CHECK((matmuls >= 2 && matmuls < runs));
    if (refuse == 3) CHECK(matmuls == 0);
    CHECK(simt::cublaslt.heuristics < runs);
    CHECK(simt::cublaslt.fused == 0);
  }
}

TEST_CASE("gelu and the bias gradient are cuBLASLt's where it has them, and composed where not", "[gemm]") {
  const auto fused = [](const std::string& name) {
    const Fault fault;
    CHECK(run_cases("gemm " + name) == 1);
    // Some of a case's runs have unaligned tensors: the library multiplies, and the rest is composed.
    CHECK(simt::cublaslt.matmuls > simt::cublaslt.fused);
    return simt::cublaslt.fused >= 2;
  };
  CHECK(fused("64x48x96 bf16->bf16 NT gelu"));
  CHECK(fused("64x48x96 f16->f16 NT bias gelu"));
  CHECK(fused("64x48x96 bf16->f32 TN bias_grad"));
  CHECK(fused("64x48x96 f32->f32 TN bias_grad"));
  CHECK_FALSE(fused("64x48x96 f32->f32 NT gelu"));
  CHECK_FALSE(fused("64x48x96 bf16->bf16 NT bias relu"));
  CHECK_FALSE(fused("64x48x96 bf16->bf16 NT bias silu"));
  CHECK_FALSE(fused("64x48x96 bf16->bf16 TN bias_grad"));
  CHECK_FALSE(fused("17x31x65 bf16->bf16 NT gelu"));
  CHECK_FALSE(fused("17x31x65 bf16->f32 TN bias_grad"));
}

TEST_CASE("a failure of cuBLASLt names the call and the status", "[gemm]") {
  const auto failure = [] {
    const std::unique_ptr<Ops> ops = make_cuda_ops();
    EmulatedRoom room;
    for (const Case& c : gemm_cases()) {
      if (c.name == "gemm 64x48x96 bf16->f32 NT bias") return thrown([&] { compare(*ops, c, room); });
    }
    return std::string("no such case");
  };
  {
    const Fault fault(0, false, true);
    CHECK(failure() ==
          "gemm 64x48x96 bf16 -> f32, b^T, bias: cublasLtMatmul: CUBLAS_STATUS_EXECUTION_FAILED "
          "(CUBLAS_STATUS_EXECUTION_FAILED)");
  }
  const Fault fault(0, true);
  CHECK(failure().find("cublasLtCreate: CUBLAS_STATUS_NOT_INITIALIZED") != std::string::npos);
}

TEST_CASE("scratch follows from the shapes, without a device", "[gemm]") {
  const Fault fault(0, true);
  const std::unique_ptr<Ops> ops = make_cuda_ops();
  constexpr size_t kPad = 192, kMost = size_t{32} << 20;
  CHECK(ops->scratch_bytes(dry_args(1, 1, 1)) == kPad + 4096);
  CHECK(ops->scratch_bytes(dry_args(1 << 16, 1 << 16, 64)) == kPad + kMost);
  GemmArgs with_bias = dry_args(8, 128, 8);
  with_bias.bias_N = dry(DType::bf16, {128});
  CHECK(ops->scratch_bytes(with_bias) == kPad + 8 * 8 * 128 * 4);
  with_bias.c_MN = dry(DType::f32, {8, 128});  // cuBLASLt takes the bias in c's type: converted
  CHECK(ops->scratch_bytes(with_bias) == kPad + 8 * 8 * 128 * 4 + 128 * 4);
  CHECK(simt::cublaslt.heuristics == 0);
}

TEST_CASE("an empty K leaves the bias, or the old c", "[gemm]") {
  EmulatedRoom room;
  const std::unique_ptr<Ops> ops = make_cuda_ops();
  const auto place = [&](DType dtype, std::initializer_list<int64_t> shape, const std::vector<char>& bytes) {
    Tensor t(nullptr, dtype, shape, Place::device);
    t.data = room.alloc(std::max<size_t>(1, t.bytes()));
    if (!bytes.empty()) room.upload(static_cast<char*>(t.data), bytes);
    return t;
  };
  const std::vector<char> bias{1, 2, 3, 4}, old{1, 2, 3, 4, 5, 6, 7, 8};  // bf16, any numbers
  for (const bool accumulate : {false, true}) {
    GemmArgs args{.c_MN = place(DType::bf16, {2, 2}, old),
                  .a = place(DType::bf16, {2, 0}, {}),
                  .b = place(DType::bf16, {0, 2}, {}),
                  .accumulate = accumulate};
    if (!accumulate) args.bias_N = place(DType::bf16, {2}, bias);
    args.scratch = place(DType::u8, {static_cast<int64_t>(ops->scratch_bytes(args))}, {});
    ops->gemm(room.stream(), args);
    const std::vector<char> want = accumulate ? old : std::vector<char>{1, 2, 3, 4, 1, 2, 3, 4};
    CHECK(room.download(static_cast<const char*>(args.c_MN.data), 8) == want);
  }
  room.release_all();
}
