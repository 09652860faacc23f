// The emulated device's heap: allocations between red zones, and for every byte its state and who touched it last.
//
// Addresses lie in one arena, which the emulated runtime closes to the host between operations (dev_expose). Freed
// addresses are not handed out again before the whole arena has been used once, so that a stale pointer is recognised.
// The functions may be called on any thread; the arena's accesses come from one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/simt/race.h"

namespace simt {

/// Uninitialised memory of n bytes, aligned to 256; null when the arena is full.
void* dev_alloc(size_t bytes);
/// Throws Error when p is not the begin of a live allocation.
void dev_free(void* p);
bool dev_contains(const void* p);
/// Bytes from p to the end of its allocation, 0 outside of any.
size_t dev_extent(const void* p);
void dev_mark_init(const void* p, size_t bytes);
/// Throws Error when the range is not inside one live allocation.
void dev_require(const void* p, size_t bytes, const char* what);
/// A copy or a library call touches a range, as the operation blk.launch. Throws Error when the range is bad, read
/// uninitialised, or in a race with another operation.
void dev_op_access(const void* p, size_t bytes, bool write, const char* what);
/// Opens the arena to everybody, or closes it: a host access is then a segmentation fault.
void dev_expose(bool open);

/// Whether operation a happened before b, by streams and events; a and b are values that blk.launch had. Set by the
/// emulated runtime; null means that operations are ordered as they run, and every launch counts itself. Operations
/// that the runtime no longer remembers are to be called ordered.
extern bool (*ops_ordered)(uint64_t a, uint64_t b);

// ---- for the checks of accesses ----

namespace heap {

enum ByteState : uint8_t { kOutside = 0, kLive = 1, kInitialised = 2, kFreed = 4 };  // kLive | kInitialised

extern char* arena;
extern uint8_t* state;           // one per byte
extern RaceTag *writes, *reads;  // one per two bytes; null in fast mode

/// The number of the current operation in race tags, and the operation that such a number stands for.
uint64_t operation_number();
uint64_t operation_of(RaceTag tag);

enum class Race : uint8_t { none, operations, threads };
/// Whether the access `now` and the earlier one race.
Race race_between(RaceTag before, RaceTag now);
/// "global race: KIND" or the like.
const char* race_name(Race race);

void begin_launch();
/// Throws Error when a red zone was overwritten.
void check_red_zones();

}  // namespace heap
}  // namespace simt
