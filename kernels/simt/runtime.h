// internal interface between scheduler, memory model, hooks and the emulated runtime
#pragma once
#include <string>
#include <vector>
#include "kernels/simt/emulation.h"
namespace simt {
enum class St : uint8_t { New, Ready, WaitBlock, WaitWarp, Done };
struct CpCopy {
  void* s;
  const void* g;
  int bytes;
  bool valid;
  int group;
};
struct Fiber {
  void* sp = nullptr;
  St st = St::New;
  int stack = -1;
  uint16_t tid = 0;
  uint3 t3{};
  Loc loc;
  int bar_kind = -1, pred = 0, result = 0;
  int cp_group = 0;
  std::vector<CpCopy> cp;
};
struct Pending {
  int kind;
  WarpGroup g;
  CollFn fn;
  bool mem;
};
struct Warp {
  std::vector<Pending> pend;
  uint32_t live = 0, exited = 0;
  uint32_t epoch = 0;
};
struct Block {  // the block now running (one at a time per process)
  std::vector<Fiber> f;
  std::vector<Warp> w;
  int n = 0;
  Fiber* cur = nullptr;
  uint64_t launch = 0, block = 0, epoch = 0;
  size_t smem = 0;
  const LaunchInfo* info = nullptr;
  int alive = 0;
};
extern Block blk;
extern bool in_kernel;  // kernel code is executing (hooks active); false inside the runtime
extern bool on_fiber;
extern int host_errors;
struct Rt {
  bool was = in_kernel;
  Rt() { in_kernel = false; }
  ~Rt() { in_kernel = was; }
};  // runtime entered from a kernel
void yield_to_scheduler();
std::string where(const Fiber&);
// memory model (simt_mem.cpp)
extern bool checked;  // checked runtime on
void mem_begin_launch();
void mem_begin_block();
void mem_end_launch();
void* dev_alloc(size_t n);
void dev_free(void* p);
bool dev_contains(const void* p);
size_t dev_extent(const void* p);  // bytes from p to the end of its allocation, 0 if none
void dev_mark_init(const void* p, size_t n);
void dev_require(const void* p, size_t n, const char* what);
extern bool (*ops_ordered)(uint64_t a,
                           uint64_t b);  // happens-before between two operations (set by the runtime emulation)
void dev_op_access(const void* p, size_t n, bool write, const char* what);
void dev_expose(bool on);  // host-visible or PROT_NONE
void shared_pending(void* s, int n, bool on);
bool is_shared(const void* p, size_t n);
void access(const void* p, size_t n, bool write, bool atomic, const char* what, const Loc* loc, const void* pc,
            const Fiber* f = nullptr);
bool on_stack(const void* p);
extern uint64_t ldsm_phases, ldsm_wavefronts;
}  // namespace simt
