#include <memory>
#include <string>
#include <vector>

#include "core/device/device.h"
#include "kernels/dry_ops.h"
#include "support/catch.h"

namespace trident {

TEST_CASE("ranges open and close in order, also past an exception") {
  // A device that writes down what a profiler would see.
  class Listening final : public Device {
   public:
    std::vector<std::string> seen;
    void begin_range(const char* name, int64_t number) override { seen.push_back(name + std::to_string(number)); }
    void end_range() override { seen.push_back("end"); }

    Memory alloc(size_t, Place, std::string_view) override { return {}; }
    std::vector<Allocation> allocations() const override { return {}; }
    void copy(Tensor, Tensor, Stream) override {}
    void fill_zero(Tensor, Stream) override {}
    Stream stream(Role) override { return {}; }
    Event record(Stream) override { return {}; }
    void wait(Stream, Event) override {}
    void synchronize(Stream) override {}
    void synchronize(Event) override {}
    bool passed(Event) override { return true; }
    const Ops& ops() const override { return *ops_; }

   private:
    std::unique_ptr<Ops> ops_ = make_dry_cuda_ops(AttentionKernel::own);
  } device;

  try {
    const Range step(device, "step ", 7);
    { const Range block(device, "block ", 0); }
    const Range block(device, "block ", 1);
    throw 1;
  } catch (int) {
  }
  CHECK(device.seen == std::vector<std::string>{"step 7", "block 0", "end", "block 1", "end", "end"});
}

}  // namespace trident
