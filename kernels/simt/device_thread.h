// The emulated GPU: one thread that does all device work, and the queues it works through.
//
// Host calls only queue, wait and ask, under one mutex; kernels, copies, memsets, library calls and NCCL run on the
// device thread, one operation at a time. An operation that cannot end yet (NCCL waiting for another rank) is polled,
// and the other streams go on meanwhile, as on hardware. When an operation starts is the policy's choice (control.h).
// A real GPU always makes progress; so does this one: 2 ms after the last submission or completion it works through all
// that can run, whatever the policy, in the order of submission. (Ranks that wait for each other would deadlock else.)
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include "kernels/simt/clocks.h"
#include "kernels/simt/pinned.h"
#include "kernels/simt/streams.h"

namespace simt {

using Lock = std::unique_lock<std::mutex>;
using TimePoint = std::chrono::steady_clock::time_point;

/// An entry of a stream's queue: an operation, or a wait for a mark, or the reaching of one.
struct Item {
  Op op;
  std::function<bool()> poll;
  MarkPtr wait, reach;
  bool started = false;
  bool reported = false;  // a race was reported at submission: what follows from it is not told again
};

struct Stream {
  uint32_t index = 0;
  uint32_t step = 0;
  bool alive = true;
  int priority = 0;
  unsigned flags = 0;
  std::deque<Item> queue;
  uint64_t issued = 0, finished = 0;  // items; a stream is idle when they are equal
  Clock clock;
};
using StreamPtr = std::shared_ptr<Stream>;

struct Mark {
  StreamPtr stream;
  uint64_t position = 0;  // reached when the stream has finished that many items
  Clock clock;
  TimePoint reached_at{};

  bool reached() const { return stream->finished >= position; }
};

class Gpu {
 public:
  /// The process's one; its thread starts with it.
  static Gpu& get();

  std::mutex& mutex() { return mutex_; }
  bool on_device_thread() const { return std::this_thread::get_id() == thread_.get_id(); }
  cudaError_t context_error() const { return context_error_; }

  // All of the following are called with the mutex held.
  StreamPtr make_stream(unsigned flags, int priority);
  void drop_stream(const StreamPtr&);
  cudaError_t submit(Lock&, const StreamPtr&, Work);
  MarkPtr mark(const StreamPtr&);
  /// A mark with its own place in the queue, so that it is reached, and timed, exactly there.
  MarkPtr record(Lock&, const StreamPtr&);
  void wait_on_device(Lock&, const StreamPtr&, const MarkPtr&, bool orders);
  cudaError_t wait_on_host(Lock&, const MarkPtr&);
  cudaError_t wait_for_all(Lock&);
  /// All threads of the host know what `clock` knows: one has waited.
  void host_learns(const Clock& clock);
  /// Only the calling thread does: it has asked, and the answer was yes. (A thread that looks after the others' work
  /// must not seem to wait for it in their name.)
  void thread_learns(const Clock& clock);
  /// Needed before host memory is closed to the host.
  void keep_fault_handler();
  /// Finishes markers whose turn has come.
  void advance();
  /// Runs `job` on the device thread between two operations, at once; rethrows what it throws.
  void run_on_device(Lock&, std::function<void()> job);
  void set_policy(const Settings&);
  void reset_context_error(Lock&);

  /// An operation not known to be over that has `base` among its arguments or ranges.
  Op in_flight_on(uintptr_t begin, uintptr_t end) const;
  /// Makes device memory accessible so that a host access already reported can go on.
  void expose_for_host();

  Regions& regions() { return regions_; }
  Pinned& pinned() { return pinned_; }
  const Clock& host_clock() const { return host_clock_; }

 private:
  Gpu();
  void loop();
  void run_jobs(Lock&);
  bool poll_started(Lock&);
  bool step(Lock&, const StreamPtr&);
  bool run(Item&);
  void finish_head(Stream&);
  void die(cudaError_t code);
  void rest(Lock&, bool polling);
  void expose(bool on);

  StreamPtr choose();
  StreamPtr needed(const StreamPtr&, uint64_t position);
  StreamPtr oldest_runnable();
  StreamPtr random_runnable();
  std::vector<StreamPtr> runnable();
  bool idle_for_long() const;

  Op make_op(Lock&, Stream&, const Work&);
  void check_ranges(const Work&, Item&);
  void check_pointers(const Work&, Item&);
  void check_kernels_at(uintptr_t begin, uintptr_t end, Item&);
  void report_race(Item&, const std::string& what);
  void make_room(Lock&);
  void after_submission(Lock&);
  size_t unfinished() const;

  std::mutex mutex_;
  std::condition_variable device_cv_, host_cv_;
  std::vector<StreamPtr> streams_;
  std::vector<uint32_t> steps_;    // by stream index: the steps that earlier streams of that index took
  std::set<uint32_t> free_index_;  // of streams that are gone
  struct Waiter {
    StreamPtr stream;
    uint64_t position;
  };
  std::list<Waiter> waiters_;
  struct Job {
    std::function<void()> run;
    bool done = false;
    std::exception_ptr error;
  };
  std::deque<Job*> jobs_;

  Clock host_clock_;
  uint64_t last_id_ = 0;
  Regions regions_;
  Pinned pinned_;
  /// By address, kind and stream: the last operation given that address, until the host is known to have waited for it.
  /// (The earlier ones of the stream come before it.)
  struct Use {
    uintptr_t address;
    bool kernel;
    uint32_t stream;
    auto operator<=>(const Use&) const = default;
  };
  std::map<Use, Op> in_flight_;

  StreamPolicy policy_;
  std::mt19937_64 random_;
  int credits_ = 0;         // operations that Random may run unasked
  bool pressed_ = false;    // a queue is full: work whatever the policy
  bool quiescent_ = false;  // nothing more can start
  bool exposed_ = true;
  bool running_kernel_ = false;  // the core's fault handler is in force
  int idle_polls_ = 0;
  TimePoint last_activity_;
  cudaError_t context_error_ = cudaSuccess;
  std::thread thread_;
};

/// The handles of the C API.
StreamPtr find_stream(cudaStream_t, const char* call);

}  // namespace simt
