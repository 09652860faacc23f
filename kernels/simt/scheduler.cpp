// fiber scheduler of the emulator. Compiled WITHOUT -fsanitize=thread.
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include "kernels/simt/runtime.h"
namespace simt {
constinit thread_local Builtins bi;
Options opt;
Stats stats;
Block blk;
bool in_kernel = false, on_fiber = false;
int host_errors = 0;
uint64_t ldsm_phases = 0, ldsm_wavefronts = 0;

// ---- context switch: save callee-saved registers, swap stacks (System V x86-64) ----
extern "C" void simt_switch(void** save, void* load);
asm(R"(
.text
.globl simt_switch
.type simt_switch,@function
simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size simt_switch,.-simt_switch
)");
static constexpr size_t kStack = 256 << 10, kMaxThreads = 1024;
static char* g_stacks = nullptr;
static std::vector<int> g_free;
static void* g_main_sp;
static std::string g_error;
static bool g_abort;
static void (*g_body)(void*);
static void* g_arg;
alignas(1024) static char g_dyn[232448 + 1024];

bool on_stack(const void* p) {
  auto c = (const char*)p;
  return c >= g_stacks && c < g_stacks + kStack * kMaxThreads;
}
void* dyn_smem() { return g_dyn; }
unsigned lane_id() { return blk.cur->tid & 31; }
std::string where(const Fiber& f) {
  char b[160];
  auto& x = bi.bid;
  std::snprintf(b, sizeof b, "block (%u,%u,%u) thread (%u,%u,%u)", x.x, x.y, x.z, f.t3.x, f.t3.y, f.t3.z);
  return b;
}
static std::string at(const Loc& l) {
  const char* s = std::strrchr(l.file_name(), '/');
  return std::string(s ? s + 1 : l.file_name()) + ":" + std::to_string(l.line());
}
void fail(const std::string& what, const Loc& l) {
  in_kernel = false;
  std::string m = what + (l.line() ? " at " + at(l) : "");
  if (blk.cur) m += " [" + where(*blk.cur) + "]";
  if (!on_fiber) throw Error(m);
  g_error = m;
  g_abort = true;
  void* dummy;
  simt_switch(&dummy, g_main_sp);
  __builtin_unreachable();  // the fiber is abandoned
}
static void fiber_main() {
  in_kernel = true;
  g_body(g_arg);
  in_kernel = false;
  Fiber& f = *blk.cur;
  if (opt.strict && !f.cp.empty()) fail("cp.async still pending at thread exit (missing wait_group)", Loc::current());
  f.st = St::Done;
  void* dummy;
  simt_switch(&dummy, g_main_sp);
  __builtin_unreachable();
}
static void prepare(Fiber& f) {
  if (!g_stacks) {
    g_stacks = (char*)mmap(nullptr, kStack * kMaxThreads, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (size_t i = 0; i < kMaxThreads; ++i) {
      mprotect(g_stacks + i * kStack, 4096, PROT_NONE);
    }
    for (int i = kMaxThreads; i-- > 0;) g_free.push_back(i);
  }
  f.stack = g_free.back();
  g_free.pop_back();
  char* top = g_stacks + (f.stack + 1) * kStack - (f.stack % 61) * 128;  // stagger: equal offsets share cache sets
  void** s = (void**)((uintptr_t)top & ~uintptr_t(15));
  *--s = nullptr;
  *--s = (void*)fiber_main;  // return address of simt_switch; rsp%16==8 at entry
  for (int i = 0; i < 6; ++i) *--s = nullptr;
  f.sp = s;
}
void yield_to_scheduler() {
  Fiber& f = *blk.cur;
  simt_switch(&f.sp, g_main_sp);
}

static void finish_group(Warp& w, size_t i) {
  Pending p = w.pend[i];
  w.pend.erase(w.pend.begin() + i);
  ++stats.collectives;
  if (p.mem) ++w.epoch;
  int base = int(&w - blk.w.data()) * 32;
  p.fn(p.g);
  for (int l = 0; l < 32; ++l)
    if (p.g.present >> l & 1) {
      Fiber& f = blk.f[base + l];
      if (f.st == St::WaitWarp) f.st = St::Ready;
    }
}
void collective(int kind, uint32_t mask, CollFn fn, void* in, void* out, const Loc& loc, bool mem) {
  Rt rt;
  Fiber& f = *blk.cur;
  int lane = f.tid & 31;
  Warp& w = blk.w[f.tid >> 5];
  if (!(mask >> lane & 1)) fail("warp intrinsic: calling lane not in its own mask", loc);
  size_t i = 0;
  for (; i < w.pend.size(); ++i)
    if (w.pend[i].g.mask == mask) break;
  if (i == w.pend.size()) w.pend.push_back({kind, {mask, 0, {}, {}, {}}, fn, mem});
  Pending& p = w.pend[i];
  if (p.kind != kind || p.fn != fn)
    fail("divergent warp intrinsics: another lane of the mask waits in a different one (" +
             at(p.g.loc[__builtin_ctz(p.g.present)]) + ")",
         loc);
  if (opt.strict && p.g.present) {
    const Loc& o = p.g.loc[__builtin_ctz(p.g.present)];
    if (o.line() != loc.line() || o.column() != loc.column())
      fail("divergent warp intrinsic: lanes of one warp meet at different source lines (" + at(o) + ")", loc);
  }
  p.g.present |= 1u << lane;
  p.g.in[lane] = in;
  p.g.out[lane] = out;
  p.g.loc[lane] = loc;
  f.loc = loc;
  if (p.g.present == (mask & w.live)) {
    finish_group(w, i);
    return;
  }  // last lane computes for all and goes on
  f.st = St::WaitWarp;
  yield_to_scheduler();
}
static int bar(int kind, int pred, const Loc& loc) {
  Rt rt;
  Fiber& f = *blk.cur;
  f.bar_kind = kind;
  f.pred = pred;
  f.loc = loc;
  f.st = St::WaitBlock;
  yield_to_scheduler();
  return f.result;
}
void sync_block(const Loc& l) { bar(3, 0, l); }
int sync_block_reduce(int kind, int pred, const Loc& l) { return bar(kind, pred, l); }

// a fault inside a kernel becomes an error report with block and thread
static uintptr_t g_fault_addr, g_fault_pc;
static void fault_landing() {
  char b[160];
  bool guard = false;
  if (g_stacks && on_stack((void*)g_fault_addr)) guard = (g_fault_addr - (uintptr_t)g_stacks) % kStack < 4096;
  if (guard)
    std::snprintf(b, sizeof b, "kernel stack overflow (pc 0x%lx)", g_fault_pc);
  else if (!g_fault_addr)
    std::snprintf(b, sizeof b, "misaligned vector access or wild pointer (pc 0x%lx)", g_fault_pc);
  else
    std::snprintf(b, sizeof b, "invalid address 0x%lx (pc 0x%lx)", g_fault_addr, g_fault_pc);
  fail(b, Loc{});
}
static void on_fault(int sig, siginfo_t* si, void* uc) {
  if (!on_fiber) {
    signal(sig, SIG_DFL);
    return;
  }
  auto& g = static_cast<ucontext_t*>(uc)->uc_mcontext.gregs;
  g_fault_addr = (uintptr_t)si->si_addr;
  g_fault_pc = g[REG_RIP];
  in_kernel = false;
  static char scratch[1 << 16];  // the fiber is lost; do not touch its stack
  g[REG_RIP] = (greg_t)fault_landing;
  g[REG_RSP] = (greg_t)(((uintptr_t)scratch + sizeof scratch - 64) & ~uintptr_t(15)) - 8;
}
static void install_fault_handler() {
  static bool done = false;
  if (done) return;
  done = true;
  static char alt[1 << 15];
  stack_t ss{};
  ss.ss_sp = alt;
  ss.ss_size = sizeof alt;
  sigaltstack(&ss, nullptr);
  struct sigaction sa {};
  sa.sa_sigaction = on_fault;
  sa.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &sa, nullptr);
  sigaction(SIGBUS, &sa, nullptr);
}
static void order_vec(std::vector<int>& v, int n, std::mt19937_64& rng) {
  v.resize(n);
  std::iota(v.begin(), v.end(), 0);
  if (opt.order == Order::Descending) std::reverse(v.begin(), v.end());
  if (opt.order == Order::Random) std::shuffle(v.begin(), v.end(), rng);
}
static void host_fail(const std::string& m) {
  g_error = m;
  g_abort = true;
}
static void release_block() {
  const Fiber* first = nullptr;
  int cnt = 0, all = 1, any = 0, n = 0, exited = 0;
  std::vector<const Fiber*> warp_first(blk.w.size(), nullptr);
  for (auto& f : blk.f) {
    if (f.st == St::Done) {
      ++exited;
      continue;
    }
    if (!first) first = &f;
    auto*& wf = warp_first[f.tid >> 5];
    if (!wf) wf = &f;
    if (f.bar_kind != first->bar_kind)
      return host_fail("divergent barrier: different kinds of __syncthreads at " + at(first->loc) + " and " +
                       at(f.loc));
    if (f.loc.line() != wf->loc.line() || f.loc.column() != wf->loc.column())
      return host_fail("divergent barrier: lanes of one warp wait at " + at(wf->loc) + " and " + at(f.loc) + " [" +
                       where(f) + "]");
    if (opt.strict && f.loc.line() != first->loc.line())
      return host_fail("divergent barrier: warps wait at different lines " + at(first->loc) + " and " + at(f.loc));
    ++n;
    cnt += f.pred != 0;
    all &= f.pred != 0;
    any |= f.pred != 0;
  }
  if (opt.strict && exited)
    return host_fail("barrier with " + std::to_string(exited) + " exited threads at " + at(first->loc));
  int r = first->bar_kind == 0 ? cnt : first->bar_kind == 1 ? all : any;
  for (auto& f : blk.f)
    if (f.st == St::WaitBlock) {
      f.st = St::Ready;
      f.result = r;
    }
  ++blk.epoch;
}
static void stuck() {
  std::string m = "deadlock: ";
  std::vector<std::pair<std::string, int>> g;
  for (auto& f : blk.f) {
    std::string k =
        f.st == St::Done ? "exited" : (f.st == St::WaitBlock ? "__syncthreads " : "warp intrinsic ") + at(f.loc);
    bool hit = false;
    for (auto& e : g)
      if (e.first == k) {
        ++e.second;
        hit = true;
      }
    if (!hit) g.push_back({k, 1});
  }
  for (auto& e : g) m += std::to_string(e.second) + " threads: " + e.first + "; ";
  host_fail(m);
}
static void run_block(std::mt19937_64& rng) {
  auto& B = blk;
  std::vector<int> wo, lo;
  for (int i = 0; i < B.n; ++i) {
    Fiber& f = B.f[i];
    f.st = St::New;
    f.cp.clear();
    f.cp_group = 0;
  }
  for (auto& w : B.w) {
    w.pend.clear();
    w.exited = 0;
    w.epoch = 0;
  }
  for (size_t i = 0; i < B.w.size(); ++i) {
    int c = std::min(32, B.n - int(i) * 32);
    B.w[i].live = c == 32 ? ~0u : (1u << c) - 1;
  }
  B.alive = B.n;
  B.epoch = 0;
  order_vec(wo, (int)B.w.size(), rng);
  order_vec(lo, 32, rng);
  mem_begin_block();
  while (B.alive > 0) {
    bool any = false;
    int waiting = 0;
    for (int wi : wo)
      for (bool again = true; again;) {  // one warp runs until all its lanes block
        again = false;
        for (int l : lo) {
          int t = wi * 32 + l;
          if (t >= B.n) continue;
          Fiber& f = B.f[t];
          if (f.st != St::New && f.st != St::Ready) continue;
          if (f.st == St::New) prepare(f);
          f.st = St::Ready;
          B.cur = &f;
          bi.tid = f.t3;
          ++stats.switches;
          on_fiber = true;
          simt_switch(&g_main_sp, f.sp);
          on_fiber = in_kernel = false;
          if (g_abort) return;
          again = any = true;
          if (f.st == St::Done) {
            g_free.push_back(f.stack);
            --B.alive;
            ++stats.threads;
            Warp& w = B.w[wi];
            w.live &= ~(1u << l);
            for (size_t i = 0; i < w.pend.size();) {  // exit may complete a pending group
              auto& g = w.pend[i].g;
              if (g.present && g.present == (g.mask & w.live)) {
                B.cur = &B.f[wi * 32 + __builtin_ctz(g.present)];
                finish_group(w, i);
                if (g_abort) return;
                i = 0;
              } else
                ++i;
            }
          }
        }
      }
    if (B.alive == 0) break;
    for (auto& f : B.f) waiting += f.st == St::WaitBlock;
    if (waiting == B.alive) {
      release_block();
      if (g_abort) return;
    } else if (!any) {
      stuck();
      return;
    }
  }
}
void run_grid(const LaunchInfo& li) {
  auto lim = [&](bool bad, const char* m) {
    if (bad) throw Error(std::string("launch: ") + m);
  };
  uint64_t n = (uint64_t)li.b.x * li.b.y * li.b.z;
  lim(n == 0 || n > 1024 || li.b.x > 1024 || li.b.y > 1024 || li.b.z > 64, "bad block size");
  lim(li.g.x == 0 || li.g.y == 0 || li.g.z == 0, "empty grid (cudaErrorInvalidConfiguration)");
  lim(li.g.x > 2147483647u || li.g.y > 65535 || li.g.z > 65535, "grid too large");
  lim(li.smem > 232448, "dynamic shared memory above 227 KB");
  auto& B = blk;
  std::mt19937_64 rng(opt.seed);
  B.n = (int)n;
  B.f.assign(n, {});
  B.w.assign((n + 31) / 32, {});
  B.smem = li.smem;
  B.info = &li;
  if (!ops_ordered) ++B.launch;
  for (int i = 0; i < B.n; ++i) {
    B.f[i].tid = i;
    B.f[i].t3 = {i % li.b.x, i / li.b.x % li.b.y, i / (li.b.x * li.b.y)};
  }
  bi.bdim = li.b;
  bi.gdim = li.g;
  g_body = li.body;
  g_arg = li.params.get();
  g_abort = false;
  ++stats.launches;
  install_fault_handler();
  mem_begin_launch();
  uint64_t nb = (uint64_t)li.g.x * li.g.y * li.g.z;
  for (uint64_t k = 0; k < nb && !g_abort; ++k) {
    uint64_t b = opt.order == Order::Descending ? nb - 1 - k
                 : opt.order == Order::Random   ? (k * 0x9E3779B1ull + opt.seed) % nb
                                                : k;
    if (opt.order == Order::Random && std::gcd(nb, (uint64_t)0x9E3779B1ull) != 1) b = k;
    bi.bid = {unsigned(b % li.g.x), unsigned(b / li.g.x % li.g.y), unsigned(b / ((uint64_t)li.g.x * li.g.y))};
    B.block = b;
    ++stats.blocks;
    run_block(rng);
  }
  B.cur = nullptr;
  if (!g_abort) mem_end_launch();
  if (g_abort) {
    throw Error(std::string(g_error));
  }
}

// ---- cp.async ----
void cp_async(void* s, const void* g, int n, bool valid, const Loc& loc) {
  Rt rt;
  Fiber& f = *blk.cur;
  if ((uintptr_t)s % n) fail("cp.async: misaligned shared address", loc);
  if (valid && (uintptr_t)g % n) fail("cp.async: misaligned global address", loc);
  if (!is_shared(s, n)) fail("cp.async: destination is not in shared memory", loc);
  if (valid) access(g, n, false, false, "cp.async source", &loc, nullptr);
  access(s, n, true, false, "cp.async destination", &loc, nullptr);
  std::memset(s, 0xFF, n);
  shared_pending(s, n, true);  // NaN until waited for
  f.cp.push_back({s, g, n, valid, f.cp_group});
}
void cp_commit(const Loc&) { ++blk.cur->cp_group; }
void cp_wait(int n, const Loc& loc) {
  Rt rt;
  Fiber& f = *blk.cur;
  int lim = f.cp_group - n;
  size_t k = 0;
  for (; k < f.cp.size() && f.cp[k].group < lim; ++k) {
    auto& c = f.cp[k];
    shared_pending(c.s, c.bytes, false);
    access(c.s, c.bytes, true, false, "cp.async completion", &loc, nullptr);
    if (c.valid)
      std::memcpy(c.s, c.g, c.bytes);
    else
      std::memset(c.s, 0, c.bytes);
  }
  f.cp.erase(f.cp.begin(), f.cp.begin() + k);
}
// ---- tensor-core instructions: fragment layouts of the PTX ISA ----
static float bf(uint16_t h) { return std::bit_cast<float>(uint32_t(h) << 16); }
static void ldsm(WarpGroup& w, bool trans) {
  if (w.present != ~0u) fail("ldmatrix with inactive lanes", w.loc[__builtin_ctz(w.present)]);
  int base = blk.cur->tid & ~31;
  for (int m = 0; m < 4; ++m) {
    uint16_t mat[8][8];
    int banks[8] = {};
    for (int r = 0; r < 8; ++r) {
      int l = m * 8 + r;
      const void* p = w.in[l];
      if ((uintptr_t)p % 16) fail("ldmatrix: row address not 16-byte aligned", w.loc[l]);
      if (!is_shared(p, 16)) fail("ldmatrix: row not in shared memory", w.loc[l]);
      access(p, 16, false, false, "ldmatrix", &w.loc[l], nullptr, &blk.f[base + l]);
      std::memcpy(mat[r], p, 16);
      ++banks[(uintptr_t)p / 16 % 8];
    }
    ++ldsm_phases;
    ldsm_wavefronts += *std::max_element(banks, banks + 8);
    for (int l = 0; l < 32; ++l) {
      int r = l / 4, c = l % 4 * 2;
      uint16_t lo = trans ? mat[c][r] : mat[r][c], hi = trans ? mat[c + 1][r] : mat[r][c + 1];
      static_cast<uint32_t*>(w.out[l])[m] = lo | uint32_t(hi) << 16;
    }
  }
}
void ldmatrix_exec(WarpGroup& w) { ldsm(w, false); }
void ldmatrix_t_exec(WarpGroup& w) { ldsm(w, true); }
static float hf(uint16_t h) { return static_cast<float>(std::bit_cast<_Float16>(h)); }
template <float (*kDecode)(uint16_t)>
static void mma(WarpGroup& w) {
  if (w.present != ~0u) fail("mma.sync with inactive lanes", w.loc[__builtin_ctz(w.present)]);
  float A[16][16], Bt[8][16];
  for (int l = 0; l < 32; ++l) {
    auto* in = static_cast<MmaIn*>(w.in[l]);
    int g = l >> 2, t = (l & 3) * 2;
    for (int i = 0; i < 4; ++i) {
      int r = g + (i & 1) * 8, c = t + (i >> 1) * 8;
      A[r][c] = kDecode(in->a[i] & 0xffff);
      A[r][c + 1] = kDecode(in->a[i] >> 16);
    }
    for (int i = 0; i < 2; ++i) {
      Bt[g][t + i * 8] = kDecode(in->b[i] & 0xffff);
      Bt[g][t + i * 8 + 1] = kDecode(in->b[i] >> 16);
    }
  }
  for (int l = 0; l < 32; ++l) {
    auto* d = static_cast<float*>(w.out[l]);
    int g = l >> 2, t = (l & 3) * 2;
    for (int i = 0; i < 4; ++i) {
      int r = g + (i >> 1) * 8, c = t + (i & 1);
      float s = 0;
      for (int k = 0; k < 16; ++k) s += A[r][k] * Bt[c][k];
      d[i] += s;
    }
  }
}
void mma_exec(WarpGroup& w) { mma<bf>(w); }
void mma_f16_exec(WarpGroup& w) { mma<hf>(w); }
}  // namespace simt
