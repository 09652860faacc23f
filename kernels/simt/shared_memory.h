// Shared memory: the dynamic buffer, and the thread-local storage of the thread that executes the kernel, where its
// static `__shared__` variables live.
//
// In checked mode every byte has a cell with its race tags; a cell belongs to the block that touched it last, so that
// nothing needs clearing between blocks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/simt/race.h"

namespace simt {

struct SharedCell {
  RaceTag write = 0, read = 0;
  uint32_t generation = 0;  // the block that last touched it, counted over the process
  bool in_flight = false;   // destination of a cp.async not yet waited for
};

/// Finds the thread-local storage and the image of the program (or library) that holds the kernel.
void find_kernel_module(const void* func);
void begin_shared_block();
/// Reports more shared memory than a block may have.
void end_shared_block();

bool is_shared(const void* p, size_t bytes);
bool is_dynamic_shared(const void* p);
/// Whether an address lies in the image of the kernel's program: constants and globals.
bool in_kernel_image(const void* p);
/// The cells of a shared byte and its neighbours, null outside of shared memory. Refreshed one by one.
SharedCell* shared_cells(const void* p);
SharedCell& refreshed(SharedCell& cell);
void set_in_flight(void* p, int bytes, bool in_flight);
/// Static shared bytes that the current launch has touched.
size_t static_shared_bytes();

}  // namespace simt
