// Errors and how they are told apart. The binary maps them to exit codes: UserError 1, RunError 2, StopRequest 75.
//
// Policy: exceptions for what a user or the machine did wrong, `ensure` for what we did wrong. A message says what,
// the values, where, and the fix; the rank is added once, by apps/main.cpp.
#pragma once

#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>

namespace trident {

/// Concatenates anything that has an operator<<; the house's string builder (GCC 12 has no std::format).
template <class... Args>
std::string build_string(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

/// The user's mistake (config, data, arguments): exit code 1, one message without a stack.
class UserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A fault at run time (disk full, a rank gone, non-finite losses in a row): exit code 2.
class RunError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Our own mistake. Thrown by `ensure`; also exit code 2, with the place in the source.
class InternalError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

/// Throws InternalError naming the source line when an invariant of ours does not hold. `what` says the invariant.
inline void ensure(bool ok, const char* what, std::source_location at = std::source_location::current()) {
  if (!ok) throw InternalError(build_string(at.file_name(), ":", at.line(), ": broken invariant: ", what));
}

}  // namespace trident
