// The fast CPU table on the whole case list.
#include "compare.h"
#include "kernels/cpu/cpu_ops.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::cases;

TEST_CASE("the CPU table passes the whole case list") {
  const std::unique_ptr<Ops> cpu = make_cpu_ops();
  const std::unique_ptr<Room> room = make_host_room();
  for (const Case& c : all_cases()) {
    const std::string wrong = join_lines(compare(*cpu, c, *room));
    INFO(wrong);
    CHECK(wrong.empty());
  }
}
