// memory model: device heap with red zones, shadow state, race cells. Compiled WITHOUT -fsanitize=thread.
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <map>
#include "kernels/simt/runtime.h"
extern "C" {
extern char __executable_start, end;
}
namespace simt {
bool checked = false;
bool (*ops_ordered)(uint64_t, uint64_t) = nullptr;
static constexpr size_t kArena = size_t(4) << 30;
static char* A = nullptr;
static uint8_t* S = nullptr;
static uint64_t *GW = nullptr, *GR = nullptr;  // state/byte, race tags/2 bytes
static size_t g_top = 4096;
static std::map<uintptr_t, size_t> g_alloc;
enum : uint8_t { kNone = 0, kUninit = 1, kInit = 2, kFreed = 3 };
static void* res(size_t n) {
  void* p = mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) {
    perror("mmap");
    abort();
  }
  return p;
}
static void init() {
  if (A) return;
  A = (char*)res(kArena);
  S = (uint8_t*)res(kArena);
  GW = (uint64_t*)res(kArena * 4);
  GR = (uint64_t*)res(kArena * 4);
}
bool dev_contains(const void* p) { return A && (const char*)p >= A && (const char*)p < A + kArena; }
void* dev_alloc(size_t n) {
  init();
  size_t o = (g_top + 255) & ~size_t(255);
  g_top = ((o + n + 256 + 255) & ~size_t(255)) + 256;  // 256-byte red zones, addresses never reused
  if (g_top > kArena) return nullptr;
  std::memset(A + o, 0xFF, n);
  std::memset(A + o + n, 0xA5, 256 - 0);
  std::memset(S + o, kUninit, n);
  g_alloc[(uintptr_t)(A + o)] = n;
  return A + o;
}
void dev_free(void* p) {
  auto it = g_alloc.find((uintptr_t)p);
  if (it == g_alloc.end()) throw Error("cudaFree: not an allocated pointer (double free?)");
  size_t o = (char*)p - A;
  std::memset(S + o, kFreed, it->second);
  g_alloc.erase(it);
}
size_t dev_extent(const void* p) {
  auto it = g_alloc.upper_bound((uintptr_t)p);
  if (it == g_alloc.begin()) return 0;
  --it;
  uintptr_t e = it->first + it->second;
  return (uintptr_t)p < e ? e - (uintptr_t)p : 0;
}
void dev_mark_init(const void* p, size_t n) { std::memset(S + ((char*)p - A), kInit, n); }
void dev_require(const void* p, size_t n, const char* what) {
  if (!dev_contains(p)) throw Error(std::string(what) + ": not a device pointer");
  if (dev_extent(p) < n)
    throw Error(std::string(what) + ": range of " + std::to_string(n) + " bytes exceeds the allocation");
}
void dev_expose(bool on) {
  init();
  mprotect(A, (g_top + 4095) & ~size_t(4095), on ? PROT_READ | PROT_WRITE : PROT_NONE);
}

