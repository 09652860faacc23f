// Every bug of the zoo is reported, in every order, by a message that says where; no corrected kernel is.
//
// Checked mode must report all. Fast mode is for numbers: the table says which bugs it reports anyway, in one of the
// orders at least.
#include "simt/bug_zoo.h"

#include <functional>

#include "simt/emulated.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::simt_tests;

namespace {

enum class Fast { reports, silent };
enum class Where { in_source, at_launch };

struct Bug {
  const char* name;
  const char* expected;  // in checked mode, a part of the message
  Fast fast;
  Where where;
  std::function<std::string(Emulated&, bool right)> run;  // the report, empty for none
};

constexpr Fast kReports = Fast::reports, kSilent = Fast::silent;
constexpr Where kSource = Where::in_source, kLaunch = Where::at_launch;

/// Kernels that only write.
using Out = void (*)(float*);
auto run_out(Out wrong, Out right, unsigned grid, unsigned block, size_t smem = 0) {
  return [=](Emulated& device, bool is_right) {
    return device.report(is_right ? right : wrong, dim3(grid), dim3(block), smem, device.numbers<float>(256));
  };
}
/// Kernels that read 512 floats and write.
using OutIn = void (*)(float*, const float*);
auto run_out_in(OutIn wrong, OutIn right, unsigned block) {
  return [=](Emulated& device, bool is_right) {
    return device.report(is_right ? right : wrong, dim3(1), dim3(block), 0, device.numbers<float>(256),
                         device.numbers<float>(512));
  };
}

// The two versions of a kernel template, by name.
#define ZOO_PAIR(kernel) kernel<false>, kernel<true>

std::vector<Bug> thread_bugs() {
  return {
      {"missing __syncthreads", "read of uninitialised shared memory", kSilent, kSource,
       run_out(ZOO_PAIR(missing_sync), 1, 64)},
      {"missing __syncwarp", "read of uninitialised shared memory", kSilent, kSource,
       run_out(ZOO_PAIR(missing_syncwarp), 1, 32)},
      {"buffer refilled while in use", "shared race: ", kSilent, kSource, run_out_in(ZOO_PAIR(refill_in_use), 64)},
      {"buffer overwritten inside a warp", "shared race: ", kSilent, kSource,
       run_out(ZOO_PAIR(overwrite_in_warp), 1, 32)},
      {"divergent barrier", "divergent barrier: lanes of one warp wait at", kReports, kSource,
       run_out(ZOO_PAIR(divergent_barrier), 1, 32)},
      {"warps at different barriers", "divergent barrier: warps wait at different places", kReports, kSource,
       run_out(ZOO_PAIR(warps_at_different_barriers), 1, 64)},
      {"barrier in a branch", "deadlock:", kReports, kSource, run_out(ZOO_PAIR(barrier_in_branch), 1, 64)},
      {"exit before a barrier", "barrier with 24 exited threads", kReports, kSource,
       run_out(ZOO_PAIR(early_exit), 1, 64)},
      {"shuffle from an inactive lane", "shuffle reads from inactive lane", kReports, kSource,
       run_out(ZOO_PAIR(shuffle_inactive), 1, 32)},
      {"divergent shuffles", "divergent warp intrinsic", kReports, kSource,
       run_out(ZOO_PAIR(shuffle_divergent), 1, 32)},
      {"lane outside of its mask", "calling lane not in its own mask", kReports, kSource,
       run_out(ZOO_PAIR(wrong_mask), 1, 32)},
      {"mma without all lanes", "mma.sync with inactive lanes", kReports, kSource,
       run_out(ZOO_PAIR(mma_in_branch), 1, 32)},
      {"race between blocks", "global race:", kSilent, kSource, run_out(ZOO_PAIR(block_race), 2, 64)},
      {"block reads its neighbour's output", "global race:", kSilent, kSource,
       run_out(ZOO_PAIR(neighbour_blocks), 2, 64)},
      {"block overwrites what another has read", "global race:", kSilent, kSource,
       run_out(ZOO_PAIR(write_after_read), 2, 64)},
      {"atomics and a plain store", "global race:", kSilent, kSource, run_out(ZOO_PAIR(half_atomic), 1, 32)},
  };
}

std::vector<Bug> memory_bugs() {
  return {
      {"read past the end", "out-of-bounds global read", kSilent, kSource,
       [](Emulated& d, bool right) {
         return d.report(right ? read_past_end<true> : read_past_end<false>, dim3(1), dim3(128), 0,
                         d.numbers<float>(100), d.numbers<float>(100), 100);
       }},
      {"write past the end", "out-of-bounds global write", kReports, kSource,
       [](Emulated& d, bool right) {
         return d.report(right ? write_past_end<true> : write_past_end<false>, dim3(1), dim3(128), 0,
                         d.numbers<float>(100), 100);
       }},
      {"vector across the end", "out-of-bounds global read", kReports, kSource,
       [](Emulated& d, bool right) {
         return d.report(right ? vector_past_end<true> : vector_past_end<false>, dim3(1), dim3(32), 0,
                         d.numbers<float>(32), d.numbers<float>(126));
       }},
      {"misaligned float4", "misaligned access: address needs 16-byte alignment", kReports, kSource,
       [](Emulated& d, bool right) {
         return d.report(right ? misaligned_float4<true> : misaligned_float4<false>, dim3(1), dim3(32), 0,
                         d.uninitialised<float4>(32), d.numbers<float>(512));
       }},
      {"misaligned ld128", "misaligned ld128", kReports, kSource,
       [](Emulated& d, bool right) {
         return d.report(right ? misaligned_ld128<true> : misaligned_ld128<false>, dim3(1), dim3(32), 0,
                         d.uninitialised<uint4>(32), d.numbers<__nv_bfloat16>(512));
       }},
      {"uninitialised shared memory", "read of uninitialised shared memory", kSilent, kSource,
       run_out(ZOO_PAIR(uninitialised_shared), 1, 64)},
      {"uninitialised global memory", "read of uninitialised global memory", kSilent, kSource,
       [](Emulated& d, bool right) {
         return d.report(copy, dim3(1), dim3(64), 0, d.numbers<float>(64),
                         right ? d.numbers<float>(64) : d.uninitialised<float>(64));
       }},
      {"freed memory", "use of freed device memory", kSilent, kSource,
       [](Emulated& d, bool right) {
         float* freed = static_cast<float*>(simt::dev_alloc(256));
         simt::dev_mark_init(freed, 256);
         if (!right) simt::dev_free(freed);
         const std::string report = d.report(copy, dim3(1), dim3(64), 0, d.numbers<float>(64), freed);
         if (right) simt::dev_free(freed);
         return report;
       }},
      {"host pointer", "kernel dereferences host memory", kSilent, kSource,
       [](Emulated& d, bool right) {
         const std::vector<float> host(64);
         return d.report(copy, dim3(1), dim3(64), 0, d.numbers<float>(64), right ? d.numbers<float>(64) : host.data());
       }},
      {"past the dynamic shared memory", "out-of-bounds dynamic shared memory", kSilent, kSource,
       run_out(ZOO_PAIR(dynamic_past_end), 1, 64, 256)},
      {"unaligned ldmatrix", "ldmatrix: row address not 16-byte aligned", kReports, kSource,
       [](Emulated& d, bool right) {
         return d.report(right ? unaligned_ldmatrix<true> : unaligned_ldmatrix<false>, dim3(1), dim3(32), 4096,
                         d.uninitialised<uint32_t>(32));
       }},
      {"local variable of another thread", "local variable of another thread", kSilent, kSource,
       run_out(ZOO_PAIR(local_of_another), 1, 32)},
      {"stack overflow", "kernel stack overflow", kReports, kSource,
       [](Emulated& d, bool right) {
         return d.report(right ? endless_stack<true> : endless_stack<false>, dim3(1), dim3(32), 0, d.numbers<float>(32),
                         1000);
       }},
  };
}

std::vector<Bug> copy_bugs() {
  return {
      {"no wait_group", "cp.async in flight", kSilent, kSource, run_out_in(ZOO_PAIR(no_wait), 32)},
      {"wait_group without a barrier", "read of uninitialised shared memory", kSilent, kSource,
       run_out_in(ZOO_PAIR(wait_without_barrier), 32)},
      {"wait_group for too few", "cp.async in flight", kSilent, kSource, run_out_in(ZOO_PAIR(wait_for_too_few), 32)},
      {"copy pending at exit", "cp.async still pending at thread exit", kReports, kLaunch,
       run_out_in(ZOO_PAIR(pending_at_exit), 32)},
      {"copy to global memory", "cp.async: destination is not in shared memory", kReports, kSource,
       run_out_in(ZOO_PAIR(copy_to_global), 32)},
  };
}

/// One launch writes what another reads, on streams that nothing orders.
std::string two_operations(Emulated& device, bool right) {
  float* a = device.numbers<float>(64);
  float* b = device.numbers<float>(64);
  simt::ops_ordered = right ? [](uint64_t, uint64_t) { return true; } : [](uint64_t, uint64_t) { return false; };
  ++simt::blk.launch;
  const std::string first = device.report(copy, dim3(1), dim3(64), 0, a, b);
  ++simt::blk.launch;
  const std::string second = device.report(copy, dim3(1), dim3(64), 0, b, a);
  simt::ops_ordered = nullptr;
  return first + second;
}

std::vector<Bug> launch_bugs() {
  const auto launch = [](Out kernel, dim3 wrong_grid, dim3 wrong_block, size_t wrong_smem) {
    return [=](Emulated& d, bool right) {
      return right ? d.report(kernel, dim3(1), dim3(64), 512, d.numbers<float>(256))
                   : d.report(kernel, wrong_grid, wrong_block, wrong_smem, d.numbers<float>(256));
    };
  };
  constexpr size_t kLimit = simt::shared_limit(simt::Architecture::sm_80);
  return {
      {"launches without an event between them", "stream race (no event orders the two operations)", kSilent, kSource,
       two_operations},
      {"dynamic shared memory above sm_80's", "above the limit of 163 KB of sm_80", kReports, kLaunch,
       launch(dynamic_past_end<true>, dim3(1), dim3(64), kLimit + 1)},
      {"static and dynamic shared memory above sm_80's", "is above the limit of 163 KB of sm_80", kSilent, kLaunch,
       run_out(ZOO_PAIR(static_and_dynamic), 1, 32, kLimit - 1024)},
      {"grid.y of 65536", "grid too large", kReports, kLaunch, launch(missing_sync<true>, dim3(1, 65536), dim3(64), 0)},
      {"empty grid", "empty grid", kReports, kLaunch, launch(missing_sync<true>, dim3(0), dim3(64), 0)},
      {"block of 1056 threads", "bad block size", kReports, kLaunch,
       launch(missing_sync<true>, dim3(1), dim3(1056), 0)},
      {"block above __launch_bounds__", "is above its __launch_bounds__(64)", kReports, kLaunch,
       run_out(ZOO_PAIR(bounded), 1, 128)},
  };
}

constexpr simt::Order kOrders[] = {simt::Order::Ascending, simt::Order::Descending, simt::Order::Random};

void check_bug(const Bug& bug) {
  INFO(bug.name);
  int reported = 0;
  for (simt::Order order : kOrders) {
    Emulated device;
    simt::opt.order = order;
    const std::string report = bug.run(device, false);
    INFO("order " << static_cast<int>(order) << ": " << report);
    reported += !report.empty();
    if (simt::checked) {
      CHECK(report.find(bug.expected) != std::string::npos);
      if (bug.where == Where::in_source) {
        CHECK(report.find("bug_zoo.cu:") != std::string::npos);
        CHECK(report.find("[kernel simt_tests::") != std::string::npos);
        CHECK(report.find("block (") != std::string::npos);
      }
    }
    Emulated again;
    simt::opt.order = order;
    CHECK(bug.run(again, true) == "");
  }
  if (!simt::checked) CHECK((reported > 0) == (bug.fast == Fast::reports));
}

}  // namespace

TEST_CASE("bug zoo: threads of a block", "[zoo]") {
  for (const Bug& bug : thread_bugs()) check_bug(bug);
}
TEST_CASE("bug zoo: memory", "[zoo]") {
  for (const Bug& bug : memory_bugs()) check_bug(bug);
}
TEST_CASE("bug zoo: asynchronous copies", "[zoo]") {
  for (const Bug& bug : copy_bugs()) check_bug(bug);
}
TEST_CASE("bug zoo: launches", "[zoo]") {
  for (const Bug& bug : launch_bugs()) check_bug(bug);
}
TEST_CASE("bug zoo: holds at least the 22 that were promised", "[zoo]") {
  CHECK(thread_bugs().size() + memory_bugs().size() + copy_bugs().size() + launch_bugs().size() >= 40);
}
