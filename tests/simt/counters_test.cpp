// The counters on patterns whose traffic is known by hand.
#include "kernels/simt/counters.h"

#include "simt/emulated.h"
#include "simt/kernels.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::simt_tests;

namespace {

/// What one launch of a kernel counts.
template <class... P, class... A>
simt::Counters count(void (*kernel)(P...), dim3 grid, dim3 block, size_t smem, A&&... args) {
  simt::reset_counters();
  Emulated::run(kernel, grid, block, smem, std::forward<A>(args)...);
  const auto all = simt::counters();
  REQUIRE(all.size() == 1);
  return all.begin()->second;
}

}  // namespace

TEST_CASE("simt counters: launches have the kernel's name") {
  Emulated device;
  float* out = device.numbers<float>(512);
  simt::reset_counters();
  for (int i = 0; i < 3; ++i) device.run(copy_vectors_kernel, dim3(1), dim3(128), 0, out, out);
  device.run(copy_vectors_kernel, dim3(2), dim3(64), 0, out, out);
  device.run(columns_kernel<32>, dim3(1), dim3(32), 0, out);
  auto all = simt::counters();
  REQUIRE(all.size() == 2);
  const simt::Counters& copies = all["simt_tests::copy_vectors_kernel"];
  CHECK(copies.launches == 4);
  CHECK(copies.blocks == 5);
  CHECK(copies.threads == 512);
  CHECK(copies.largest_block == 128);
  REQUIRE(all.count("simt_tests::columns_kernel<32>") == 1);
}

TEST_CASE("simt counters: instructions") {
  Emulated device;
  float* out = device.numbers<float>(128);
  CHECK(count(multiply_kernel, dim3(1), dim3(32), 0, out).mma == 3);
  CHECK(count(stage_kernel, dim3(1), dim3(32), 0, out, out).async_copies == 32);
  CHECK(count(matrices_kernel, dim3(1), dim3(32), 0, device.numbers<uint32_t>(32), true).ldmatrix == 1);
}