// ---- shared memory: dynamic buffer + the executable's TLS block (static __shared__ = static thread_local) ----
struct Cell {
  uint64_t w, r;
  uint8_t pend;
};
static std::vector<Cell> SD(232448 + 1024), SS;
static char *t0 = nullptr, *t1 = nullptr;
static void find_tls() {
  if (t0) return;
  dl_iterate_phdr(
      [](dl_phdr_info* i, size_t, void*) {
        if (!i->dlpi_tls_data) return 0;
        for (int k = 0; k < i->dlpi_phnum; ++k)
          if (i->dlpi_phdr[k].p_type == PT_TLS) {
            char* b = (char*)i->dlpi_tls_data;
            size_t n = i->dlpi_phdr[k].p_memsz;
            if ((char*)&bi >= b && (char*)&bi < b + n) {
              t0 = b;
              t1 = b + n;
              SS.resize(n);
            }
          }
        return 0;
      },
      nullptr);
}
static Cell* cell(const void* p) {
  char *c = (char*)p, *d = (char*)dyn_smem();
  if (c >= d && c < d + SD.size()) return &SD[c - d];
  if (c >= t0 && c < t1 && !(c >= (char*)&bi && c < (char*)(&bi + 1))) return &SS[c - t0];
  return nullptr;
}
bool is_shared(const void* p, size_t) {
  find_tls();
  return cell(p) != nullptr;
}
void shared_pending(void* s, int n, bool on) {
  Cell* c = cell(s);
  for (int i = 0; i < n; ++i) c[i].pend = on;
}
// tag: launch 12 | block 20 | epoch 12 | warp epoch 8 | atomic 1 | thread 11 (1024 = several)
static uint64_t tag(const Fiber& f, bool atomic) {
  return (blk.launch & 0xfff) << 52 | (blk.block & 0xfffff) << 32 | (blk.epoch & 0xfff) << 20 |
         uint64_t(blk.w[f.tid >> 5].epoch & 0xff) << 12 | uint64_t(atomic) << 11 | f.tid;
}
static bool same_block(uint64_t a, uint64_t b) { return a >> 32 == b >> 32; }
static bool conflict(uint64_t old, uint64_t now, bool global) {
  if (!old || (old & now & 0x800)) return false;  // both atomic
  if (old >> 52 != now >> 52)
    return global && ops_ordered && !ops_ordered(old >> 52, now >> 52);  // other launch or copy: stream/event order
  if (!same_block(old, now)) return global;                              // blocks are never ordered in a launch
  if ((old >> 20) != (now >> 20)) return false;                          // ordered by __syncthreads
  unsigned to = old & 0x7ff, tn = now & 0x7ff;
  if (to == tn) return false;
  if (to < 1024 && to / 32 == tn / 32 && (old >> 12 & 0xff) != (now >> 12 & 0xff))
    return false;  // ordered by __syncwarp
  return true;
}
static void note_read(uint64_t& r, uint64_t t) {
  if (r && (r >> 20) == (t >> 20) && (r & 0x7ff) != (t & 0x7ff))
    r = (t & ~0x7ffull) | 1024;
  else
    r = t;
}
void mem_begin_launch() {
  find_tls();
  if ((blk.launch & 0xfff) == 0) ++blk.launch;
}
void mem_begin_block() {
  if (!checked) std::memset(dyn_smem(), 0xFF, blk.smem);
  for (size_t i = 0; i < (checked ? blk.smem : 0); ++i) SD[i] = {};
  for (auto& c : SS) c.pend = 0;
}
void mem_end_launch() {
  std::string m;
  for (auto& [a, n] : g_alloc)
    for (int i = 0; i < 256; ++i) {
      auto c = (unsigned char*)a + n + i;
      if (*c != 0xA5) {
        if (m.empty())
          m = "red zone overwritten " + std::to_string(i) + " bytes past an allocation of " + std::to_string(n);
        *c = 0xA5;
      }
    }
  if (!m.empty()) throw Error(m);
}
static void bad(const std::string& m, const char* what, const Loc* loc, const void* pc) {
  std::string s = m + " (" + what + ")";
  if (!loc && pc) {
    char exe[256];
    ssize_t k = readlink("/proc/self/exe", exe, 255);
    exe[k > 0 ? k : 0] = 0;
    char cmd[600], out[400] = "";
    std::snprintf(cmd, sizeof cmd, "addr2line -s -e %s 0x%lx 2>/dev/null", exe,
                  (unsigned long)((uintptr_t)pc - 1 -
                                  ((uintptr_t)&__executable_start > 0x1000000 ? (uintptr_t)&__executable_start : 0)));
    if (FILE* f = popen(cmd, "r")) {
      if (fgets(out, sizeof out, f)) {
        if (char* e = strpbrk(out, "\n ")) *e = 0;
        s += std::string(" in ") + out;
      }
      pclose(f);
    }
  }
  fail(s, loc ? *loc : Loc{});
}

