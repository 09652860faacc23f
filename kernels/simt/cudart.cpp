// libcudart replacement over emulated devices: same C symbols, real NVIDIA headers, lazily executed streams.
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <random>
#include "kernels/simt/runtime.h"
#include "kernels/simt/streams.h"
using namespace simt;
using VC = std::vector<uint32_t>;  // vector clock, one entry per stream
static void merge(VC& a, const VC& b) {
  if (a.size() < b.size()) a.resize(b.size());
  for (size_t i = 0; i < b.size(); ++i) a[i] = std::max(a[i], b[i]);
}
struct Op {
  std::function<void()> run;
  CUevent_st* wait = nullptr;
  uint64_t wait_ver = 0;
  uint64_t id = 0;
  const char* name;
};
struct CUstream_st {
  size_t index;
  std::deque<Op> q;
  VC vc;
  uint32_t seq = 0;
};
struct CUevent_st {
  VC vc;
  uint64_t recorded = 0, done = 0;
};
static std::vector<CUstream_st*> g_streams;
static VC g_host;
static struct {
  VC vc;
  uint32_t stream, seq;
} g_ops[4096];
static uint64_t g_next = 0;
static std::map<std::string, uint64_t> g_err;
static thread_local cudaError_t g_last = cudaSuccess;
static std::map<const void*, int> g_smem_attr;
static std::mt19937_64 g_rng(opt.seed);
StreamPolicy stream_policy = StreamPolicy::Lazy;
static bool hb(uint64_t a, uint64_t b) {
  auto &x = g_ops[a & 4095], &y = g_ops[b & 4095];
  return x.stream < y.vc.size() && y.vc[x.stream] >= x.seq;
}
static CUstream_st* S(cudaStream_t s) {
  if (!s) throw Error("legacy default stream used (forbidden: it hides ordering bugs)");
  return s;
}
static cudaError_t ret(cudaError_t e) {
  if (e) g_last = e;
  return e;
}
void simt::stream_push(cudaStream_t st, const char* name, std::function<void()> fn) {
  auto* s = S(st);
  ops_ordered = hb;
  merge(s->vc, g_host);
  if (s->vc.size() <= s->index) s->vc.resize(s->index + 1);
  s->vc[s->index] = ++s->seq;
  uint64_t id = ++g_next;
  if ((id & 4095) == 0) id = ++g_next;
  g_ops[id & 4095] = {s->vc, (uint32_t)s->index, s->seq};
  s->q.push_back({std::move(fn), nullptr, 0, id, name});
  if (stream_policy == StreamPolicy::Eager) cudaDeviceSynchronize_emu_nohost();
}
static bool step(CUstream_st* s) {  // runs the head of s if it may run
  if (s->q.empty()) return false;
  Op& o = s->q.front();
  if (o.wait) {
    if (o.wait->done < o.wait_ver) return false;
    s->q.pop_front();
    return true;
  }
  Op op = std::move(o);
  s->q.pop_front();
  blk.launch = op.id;
  dev_expose(true);
  try {
    op.run();
  } catch (Error& e) {
    dev_expose(false);
    throw Error(std::string(op.name) + ": " + e.msg);
  }
  dev_expose(false);
  return true;
}
// Lazy: only what the awaited stream needs runs, everything else stays pending as long as possible
static void drain(const std::function<bool()>& done, CUstream_st* prefer) {
  while (!done()) {
    if (stream_policy != StreamPolicy::Random && prefer && step(prefer)) continue;
    std::vector<CUstream_st*> o = g_streams;
    bool any = false;
    if (stream_policy == StreamPolicy::Random) std::shuffle(o.begin(), o.end(), g_rng);
    for (auto* s : o)
      if (step(s)) {
        any = true;
        break;
      }
    if (!any && !done()) throw Error("stream deadlock: waiting for an event that is never recorded");
  }
}
void simt::cudaDeviceSynchronize_emu_nohost() {
  drain(
      [] {
        for (auto* s : g_streams)
          if (!s->q.empty()) return false;
        return true;
      },
      nullptr);
}
cudaError_t simt::enqueue_launch(LaunchInfo li, cudaStream_t s) {
  if (li.smem > 48 * 1024) {
    auto it = g_smem_attr.find(li.func);
    if (it == g_smem_attr.end() || it->second < (int)li.smem) return ret(cudaErrorInvalidValue);
  }
  stream_push(s, li.name, [li] { run_grid(li); });
  return cudaSuccess;
}
extern "C" {
cudaError_t cudaFuncSetAttribute(const void* f, cudaFuncAttribute a, int v) {
  if (a == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    if (v > 232448) return ret(cudaErrorInvalidValue);
    g_smem_attr[f] = v;
  }
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** p, size_t n) {
  dev_expose(true);
  *p = dev_alloc(n);
  dev_expose(false);
  return *p ? cudaSuccess : ret(cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* p) {
  if (!p) return cudaSuccess;
  cudaDeviceSynchronize();
  dev_expose(true);
  dev_free(p);
  dev_expose(false);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** p, size_t n) {
  *p = malloc(n);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* p) {
  free(p);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* d, const void* s, size_t n, cudaMemcpyKind k, cudaStream_t st) {
  bool dd = dev_contains(d), sd = dev_contains(s);
  if ((k == cudaMemcpyHostToDevice && (!dd || sd)) || (k == cudaMemcpyDeviceToHost && (dd || !sd)) ||
      (k == cudaMemcpyDeviceToDevice && (!dd || !sd)))
    throw Error("cudaMemcpyAsync: direction does not match the pointers");
  stream_push(st, "cudaMemcpyAsync", [=] {
    if (sd) dev_op_access(s, n, false, "cudaMemcpyAsync source");
    if (dd) dev_op_access(d, n, true, "cudaMemcpyAsync destination");
    std::memmove(d, s, n);
  });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* d, int v, size_t n, cudaStream_t st) {
  stream_push(st, "cudaMemsetAsync", [=] {
    dev_op_access(d, n, true, "cudaMemsetAsync");
    std::memset(d, v, n);
  });
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) {
  *s = new CUstream_st{g_streams.size(), {}, {}, 0};
  g_streams.push_back(*s);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s) { return cudaStreamSynchronize(s); }
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  S(s);
  drain([s] { return s->q.empty(); }, s);
  merge(g_host, s->vc);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  cudaDeviceSynchronize_emu_nohost();
  for (auto* s : g_streams) merge(g_host, s->vc);
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) {
  *e = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t st) {
  auto* s = S(st);
  uint64_t v = ++e->recorded;
  stream_push(st, "event", [e, v] { e->done = std::max(e->done, v); });
  e->vc = s->vc;
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t st, cudaEvent_t e, unsigned) {
  auto* s = S(st);
  if (!e->recorded) {
    if (opt.strict) throw Error("cudaStreamWaitEvent on an event that was never recorded (a silent no-op on a GPU)");
    return cudaSuccess;
  }
  Op w{nullptr, e, e->recorded, 0, "wait"};
  s->q.push_back(w);
  merge(s->vc, e->vc);
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  uint64_t v = e->recorded;
  drain([=] { return e->done >= v; }, nullptr);
  merge(g_host, e->vc);
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  auto e = g_last;
  g_last = cudaSuccess;
  return e;
}
const char* cudaGetErrorString(cudaError_t) { return "emulated error"; }
}
