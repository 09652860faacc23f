// What the program's own ELF file knows about an address.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace simt {

/// The file an address of code was loaded from and the address in that file's own numbering.
struct CodeAddress {
  std::string file;
  unsigned long base = 0, offset = 0;
};
CodeAddress locate(const void* address);

/// A variable in the thread-local storage of a loaded file.
struct TlsObject {
  size_t offset = 0, bytes = 0;
  std::string symbol;
};
/// Of the file that holds the code at `address`; empty when it is stripped.
std::vector<TlsObject> tls_objects(const void* address);

/// "norm_kernel<float, 4>" from "void a::(anonymous namespace)::norm_kernel<float, 4>(float*)".
std::string short_name(const std::string& demangled);

}  // namespace simt
