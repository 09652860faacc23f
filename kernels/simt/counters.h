// What a kernel does, counted: launches and instructions in both modes, memory traffic in checked mode.
//
// How accesses become warp instructions: the k-th time a lane executes an instruction between two steps belongs to the
// same warp access as the k-th time of the other lanes. A step ends when all live lanes of a warp have met in a
// collective or wait at a barrier. Lanes that diverge and run an instruction a different number of times are grouped
// too densely, never too loosely. Only what the compiler kept is seen: use ld64, ld128 and their stores for vectors,
// for g++ splits a dereferenced uint2 or float4 into scalars, each of which would count as a strided access.
//
// Model of the hardware: global memory moves in 32-byte sectors, each counted once per warp access. Shared memory has
// 32 banks of 4 bytes; an access of 4 bytes or less is one phase, of 8 bytes two phases of half a warp, of 16 bytes
// (and ldmatrix) four of 8 lanes; a phase takes as many wavefronts as its most wanted bank has different words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace simt {

struct Traffic {
  uint64_t accesses = 0;  // warp instructions
  uint64_t bytes = 0;     // asked for, summed over lanes
  uint64_t sectors = 0;
  uint64_t ideal_sectors = 0;  // had each access's different bytes lain together and aligned
  uint64_t unique_bytes = 0;   // touched at least once in a launch (to 2 bytes), summed over launches
};

struct SharedTraffic {
  uint64_t accesses = 0;
  uint64_t wavefronts = 0;
  uint64_t ideal_wavefronts = 0;
  uint64_t conflicts() const { return wavefronts - ideal_wavefronts; }
};

struct Counters {
  uint64_t launches = 0, blocks = 0, threads = 0;
  uint64_t mma = 0, ldmatrix = 0;  // warp instructions
  uint64_t async_copies = 0;       // cp.async of single threads
  uint64_t barriers = 0;           // __syncthreads of whole blocks
  unsigned largest_block = 0;
  size_t dynamic_shared = 0;  // the most a launch asked for

  // Checked mode only, with Options::count_accesses.
  size_t static_shared = 0;  // bytes of static __shared__ that one block touched
  Traffic loads, stores;     // global memory; cp.async loads, atomics store
  SharedTraffic shared;      // all but ldmatrix
  SharedTraffic ldmatrix_rows;

  /// Bytes that went over the bus against the least possible: each byte read once and written once.
  double traffic_ratio() const {
    const uint64_t least = loads.unique_bytes + stores.unique_bytes;
    return least == 0 ? 1.0 : 32.0 * static_cast<double>(loads.sectors + stores.sectors) / static_cast<double>(least);
  }
};

/// By kernel_name, since the start or the last reset. While no kernel runs.
std::map<std::string, Counters> counters();
void reset_counters();

}  // namespace simt
