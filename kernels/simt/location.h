// A place in a kernel's source, taken by default arguments at the call of an emulated intrinsic.
#pragma once

#include <source_location>

namespace simt {

#ifdef __cpp_lib_source_location
using Loc = std::source_location;
#else  // clang 14 with the headers of GCC 12
struct Loc {
  const char* file = "";
  unsigned line_number = 0, column_number = 0;
  static constexpr Loc current(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE(),
                               unsigned column = __builtin_COLUMN()) {
    return {file, line, column};
  }
  constexpr const char* file_name() const { return file; }
  constexpr unsigned line() const { return line_number; }
  constexpr unsigned column() const { return column_number; }
};
#endif

}  // namespace simt

#define SIMT_LOC simt::Loc loc = simt::Loc::current()
