// The host's side of the emulated GPU: queueing, marks, waiting, and what the host knows.
#include <algorithm>

#include "core/base/error.h"
#include "kernels/simt/allocations.h"
#include "kernels/simt/device_thread.h"
#include "kernels/simt/host_faults.h"
#include "kernels/simt/operations.h"
#include "kernels/simt/runtime.h"

namespace simt {
namespace {

// As many operations as a driver lets wait before the launching call blocks.
constexpr size_t kQueueDepth = 1024;

thread_local Clock t_known;  // beyond what all threads know

std::string hex(const void* p) { return trident::build_string(p); }

/// Reports a range that is no device or pinned memory, or leaves its allocation; true when it does.
bool outside(const Pinned& pinned, const OpInfo& op, const Range& a) {
  const size_t extent = dev_contains(a.address) ? device_extent(a.address) : pinned.extent(a.address);
  if (a.bytes <= extent) return false;
  report(extent == 0 && dev_contains(a.address) ? ReportKind::freed_memory : ReportKind::out_of_bounds,
         trident::build_string(describe(op), a.write ? " writes " : " reads ", a.bytes, " bytes at ", hex(a.address),
                               ", but ", extent, " are allocated there"));
  return true;
}

}  // namespace

StreamPtr Gpu::make_stream(unsigned flags, int priority) {
  auto s = std::make_shared<Stream>();
  if (free_index_.empty()) {
    s->index = static_cast<uint32_t>(steps_.size());
    steps_.push_back(0);
  } else {
    s->index = *free_index_.begin();
    free_index_.erase(free_index_.begin());
  }
  s->step = steps_[s->index];
  s->flags = flags;
  s->priority = priority;
  s->clock = host_clock_;
  streams_.push_back(s);
  return s;
}

void Gpu::drop_stream(const StreamPtr& s) {
  s->alive = false;  // what is queued still runs
  device_cv_.notify_one();
}

size_t Gpu::unfinished() const {
  size_t n = 0;
  for (const StreamPtr& s : streams_) n += s->queue.size();
  return n;
}

void Gpu::make_room(Lock& lock) {
  const auto must_wait = [&] { return context_error_ == cudaSuccess && unfinished() >= kQueueDepth; };
  if (!must_wait()) return;
  pressed_ = true;
  device_cv_.notify_one();
  host_cv_.wait(lock, [&] { return !must_wait(); });
  pressed_ = false;
}

Op Gpu::make_op(Lock& lock, Stream& s, const Work& work) {
  make_room(lock);
  ++last_id_;
  merge(s.clock, host_clock_);
  merge(s.clock, t_known);
  if (s.clock.size() <= s.index) s.clock.resize(s.index + 1);
  s.clock[s.index] = ++s.step;
  auto op = std::make_shared<OpInfo>(OpInfo{last_id_, s.index, s.step, work.name, work.kernel, s.clock});
  publish_operation(op);
  return op;
}

/// The ranges of copies, memsets and library calls are known: their races are found here, before anything runs.
void Gpu::check_ranges(const Work& work, Item& item) {
  for (const Range& a : work.ranges) {
    if (a.bytes == 0) continue;
    if (outside(pinned_, *item.op, a)) {
      item.reported = true;
      continue;
    }
    const auto begin = reinterpret_cast<uintptr_t>(a.address);
    if (a.write) check_kernels_at(begin, begin + a.bytes, item);
    const auto conflict = regions_.touch(begin, begin + a.bytes, a.write, item.op);
    if (conflict) {
      report_race(item, trident::build_string(a.write ? " writes " : " reads ", a.bytes, " bytes at ", hex(a.address),
                                              ", which ", describe(*conflict->earlier),
                                              conflict->earlier_writes ? " writes" : " reads"));
    }
    if (!pinned_.contains(a.address)) continue;
    keep_fault_handler();
    pinned_.begin(a.address, a.bytes, a.write, item.op);
  }
}

/// What a kernel does with its pointers only the checked build sees. But one that points into memory which an unordered
/// operation writes is wrong in every build.
void Gpu::check_pointers(const Work& work, Item& item) {
  for (const Range& a : work.ranges) {
    const Op writer = regions_.writer_of(reinterpret_cast<uintptr_t>(a.address));
    if (!writer || ordered(*writer, *item.op)) continue;
    report_race(item, trident::build_string(" is given ", hex(a.address), ", where ", describe(*writer), " writes"));
  }
}

/// The other way round: a writer submitted after the kernel.
void Gpu::check_kernels_at(uintptr_t begin, uintptr_t end, Item& item) {
  for (auto at = in_flight_.lower_bound({begin, false, 0}); at != in_flight_.end() && at->first.address < end; ++at) {
    const Op& other = at->second;
    if (!other->kernel || ordered(*other, *item.op)) continue;
    report_race(item,
                trident::build_string(" writes ", end - begin, " bytes at ", hex(reinterpret_cast<const void*>(begin)),
                                      ", where ", describe(*other), " was given an address"));
  }
}

/// One report an operation is enough.
void Gpu::report_race(Item& item, const std::string& what) {
  if (std::exchange(item.reported, true)) return;
  report(ReportKind::race,
         trident::build_string(describe(*item.op), what, ": no stream, event or host wait orders the two"));
}

cudaError_t Gpu::submit(Lock& lock, const StreamPtr& s, Work work) {
  Item item;
  item.op = make_op(lock, *s, work);
  if (context_error_ != cudaSuccess) return context_error_;
  if (work.kernel) {
    check_pointers(work, item);
  } else {
    check_ranges(work, item);
  }
  for (const Range& a : work.ranges) {
    in_flight_[{reinterpret_cast<uintptr_t>(a.address), work.kernel, item.op->stream}] = item.op;
  }
  item.poll = std::move(work.poll);
  s->queue.push_back(std::move(item));
  ++s->issued;
  after_submission(lock);
  return context_error_;
}

/// Eager runs what can run before the call returns; Random perhaps an operation or two.
void Gpu::after_submission(Lock& lock) {
  quiescent_ = false;
  last_activity_ = std::chrono::steady_clock::now();
  if (policy_ == StreamPolicy::Lazy) {
    if (unfinished() == 1) device_cv_.notify_one();  // so that its idle clock starts
    return;
  }
  if (policy_ == StreamPolicy::Random) credits_ = static_cast<int>(random_() % 3);
  if (policy_ == StreamPolicy::Random && credits_ == 0) return device_cv_.notify_one();
  device_cv_.notify_one();
  host_cv_.wait(lock, [&] { return quiescent_ || context_error_ != cudaSuccess; });
  credits_ = 0;
}

MarkPtr Gpu::mark(const StreamPtr& s) { return std::make_shared<Mark>(Mark{s, s->issued, s->clock, {}}); }

MarkPtr Gpu::record(Lock& lock, const StreamPtr& s) {
  merge(s->clock, host_clock_);
  merge(s->clock, t_known);
  ++s->issued;
  MarkPtr m = mark(s);
  Item item;
  item.reach = m;
  s->queue.push_back(std::move(item));
  after_submission(lock);
  return m;
}

void Gpu::wait_on_device(Lock& lock, const StreamPtr& s, const MarkPtr& m, bool orders) {
  if (orders) merge(s->clock, m->clock);
  if (m->reached() || m->stream == s) return;
  Item item;
  item.wait = m;
  s->queue.push_back(std::move(item));
  ++s->issued;
  after_submission(lock);
}

cudaError_t Gpu::wait_on_host(Lock& lock, const MarkPtr& m) {
  advance();
  if (!m->reached() && context_error_ == cudaSuccess) {
    const auto waiter = waiters_.insert(waiters_.end(), {m->stream, m->position});
    device_cv_.notify_one();
    host_cv_.wait(lock, [&] { return m->reached() || context_error_ != cudaSuccess; });
    waiters_.erase(waiter);
  }
  host_learns(m->clock);
  return context_error_;
}

cudaError_t Gpu::wait_for_all(Lock& lock) {
  std::vector<MarkPtr> marks;
  for (const StreamPtr& s : streams_) marks.push_back(mark(s));
  for (const MarkPtr& m : marks) (void)wait_on_host(lock, m);
  regions_.prune(host_clock_);
  return context_error_;
}

void Gpu::host_learns(const Clock& clock) {
  merge(host_clock_, clock);
  pinned_.end(host_clock_);
  std::erase_if(in_flight_, [&](const auto& use) { return covered(*use.second, host_clock_); });
}

void Gpu::thread_learns(const Clock& clock) {
  merge(t_known, clock);
  pinned_.end(t_known);
}

void Gpu::keep_fault_handler() {
  if (!running_kernel_) install_host_fault_handler();
}

Op Gpu::in_flight_on(uintptr_t begin, uintptr_t end) const {
  const auto at = in_flight_.lower_bound({begin, false, 0});
  return at != in_flight_.end() && at->first.address < end ? at->second : nullptr;
}

void Gpu::reset_context_error(Lock& lock) {
  host_cv_.wait(lock, [&] { return unfinished() == 0; });
  context_error_ = cudaSuccess;
  for (const StreamPtr& s : streams_) host_learns(s->clock);
}

// ---- for the emulated libraries ----

cudaError_t submit(cudaStream_t stream, Work work) {
  Gpu& gpu = Gpu::get();
  Lock lock(gpu.mutex());
  if (gpu.context_error() != cudaSuccess) return gpu.context_error();
  const StreamPtr s = find_stream(stream, work.name);
  if (!s) return cudaErrorInvalidResourceHandle;
  return gpu.submit(lock, s, std::move(work));
}

cudaError_t stream_push(cudaStream_t stream, const char* name, std::function<void()> run) {
  return submit(stream, {name, {}, [run = std::move(run)] {
                           run();
                           return true;
                         }});
}

MarkPtr mark_stream(cudaStream_t stream) {
  Gpu& gpu = Gpu::get();
  Lock lock(gpu.mutex());
  const StreamPtr s = find_stream(stream, "mark");
  return s ? gpu.mark(s) : nullptr;
}

void follow(cudaStream_t stream, const MarkPtr& mark) {
  Gpu& gpu = Gpu::get();
  Lock lock(gpu.mutex());
  const StreamPtr s = find_stream(stream, "follow");
  if (s && mark) gpu.wait_on_device(lock, s, mark, false);
}

cudaError_t wait_for(const MarkPtr& mark) {
  Gpu& gpu = Gpu::get();
  Lock lock(gpu.mutex());
  return gpu.wait_on_host(lock, mark);
}

void reset_context_error() {
  Gpu& gpu = Gpu::get();
  Lock lock(gpu.mutex());
  gpu.reset_context_error(lock);
}

}  // namespace simt
