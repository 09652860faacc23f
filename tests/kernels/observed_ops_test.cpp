// The observed table: passes every call on unchanged, says which it was, and counts its work.
#include "kernels/observed_ops.h"

#include <set>

#include "compare.h"
#include "core/base/error.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/dry_ops.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::cases;

namespace {

class Calls final : public OpObserver {
 public:
  void begin(const OpCall& call) override {
    CHECK(!inside_);
    inside_ = true;
    all.push_back(call);
  }
  void end() override { inside_ = false; }
  bool inside() const { return inside_; }

  std::vector<OpCall> all;

 private:
  bool inside_ = false;
};

/// A case's tensors without memory.
class DryArguments final : public Arguments {
 public:
  explicit DryArguments(const Case& c) : operands_(c.operands()) {}
  Tensor operator[](std::string_view name) const override {
    for (const Operand& o : operands_) {
      if (o.name == name) return Tensor(nullptr, o.dtype, std::span<const int64_t>(o.shape));
    }
    throw InternalError(build_string("no operand ", name));
  }
  Tensor scratch(size_t bytes) override {
    return bytes == 0 ? Tensor{} : Tensor(nullptr, DType::u8, {static_cast<int64_t>(bytes)});
  }
  Stream stream() const override { return {}; }

 private:
  std::vector<Operand> operands_;
};

Tensor dry(DType dtype, std::initializer_list<int64_t> shape) { return {nullptr, dtype, shape}; }

}  // namespace

TEST_CASE("every operation of the list is seen under its own name, and its call arrives as it was") {
  const std::unique_ptr<Ops> cpu = make_cpu_ops();
  Calls seen;
  const std::unique_ptr<Ops> observed = make_observed_ops(make_cpu_ops(), seen);
  const std::unique_ptr<Ops> counted = make_observed_ops(make_dry_ops(*cpu), seen);
  const std::unique_ptr<Room> room = make_host_room();
  std::set<Op> met;
  for (const Case& c : all_cases()) {
    seen.all.clear();
    DryArguments dry_tensors(c);
    c.run(*counted, dry_tensors);
    INFO(c.name);
    CHECK(!seen.all.empty());
    bool fresh = false;
    for (const OpCall& call : seen.all) {
      // Some cases have no rows.
      fresh |= call.work.bytes > 0 && met.insert(call.op).second;
    }
    // With memory, the first case of each operation will do: the table adds no arithmetic.
    if (!fresh) continue;
    const std::string wrong = join_lines(compare(*observed, c, *room));
    INFO(wrong);
    CHECK(wrong.empty());
  }
  std::set<std::string_view> names;
  for (int op = 0; op < kOps; ++op) {
    INFO(op_name(static_cast<Op>(op)));
    CHECK(met.contains(static_cast<Op>(op)));
    CHECK(names.insert(op_name(static_cast<Op>(op))).second);
  }
}

TEST_CASE("the work of a call") {
  Calls seen;
  const std::unique_ptr<Ops> cpu = make_cpu_ops();
  const std::unique_ptr<Ops> ops = make_observed_ops(make_dry_ops(*cpu), seen);
  const auto work = [&] { return seen.all.back().work; };
  const DType f32 = DType::f32, bf16 = DType::bf16;

  GemmArgs gemm{.c_MN = dry(f32, {2, 3}), .a = dry(bf16, {5, 2}), .b = dry(bf16, {5, 3}), .transpose_a = true};
  ops->gemm({}, gemm);
  CHECK(seen.all.back().op == Op::gemm);
  CHECK(work().flops == 2 * 2 * 3 * 5);
  CHECK(work().bytes == 2 * 10 + 2 * 15 + 4 * 6);
  gemm.accumulate = true;
  ops->gemm({}, gemm);
  CHECK(work().bytes == 2 * 10 + 2 * 15 + 2 * 4 * 6);

  // Two sequences of 3 tokens, 2 heads of 4: 6 scores a sequence and head are kept, of 9.
  AttentionArgs attention{.out = dry(bf16, {6, 8}), .lse = dry(f32, {2, 2, 3}), .qkv = dry(bf16, {6, 24})};
  attention.context = 3, attention.heads = attention.kv_heads = attention.heads_total = 2, attention.head_size = 4;
  ops->attention_forward({}, attention);
  CHECK(work().flops == 2 * 2 * (2 * 2 * 6 * 4));
  ops->attention_backward({}, {attention, dry(bf16, {6, 24}), dry(bf16, {6, 8}), {}});
  CHECK(work().flops == 5 * 2 * (2 * 2 * 6 * 4));
  attention.causal = false;
  ops->attention_forward({}, attention);
  CHECK(work().flops == 2 * 2 * (2 * 2 * 9 * 4));

  NormArgs norm{.kind = NormKind::rms_norm, .y_TD = dry(bf16, {6, 8}), .rstd_T = dry(f32, {6})};
  norm.x_TD = dry(bf16, {6, 8}), norm.w_D = dry(bf16, {8});
  ops->norm_forward({}, norm);
  CHECK(work().bytes == 2 * 96);
  norm.stream_TD = norm.addend_TD = norm.x_TD;
  ops->norm_forward({}, norm);
  CHECK(work().bytes == 4 * 96);

  ops->add({}, dry(f32, {7}), dry(bf16, {7}));
  CHECK(work().bytes == 2 * 28 + 14);
  ops->dropout_add({}, dry(f32, {1, 7}), {}, dry(f32, {1, 7}), {});
  CHECK(work().bytes == 2 * 28);
  // A table of 100 rows, of which 2 tokens touch 2.
  ops->embedding_backward({}, dry(f32, {100, 8}), dry(DType::i32, {2}), dry(bf16, {2, 8}), 0, {});
  CHECK(work().bytes == 2 * 2 * 32 + 2 * 16);
  ops->position_forward({}, dry(bf16, {2, 8}), dry(bf16, {100, 8}), 0, 100);
  CHECK(work().bytes == 2 * 16 + 2 * 2 * 16);

  AdamWArgs adamw{.master = dry(f32, {9}), .m = dry(f32, {9}), .v = dry(f32, {9}), .grad = dry(f32, {9})};
  adamw.weight = dry(bf16, {9});
  ops->adamw({}, adamw);
  CHECK(work().bytes == 9 * (7 * 4 + 2));
}

TEST_CASE("a call that throws has ended, too, and scratch is the real table's") {
  Calls seen;
  const std::unique_ptr<Ops> cpu = make_cpu_ops();
  const std::unique_ptr<Ops> observed = make_observed_ops(make_cpu_ops(), seen);
  CHECK_THROWS_AS(observed->add({}, dry(DType::f32, {1}), dry(DType::f32, {2})), InternalError);
  CHECK(seen.all.size() == 1);
  CHECK(!seen.inside());
  NormBackwardArgs norm;
  norm.forward.x_TD = dry(DType::f32, {100, 8});
  CHECK(observed->scratch_bytes(norm) == cpu->scratch_bytes(norm));
  CHECK(observed->scratch_bytes(norm) > 0);
}
