// trident bench attention: causal attention in bf16 of one length, 12 heads of 64, forward and backward, for
// comparisons with other programs.
#include <algorithm>
#include <cstdio>

#include "apps/bench.h"
#include "core/base/error.h"

namespace trident {

void bench_attention(Device& device, int64_t context, int64_t tokens) {
  if (context < 1 || tokens < 1 || tokens % context != 0) {
    throw UserError(build_string("bench attention: --tokens ", tokens, " must be a positive multiple of --context ",
                                 context, ", such as --tokens ", std::max<int64_t>(1, context)));
  }
  constexpr int64_t kHeads = 12, kHeadSize = 64;
  Room room(device);
  const Stream stream = device.stream(Role::compute);
  AttentionBackwardArgs args;
  AttentionArgs& forward = args.forward;
  forward.qkv = room.fill(DType::bf16, {tokens, 3 * kHeads * kHeadSize});
  forward.out = room.make(DType::bf16, {tokens, kHeads * kHeadSize});
  forward.lse = room.make(DType::f32, {tokens / context, kHeads, context});
  forward.context = context;
  forward.heads = forward.kv_heads = forward.heads_total = kHeads;
  forward.head_size = kHeadSize;
  forward.scale = 0.125f;
  forward.scratch = room.scratch(device.ops().scratch_bytes(forward));
  args.dout = room.fill(DType::bf16, {tokens, kHeads * kHeadSize});
  args.dqkv = room.make(DType::bf16, {tokens, 3 * kHeads * kHeadSize});
  args.scratch = room.scratch(device.ops().scratch_bytes(args));
  const double products = 2.0 * static_cast<double>(tokens * context * kHeads * kHeadSize);  // of the kept half
  const auto print = [&](const char* what, double work, double seconds) {
    std::printf("attention %s, %lld of %lld tokens  %8.3f ms  %7.1f GFLOP/s\n", what, static_cast<long long>(context),
                static_cast<long long>(tokens), seconds * 1e3, work / seconds * 1e-9);
  };
  print("forward", products, fastest(device, [&] { device.ops().attention_forward(stream, forward); }));
  print("backward", 2.5 * products, fastest(device, [&] { device.ops().attention_backward(stream, args); }));
}

}  // namespace trident
