// Reports. Compiled without instrumentation.
//
// A fiber only notes what is wrong and leaves; the text is composed back on the stack of run_grid, because it may ask
// addr2line in a child process.
#include "kernels/simt/report.h"

#include <cstring>
#include <optional>

#include "core/base/error.h"
#include "kernels/simt/scheduler.h"
#include "kernels/simt/symbols.h"

namespace simt {
namespace {

using trident::build_string;

struct Failure {
  std::string what;
  std::optional<Loc> loc;
  const void* pc = nullptr;
  const Fiber* fiber = nullptr;
};
Failure failure;

std::string compose(const Failure& f) {
  std::string place = f.pc != nullptr ? place_of(f.pc) : "";
  if (place.empty() && f.loc) place = place_of(*f.loc);
  if (place.empty() && f.pc != nullptr) place = build_string("instruction ", f.pc, " (build with -g for the line)");
  return f.what + (place.empty() ? "" : " at " + place) + who(f.fiber);
}

}  // namespace

void fail(std::string what, const Loc* loc, const void* pc, const Fiber* fiber) {
  builtins.in_kernel = false;
  failure.what = std::move(what);
  failure.loc.reset();
  if (loc != nullptr) failure.loc.emplace(*loc);
  failure.pc = pc;
  failure.fiber = fiber != nullptr ? fiber : blk.cur;
  if (!builtins.on_fiber) throw_failure();
  abandon_launch();
}

void throw_failure() { throw Error(compose(failure)); }

std::string place_of(const Loc& loc) {
  if (loc.line() == 0) return "";
  const char* slash = std::strrchr(loc.file_name(), '/');
  return build_string(slash != nullptr ? slash + 1 : loc.file_name(), ":", loc.line());
}

std::string who(const Fiber* fiber) {
  const auto triple = [](uint3 v) { return build_string("(", v.x, ",", v.y, ",", v.z, ")"); };
  std::string text =
      build_string(" [kernel ", blk.info != nullptr ? blk.info->name : "?", ", block ", triple(builtins.bid));
  if (fiber != nullptr) text += " thread " + triple(fiber->index);
  return text + "]";
}

}  // namespace simt
