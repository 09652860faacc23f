// NcclWatch: notices NCCL operations that fail or never end. One thread per rank looks at the oldest operation in
// flight and asks every communicator for asynchronous errors.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/comm/watchdog.h"
#include "core/device/device.h"

namespace trident {

class NcclWatch {
 public:
  using Seconds = std::chrono::duration<double>;
  /// "" while all is well, else NCCL's words.
  using AsyncError = std::function<std::string()>;

  /// `watchdog` speaks for the job; the device answers for events. Both outlive the watch.
  NcclWatch(Device& device, Watchdog& watchdog, Seconds timeout);
  ~NcclWatch();
  NcclWatch(const NcclWatch&) = delete;
  NcclWatch& operator=(const NcclWatch&) = delete;

  /// From now on `error` is asked; `key` names it for `remove`.
  void add(const void* key, AsyncError error);
  void remove(const void* key);
  /// An operation was submitted; `done` is the event behind it. The stall says what to tell when it never passes.
  void submitted(Event done, Stall stall);

 private:
  struct Pending {
    Event done;
    Stall stall;
    std::chrono::steady_clock::time_point since;
  };
  struct Source {
    const void* key;
    AsyncError error;
  };

  void run_thread();
  void look(std::unique_lock<std::mutex>& lock);

  Device& device_;
  Watchdog& watchdog_;
  const Seconds timeout_;
  std::mutex mutex_;  ///< guards what follows
  std::condition_variable stop_;
  bool stopping_ = false;
  std::vector<Source> sources_;
  std::deque<Pending> pending_;
  std::chrono::steady_clock::time_point progress_;  ///< when an operation was last seen to end
  std::thread thread_;
};

}  // namespace trident
