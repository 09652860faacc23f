// The room of the emulated GPU.
#pragma once

#include "cuda_room.h"
#include "kernels/simt/control.h"
#include "kernels/simt/options.h"
#include "kernels/simt/runtime.h"

namespace trident::cases {

class EmulatedRoom final : public CudaRoom {
 public:
  ~EmulatedRoom() override = default;

  /// The checked emulator reports a kernel's reads and writes outside an allocation.
  size_t zone() const override { return simt::checked ? 0 : Room::zone(); }

  // Aligned runs in the emulator's three orders of blocks, warps and lanes: equal bits, or a kernel depends on order.
  int repeats() const override { return 3; }
  void begin_run(int n) override {
    constexpr simt::Order kOrders[] = {simt::Order::Ascending, simt::Order::Descending, simt::Order::Random};
    simt::opt.order = kOrders[n % 3];
  }

 protected:
  void recover() override { simt::reset_context_error(); }
};

}  // namespace trident::cases