TEST_CASE("simt counters: global memory in 32-byte sectors") {
  if (!simt::checked) return;  // only the hooks see plain loads and stores
  Emulated device;
  SECTION("float4, coalesced: 512 bytes are 16 sectors") {
    const auto c = count(copy_vectors_kernel, dim3(2), dim3(128), 0, device.uninitialised<float>(1024),
                         device.numbers<float>(1024));
    CHECK(c.loads.accesses == 8);
    CHECK(c.loads.bytes == 4096);
    CHECK(c.loads.sectors == 128);
    CHECK(c.loads.ideal_sectors == 128);
    CHECK(c.loads.unique_bytes == 4096);
    CHECK(c.stores.accesses == 8);
    CHECK(c.stores.sectors == 128);
    CHECK(c.stores.unique_bytes == 4096);
    CHECK(c.traffic_ratio() == 1.0);
  }
  SECTION("float with stride 2: half of every sector is wasted") {
    const auto c = count(copy_stride_kernel, dim3(1), dim3(128), 0, device.uninitialised<float>(128),
                         device.numbers<float>(256), 2);
    CHECK(c.loads.accesses == 4);
    CHECK(c.loads.bytes == 512);
    CHECK(c.loads.sectors == 32);
    CHECK(c.loads.ideal_sectors == 16);
    CHECK(c.stores.sectors == 16);
    CHECK(c.traffic_ratio() == 1.5);
  }
  SECTION("float with stride 8: a sector a lane") {
    const auto c =
        count(copy_stride_kernel, dim3(1), dim3(32), 0, device.uninitialised<float>(32), device.numbers<float>(256), 8);
    CHECK(c.loads.sectors == 32);
    CHECK(c.loads.ideal_sectors == 4);
  }
  SECTION("stride 0: all lanes read one word") {
    const auto c =
        count(copy_stride_kernel, dim3(1), dim3(32), 0, device.uninitialised<float>(32), device.numbers<float>(1), 0);
    CHECK(c.loads.bytes == 128);
    CHECK(c.loads.sectors == 1);
    CHECK(c.loads.unique_bytes == 4);
  }
  SECTION("one element off: a ninth sector for 256 bytes") {
    const auto c = count(copy_stride_kernel, dim3(1), dim3(64), 0, device.uninitialised<float>(64),
                         device.numbers<float>(65) + 1, 1);
    CHECK(c.loads.sectors == 10);  // 5 + 5: each of the two accesses spans five
    CHECK(c.loads.ideal_sectors == 8);
  }
  SECTION("bf16, one a lane") {
    const auto c = count(copy_halves_kernel, dim3(1), dim3(64), 0, device.uninitialised<__nv_bfloat16>(64),
                         device.numbers<__nv_bfloat16>(64));
    CHECK(c.loads.accesses == 2);
    CHECK(c.loads.bytes == 128);
    CHECK(c.loads.sectors == 4);
    CHECK(c.stores.sectors == 4);
    CHECK(c.traffic_ratio() == 1.0);
  }
  SECTION("what is read twice moves twice") {
    const auto c =
        count(read_twice_kernel, dim3(1), dim3(128), 0, device.uninitialised<float>(128), device.numbers<float>(128));
    CHECK(c.loads.sectors == 32);
    CHECK(c.loads.unique_bytes == 512);
    CHECK(c.stores.unique_bytes == 512);
    CHECK(c.traffic_ratio() == 2.0);
  }
  SECTION("lanes that leave a loop early: the k-th rounds go together") {
    const auto c =
        count(ragged_loop_kernel, dim3(1), dim3(32), 0, device.uninitialised<float>(32), device.numbers<float>(1024));
    CHECK(c.loads.accesses == 32);
    CHECK(c.loads.bytes == 4 * 32 * 33 / 2);
    // Round i has lanes i..31, which read the words i * 32 + i .. i * 32 + 31.
    uint64_t sectors = 0;
    for (uint64_t i = 0; i < 32; ++i) sectors += 4 - i / 8;
    CHECK(c.loads.sectors == sectors);
  }
  SECTION("cp.async is a load of 16 bytes") {
    const auto c =
        count(stage_kernel, dim3(1), dim3(32), 0, device.uninitialised<float>(32), device.numbers<float>(128));
    CHECK(c.loads.accesses == 1);
    CHECK(c.loads.sectors == 16);
    CHECK(c.loads.unique_bytes == 512);
    CHECK(c.static_shared == 512);
  }
}

TEST_CASE("simt counters: shared memory in wavefronts") {
  if (!simt::checked) return;
  Emulated device;
  float* out = device.uninitialised<float>(32);
  SECTION("columns of a 32-float row: every lane in the same bank") {
    const auto c = count(columns_kernel<32>, dim3(1), dim3(32), 0, out);
    CHECK(c.shared.accesses == 64);
    CHECK(c.shared.ideal_wavefronts == 64);
    CHECK(c.shared.wavefronts == 32 + 32 * 32);
  }
  SECTION("one float of padding: no conflict") {
    const auto c = count(columns_kernel<33>, dim3(1), dim3(32), 0, out);
    CHECK(c.shared.accesses == 64);
    CHECK(c.shared.conflicts() == 0);
  }
  SECTION("16-byte and 8-byte accesses take four and two phases") {
    const auto c = count(vectors_in_shared_kernel, dim3(1), dim3(32), 0, out);
    CHECK(c.shared.accesses == 2);
    CHECK(c.shared.ideal_wavefronts == 6);
    CHECK(c.shared.conflicts() == 0);
  }
  SECTION("ldmatrix of rows 64 bytes apart: two of a phase's eight rows share no bank only when swizzled") {
    uint32_t* words = device.uninitialised<uint32_t>(32);
    const auto plain = count(matrices_kernel, dim3(1), dim3(32), 0, words, false);
    CHECK(plain.ldmatrix_rows.ideal_wavefronts == 4);
    CHECK(plain.ldmatrix_rows.wavefronts == 16);
    const auto swizzled = count(matrices_kernel, dim3(1), dim3(32), 0, words, true);
    CHECK(swizzled.ldmatrix_rows.wavefronts == 4);
  }
}