static std::string race_name(uint64_t o, uint64_t n, const char* k) {
  return std::string(o >> 52 != n >> 52 ? "stream race (no event orders the two operations): " : "global race: ") + k;
}
// a copy or library call touching device memory, as one operation of a stream
void dev_op_access(const void* p, size_t n, bool write, const char* what) {
  dev_require(p, n, what);
  size_t o = (const char*)p - A;
  uint64_t t = (blk.launch & 0xfff) << 52 | 1;
  for (size_t i = 0; checked && i < n; ++i) {
    if (!write && S[o + i] == kUninit) throw Error(std::string(what) + ": reads uninitialised device memory");
    if (i % 2) continue;
    uint64_t &w = GW[(o + i) / 2], &r = GR[(o + i) / 2];
    if (conflict(w, t, true) && w >> 52 != t >> 52)
      throw Error(std::string(what) + ": " + race_name(w, t, write ? "write after write" : "read after write"));
    if (write) {
      if (conflict(r, t, true) && r >> 52 != t >> 52)
        throw Error(std::string(what) + ": " + race_name(r, t, "write after read"));
      w = t;
    } else
      r = t;
  }
  if (write) dev_mark_init(p, n);
}
void access(const void* p, size_t n, bool write, bool atomic, const char* what, const Loc* loc, const void* pc,
            const Fiber* f) {
  if (!on_fiber) {
    if (checked && dev_contains(p) && host_errors++ < 5)
      fprintf(stderr, "host code dereferences device memory (%s, pc %p)\n", what, pc);
    return;
  }
  if (!f) f = blk.cur;
  if (dev_contains(p)) {
    size_t o = (const char*)p - A;
    uint64_t t = checked ? tag(*f, atomic) : 0;
    for (size_t i = 0; i < n; ++i) {
      uint8_t s = S[o + i];
      if (s == kNone) bad(write ? "out-of-bounds global write" : "out-of-bounds global read", what, loc, pc);
      if (s == kFreed) bad("use of freed device memory", what, loc, pc);
      if (!checked) continue;
      if ((!write || atomic) && s == kUninit) bad("read of uninitialised global memory", what, loc, pc);
      if (write) S[o + i] = kInit;
      if ((o + i) % 2 && i) continue;
      uint64_t &w = GW[(o + i) / 2], &r = GR[(o + i) / 2];
      if (conflict(w, t, true)) bad(race_name(w, t, write ? "write after write" : "read after write"), what, loc, pc);
      if (write) {
        if (conflict(r, t, true)) bad(race_name(r, t, "write after read"), what, loc, pc);
        w = t;
      } else
        note_read(r, t);
    }
    return;
  }
  if (!checked) return;
  if (Cell* c = cell(p)) {
    char* d = (char*)dyn_smem();
    if ((char*)p >= d && (char*)p < d + SD.size() && (size_t)((char*)p - d) + n > blk.smem)
      bad("out-of-bounds dynamic shared memory", what, loc, pc);
    uint64_t t = tag(*f, atomic);
    for (size_t i = 0; i < n; ++i) {
      if (c[i].pend) bad("access to shared memory with a cp.async in flight (missing wait_group)", what, loc, pc);
      if (!write && !same_block(c[i].w, t)) bad("read of uninitialised shared memory", what, loc, pc);
      if (conflict(c[i].w, t, false))
        bad(write ? "shared race: write after write" : "shared race: read after write", what, loc, pc);
      if (write) {
        if (conflict(c[i].r, t, false)) bad("shared race: write after read", what, loc, pc);
        c[i].w = t;
      } else
        note_read(c[i].r, t);
    }
    return;
  }
  const char* q = (const char*)p;
  if (on_stack(q) || (q >= &__executable_start && q < &end) || (q >= (char*)&bi && q < (char*)(&bi + 1))) return;
  const char* k = (const char*)blk.info->params.get();
  if (q >= k && q < k + blk.info->params_size) return;  // kernel parameters
  bad("kernel dereferences host memory", what, loc, pc);
}
void check_access(const void* p, size_t n, bool write, bool atomic, unsigned align, const char* what, const Loc& loc) {
  Rt rt;
  if ((uintptr_t)p % align) fail(std::string("misaligned ") + what + " (" + std::to_string(align) + "-byte)", loc);
  access(p, n, write, atomic, what, &loc, nullptr);
}
}  // namespace simt
