#include "kernels/simt/device_thread.h"

#include <sched.h>

#include <algorithm>

#include "core/base/error.h"
#include "kernels/simt/host_faults.h"
#include "kernels/simt/operations.h"
#include "kernels/simt/runtime.h"

namespace simt {
namespace {

using std::chrono::microseconds;

/// The latest operations, for the core, whose race tags hold their numbers. One that is no longer here counts as
/// ordered.
class RecentOperations {
 public:
  void add(const Op& op) {
    const std::lock_guard<std::mutex> lock(mutex_);
    ops_[op->id % ops_.size()] = op;
  }
  bool ordered(uint64_t earlier, uint64_t later) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Op &a = ops_[earlier % ops_.size()], &b = ops_[later % ops_.size()];
    return !a || !b || a->id != earlier || b->id != later || simt::ordered(*a, *b);
  }

 private:
  std::mutex mutex_;
  std::array<Op, 8192> ops_;
};

RecentOperations& recent_operations() {
  static RecentOperations* const recent = new RecentOperations;
  return *recent;
}

}  // namespace

void publish_operation(const Op& op) { recent_operations().add(op); }

Gpu& Gpu::get() {
  static Gpu* const gpu = new Gpu;  // never destroyed: the thread lives until the process ends
  return *gpu;
}

Gpu::Gpu() : policy_(settings().policy), random_(settings().seed), last_activity_(std::chrono::steady_clock::now()) {
  ops_ordered = [](uint64_t earlier, uint64_t later) { return recent_operations().ordered(earlier, later); };
  dev_expose(true);  // reserves the heap
  install_host_fault_handler();
  thread_ = std::thread([this] { loop(); });
}

void Gpu::loop() {
  Lock lock(mutex_);
  for (;;) {
    run_jobs(lock);
    advance();
    const bool progress = poll_started(lock);
    advance();
    if (const StreamPtr next = choose()) {
      quiescent_ = false;
      step(lock, next);
      idle_polls_ = 0;
      continue;
    }
    if (progress) {
      idle_polls_ = 0;
      continue;
    }
    const bool polling = std::any_of(streams_.begin(), streams_.end(),
                                     [](const StreamPtr& s) { return !s->queue.empty() && s->queue.front().started; });
    rest(lock, polling);
  }
}

/// Nothing to start: hide device memory, tell who waits, and sleep until something may have changed.
void Gpu::rest(Lock& lock, bool polling) {
  quiescent_ = true;
  pressed_ = pressed_ && unfinished() > 0;
  expose(false);
  host_cv_.notify_all();
  if (!jobs_.empty()) return;
  if (polling) {
    // Another rank is awaited, perhaps on the same core: give way first, sleep longer and longer then.
    if (++idle_polls_ < 20) {
      lock.unlock();
      sched_yield();
      lock.lock();
    } else {
      device_cv_.wait_for(lock, microseconds(std::min(20 * (idle_polls_ - 19), 500)));
    }
  } else if (unfinished() > 0) {
    device_cv_.wait_for(lock, microseconds(500));
  } else {
    device_cv_.wait(lock);
  }
}

void Gpu::expose(bool on) {
  if (exposed_ == on) return;
  if (!on) install_host_fault_handler();
  dev_expose(on);
  exposed_ = on;
}

void Gpu::expose_for_host() { expose(true); }

void Gpu::run_jobs(Lock& lock) {
  while (!jobs_.empty()) {
    Job* job = jobs_.front();
    jobs_.pop_front();
    expose(true);
    lock.unlock();
    try {
      job->run();
    } catch (...) {
      job->error = std::current_exception();
    }
    lock.lock();
    job->done = true;
    host_cv_.notify_all();
  }
}

void Gpu::run_on_device(Lock& lock, std::function<void()> run) {
  Job job{std::move(run), false, nullptr};
  jobs_.push_back(&job);
  device_cv_.notify_one();
  host_cv_.wait(lock, [&] { return job.done; });
  if (job.error) std::rethrow_exception(job.error);
}

bool Gpu::poll_started(Lock& lock) {
  bool progress = false;
  const std::vector<StreamPtr> streams = streams_;
  for (const StreamPtr& s : streams) {
    if (!s->queue.empty() && s->queue.front().started) progress |= step(lock, s);
  }
  return progress;
}

/// Starts or polls the head of the stream; true when it is over.
bool Gpu::step(Lock& lock, const StreamPtr& s) {
  Item& item = s->queue.front();  // stays in place: only this thread takes from a queue
  item.started = true;
  expose(true);
  running_kernel_ = item.op->kernel;
  if (running_kernel_) install_host_fault_handler();  // behind the core's, which keeps the kernel's own faults
  lock.unlock();
  bool over = true;
  cudaError_t fatal = cudaSuccess;
  try {
    over = run(item);
  } catch (const ContextError& e) {
    fatal = e.code;
  }
  lock.lock();
  running_kernel_ = false;
  if (fatal != cudaSuccess) die(fatal);
  if (!over || fatal != cudaSuccess) return fatal != cudaSuccess;
  finish_head(*s);
  last_activity_ = std::chrono::steady_clock::now();
  return true;
}

/// Runs one poll, without the mutex. What the core finds wrong is reported; after a kernel's fault the context is dead.
bool Gpu::run(Item& item) {
  blk.launch = item.op->id;
  const bool kernel = item.op->kernel;
  try {
    return item.poll();
  } catch (const Error& e) {
    const bool race = e.msg.find("stream race") != std::string::npos;
    if (!item.reported) {
      report(race     ? ReportKind::race
             : kernel ? ReportKind::kernel_fault
                      : ReportKind::operation,
             trident::build_string(describe(*item.op), ": ", e.msg));
    }
    if (kernel && !race) {
      throw ContextError{e.msg.find("misaligned") == std::string::npos ? cudaErrorIllegalAddress
                                                                       : cudaErrorMisalignedAddress};
    }
  } catch (const std::exception& e) {
    report(ReportKind::operation, trident::build_string(describe(*item.op), ": ", e.what()));
  }
  return true;
}

void Gpu::finish_head(Stream& s) {
  Item done = std::move(s.queue.front());  // destroyed after the queue is whole again
  s.queue.pop_front();
  ++s.finished;
  if (done.reach) done.reach->reached_at = std::chrono::steady_clock::now();
  if (!waiters_.empty()) host_cv_.notify_all();
}

void Gpu::advance() {
  for (bool again = true; again;) {
    again = false;
    for (const StreamPtr& s : streams_) {
      while (!s->queue.empty()) {
        const Item& head = s->queue.front();
        if (head.poll || (head.wait && !head.wait->reached())) break;
        finish_head(*s);
        again = true;
      }
    }
  }
  std::erase_if(streams_, [&](const StreamPtr& s) {
    if (s->alive || !s->queue.empty()) return false;
    steps_[s->index] = s->step;
    free_index_.insert(s->index);
    return true;
  });
}

/// The context is lost: everything queued is dropped, every wait ends, every call answers with the code.
void Gpu::die(cudaError_t code) {
  context_error_ = code;
  for (const StreamPtr& s : streams_) {
    std::deque<Item> dropped = std::exchange(s->queue, {});
    s->finished = s->issued;
  }
  host_cv_.notify_all();
}

}  // namespace simt
