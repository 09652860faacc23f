// How the emulator says what a kernel did wrong.
#pragma once

#include <string>
#include <utility>

#include "kernels/simt/block.h"

namespace simt {

/// Ends the launch with a report: "WHAT at FILE:LINE [kernel NAME, block (..) thread (..)]". Called on a fiber, it
/// never comes back: the fiber is abandoned and run_grid throws. The place is `loc`, or that of the instruction before
/// `pc`, the address a hook returns to; where both are given, `pc` wins when the program carries debug information, for
/// it also knows where inlined helpers were called.
[[noreturn]] void fail(std::string what, const Loc* loc, const void* pc = nullptr, const Fiber* fiber = nullptr);
[[noreturn]] inline void fail(std::string what, const Loc& loc) { fail(std::move(what), &loc); }

/// Throws what fail() noted on the fiber. For run_grid, back on its own stack.
[[noreturn]] void throw_failure();

/// "file.cu:17" without the folders.
std::string place_of(const Loc& loc);
/// The source lines of an instruction, innermost first, as "file.h:3 (file.cu:17)"; empty when unknown.
std::string place_of(const void* pc);

/// " [kernel NAME, block (..) thread (..)]" for the block now running.
std::string who(const Fiber* fiber);

}  // namespace simt
