// HostStream: one ordered queue of host functions, what a Stream handle of the CPU device points to.
//
// Policy: the compute stream has no thread, its work runs in the caller. Every other stream is one worker thread,
// started by the first submit. Tickets count submitted work; an event is (stream, ticket). The first exception poisons
// the stream for good: later work is dropped, because its inputs were never made, and every wait rethrows.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "core/base/stream.h"

namespace trident {

class HostStream {
 public:
  enum class Mode : uint8_t { in_place, worker };

  explicit HostStream(Mode mode) : mode_(mode) {}
  /// Closes and joins.
  ~HostStream();
  HostStream(const HostStream&) = delete;
  HostStream& operator=(const HostStream&) = delete;

  /// Runs `work` after all earlier work. In place it runs now and its exception comes straight out.
  void submit(std::function<void()> work);
  /// The ticket of the last piece of work submitted.
  uint64_t last_ticket() const;
  /// Blocks the calling thread until the work up to `ticket` is done; rethrows what poisoned the stream. Throws
  /// RunError when the stream is closed before.
  void wait_for(uint64_t ticket);
  /// Whether the work up to `ticket` is done.
  bool finished(uint64_t ticket) const;

  /// Drops work that has not started. Streams that wait for one another are all closed before the first is joined.
  void close();
  /// Waits for the piece of work that has started. After close().
  void join();

  Stream handle() { return {this}; }
  Event event() { return {this, last_ticket()}; }
  /// The stream behind a handle; throws InternalError for an empty one.
  static HostStream& of(Stream);

 private:
  void run_worker();

  const Mode mode_;
  mutable std::mutex mutex_;
  std::condition_variable work_ready_, work_done_;
  std::deque<std::function<void()>> queue_;
  uint64_t submitted_ = 0, finished_ = 0;
  bool closed_ = false;
  std::exception_ptr failure_;
  std::thread worker_;
};

/// Later work of `stream` starts after `event`. An event that was never recorded has passed.
void wait_event(HostStream& stream, const Event& event);

}  // namespace trident
