// Where shared memory lies, and its cells. Compiled without instrumentation.
#include "kernels/simt/shared_memory.h"

#include <link.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/base/error.h"
#include "kernels/simt/report.h"
#include "kernels/simt/symbols.h"

namespace simt {
namespace {

constexpr size_t kDynamicBytes = shared_limit(Architecture::sm_90);
alignas(1024) char dynamic_buffer[kDynamicBytes];

/// The loaded file a kernel comes from. The thread-local storage is that of the thread that looked.
struct Module {
  uintptr_t image_begin = 0, image_end = 0;
  uintptr_t tls_begin = 0, tls_end = 0;
  bool holds(const void* p) const {
    const uintptr_t address = reinterpret_cast<uintptr_t>(p);
    return address >= image_begin && address < image_end;
  }
};
Module module;
std::vector<SharedCell> dynamic_cells, static_cells;

/// The bytes of thread-local storage that are no `__shared__` variable: the emulator's own, and the guards that g++
/// gives a `__shared__ T x[n]` whose T depends on a template. Known in checked mode.
std::vector<bool> hidden_tls;
uintptr_t mapped_image = 0;  // whose hidden_tls that is
uint32_t generation = 0;
size_t touched_static = 0, most_static = 0;

struct Search {
  const void* func;
  Module found;
};

int look_at(dl_phdr_info* info, size_t, void* argument) {
  auto& search = *static_cast<Search*>(argument);
  Module seen;
  seen.image_begin = ~uintptr_t{0};
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& header = info->dlpi_phdr[i];
    const uintptr_t begin = info->dlpi_addr + header.p_vaddr, end = begin + header.p_memsz;
    if (header.p_type == PT_LOAD) {
      seen.image_begin = std::min(seen.image_begin, begin);
      seen.image_end = std::max(seen.image_end, end);
    } else if (header.p_type == PT_TLS && info->dlpi_tls_data != nullptr) {
      seen.tls_begin = reinterpret_cast<uintptr_t>(info->dlpi_tls_data);
      seen.tls_end = seen.tls_begin + header.p_memsz;
    }
  }
  if (!seen.holds(search.func)) return 0;
  search.found = seen;
  return 1;
}

bool in_builtins(const void* p) {
  return reinterpret_cast<uintptr_t>(p) - reinterpret_cast<uintptr_t>(&builtins) < sizeof builtins;
}

bool in_tls(const void* p) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(p);
  return address >= module.tls_begin && address < module.tls_end;
}

bool in_hidden_tls(const void* p) {
  if (in_builtins(p)) return true;
  const size_t offset = reinterpret_cast<uintptr_t>(p) - module.tls_begin;
  return in_tls(p) && offset < hidden_tls.size() && hidden_tls[offset];
}

bool is_static_shared(const void* p) { return in_tls(p) && !in_hidden_tls(p); }

void find_hidden_tls(const void* func) {
  if (mapped_image == module.image_begin) return;
  mapped_image = module.image_begin;
  hidden_tls.assign(module.tls_end - module.tls_begin, false);
  for (const TlsObject& object : tls_objects(func)) {
    if (!object.symbol.starts_with("_ZGV")) continue;
    for (size_t i = 0; i < object.bytes && object.offset + i < hidden_tls.size(); ++i) {
      hidden_tls[object.offset + i] = true;
    }
  }
}

}  // namespace

void find_kernel_module(const void* func) {
  Search search{func, {}};
  dl_iterate_phdr(look_at, &search);
  module = search.found;
  if (!checked) return;
  find_hidden_tls(func);
  dynamic_cells.resize(kDynamicBytes);
  static_cells.resize(std::max(static_cells.size(), module.tls_end - module.tls_begin));
  most_static = 0;
}

void begin_shared_block() {
  ++generation;
  touched_static = 0;
  if (!checked) std::memset(dynamic_buffer, 0xFF, blk.smem);
}

void end_shared_block() {
  most_static = std::max(most_static, touched_static);
  const size_t limit = shared_limit(opt.architecture);
  if (blk.smem + touched_static <= limit) return;
  throw Error(trident::build_string("shared memory of ", blk.smem, " dynamic and ", touched_static,
                                    " static bytes is above the limit of ", limit / 1024, " KB of sm_",
                                    static_cast<int>(opt.architecture), who(nullptr)));
}

void* dynamic_shared() { return dynamic_buffer; }

bool is_dynamic_shared(const void* p) {
  return reinterpret_cast<uintptr_t>(p) - reinterpret_cast<uintptr_t>(dynamic_buffer) < kDynamicBytes;
}

bool is_shared(const void* p, size_t bytes) {
  const char* last = static_cast<const char*>(p) + bytes - 1;
  return (is_dynamic_shared(p) && is_dynamic_shared(last)) || (is_static_shared(p) && is_static_shared(last));
}

bool in_kernel_image(const void* p) { return module.holds(p) || in_hidden_tls(p); }

SharedCell* shared_cells(const void* p) {
  if (is_dynamic_shared(p)) return &dynamic_cells[static_cast<size_t>(static_cast<const char*>(p) - dynamic_buffer)];
  if (is_static_shared(p)) return &static_cells[reinterpret_cast<uintptr_t>(p) - module.tls_begin];
  return nullptr;
}

SharedCell& refreshed(SharedCell& cell) {
  if (cell.generation == generation) return cell;
  cell = {};
  cell.generation = generation;
  if (&cell >= static_cells.data() && &cell < static_cells.data() + static_cells.size()) ++touched_static;
  return cell;
}

void set_in_flight(void* p, int bytes, bool in_flight) {
  if (!checked) return;
  SharedCell* cells = shared_cells(p);
  for (int i = 0; i < bytes; ++i) refreshed(cells[i]).in_flight = in_flight;
}

size_t static_shared_bytes() { return most_static; }

}  // namespace simt
