// trident bench adamw: the update alone, beside a read-modify-write stream that is measured in turn with it.
#include <cstdio>
#include <string>

#include "apps/bench.h"
#include "core/base/error.h"

namespace trident {

void bench_adamw(Device& device, bool on_cpu, const BenchShape& shape) {
  const MemoryStream memory(device, on_cpu, shape.parameters);
  const Stream stream = device.stream(Role::compute);
  const DType dtype = DType::bf16;
  std::printf("\n%-34s %10s %12s %8s\n", std::string(dtype_name(dtype)).c_str(), "ms", "rate", "of limit");
  for (const DType state : {DType::f32, DType::bf16}) {
    Room room(device);
    const AdamWArgs args = adamw_args(room, shape.parameters, dtype, state);
    // master, m, v and grad read; the first three and the weight written.
    const double bytes = 2.0 * static_cast<double>(args.master.bytes() + args.m.bytes() + args.v.bytes()) +
                         static_cast<double>(args.grad.bytes() + args.weight.bytes());
    const BesideStream pair =
        beside_stream(device, memory, bytes, Traffic::in_place, [&] { device.ops().adamw(stream, args); });
    const double rate = bytes / pair.seconds;
    const std::string name =
        state == DType::f32 ? build_string("adamw, ", shape.parameters, " parameters") : "  moments in bf16";
    std::printf("%-34s %10.3f %7.1f GB/s %7.0f%%  of x *= s beside it, %.1f GB/s\n", name.c_str(), pair.seconds * 1e3,
                rate * 1e-9, 100 * rate / pair.stream_rate, pair.stream_rate * 1e-9);
  }
}

AdamWArgs adamw_args(Room& room, int64_t count, DType dtype, DType state) {
  AdamWArgs args;
  args.master = room.fill(DType::f32, {count}), args.grad = room.fill(DType::f32, {count});
  args.m = room.make(state, {count}), args.v = room.make(state, {count});
  args.weight = room.make(dtype, {count});
  args.lr = 1e-3f;
  args.stochastic_state = state == DType::bf16;
  return args;
}

}  // namespace trident
