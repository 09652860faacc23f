// The CUDA table on the whole case list, executed by the SIMT emulator (test_simt) or by a GPU (test_cuda).
#include <cstdlib>

#include "cuda_room.h"
#include "kernels/cases.h"
#include "kernels/compare.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/simt/control.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::cases;

namespace {

void run_family(const std::vector<Case>& family) {
  const std::unique_ptr<Ops> ops = make_cuda_ops();
  simt::CollectReports reports;
  const std::unique_ptr<Room> room = make_cuda_room();
  const char* only = std::getenv("TRIDENT_CASE");
  for (const Case& c : family) {
    if (only != nullptr && c.name.find(only) == std::string::npos) continue;
    std::string wrong;
    try {
      wrong = join_lines(compare(*ops, c, *room));
    } catch (const std::exception& e) {
      wrong = c.name + ": " + e.what();
    }
    for (const simt::Report& r : reports.take()) wrong += "\n" + r.text;
    simt::reset_context_error();
    INFO(wrong);
    CHECK(wrong.empty());
  }
}

}  // namespace

TEST_CASE("cuda: gemm", "[gemm]") { run_family(gemm_cases()); }
TEST_CASE("cuda: norm", "[norm]") { run_family(norm_cases()); }
TEST_CASE("cuda: rope", "[rope]") { run_family(rope_cases()); }
TEST_CASE("cuda: attention", "[attention]") { run_family(attention_cases()); }
TEST_CASE("cuda: activation", "[activation]") { run_family(activation_cases()); }
TEST_CASE("cuda: dropout", "[dropout]") { run_family(dropout_cases()); }
TEST_CASE("cuda: elementwise", "[elementwise]") { run_family(elementwise_cases()); }
TEST_CASE("cuda: embedding", "[embedding]") { run_family(embedding_cases()); }
TEST_CASE("cuda: loss", "[loss]") { run_family(loss_cases()); }
TEST_CASE("cuda: optimizer", "[optimizer]") { run_family(optimizer_cases()); }
TEST_CASE("cuda: step", "[step]") { run_family(step_cases()); }
