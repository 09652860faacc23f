#include "core/comm/nccl_watch.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "core/base/error.h"

namespace trident {

NcclWatch::NcclWatch(Device& device, Watchdog& watchdog, Seconds timeout)
    : device_(device), watchdog_(watchdog), timeout_(timeout), thread_([this] { run_thread(); }) {}

NcclWatch::~NcclWatch() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  thread_.join();
}

void NcclWatch::add(const void* key, AsyncError error) {
  const std::lock_guard lock(mutex_);
  sources_.push_back({key, std::move(error)});
}

void NcclWatch::remove(const void* key) {
  const std::lock_guard lock(mutex_);
  std::erase_if(sources_, [key](const Source& s) { return s.key == key; });
}

void NcclWatch::submitted(Event done, Stall stall) {
  const std::lock_guard lock(mutex_);
  pending_.push_back({done, std::move(stall), std::chrono::steady_clock::now()});
}

void NcclWatch::run_thread() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    look(lock);
    stop_.wait_for(lock, std::chrono::milliseconds(50));
  }
}

void NcclWatch::look(std::unique_lock<std::mutex>& lock) {
  const auto now = std::chrono::steady_clock::now();
  for (const Source& source : sources_) {
    const std::string error = source.error();
    if (error.empty()) continue;
    const std::string during = pending_.empty() ? "" : build_string(" in ", pending_.front().stall.operation);
    lock.unlock();
    watchdog_.fail(2, build_string("NCCL reports", during, ": ", error));
  }
  try {
    while (!pending_.empty() && device_.passed(pending_.front().done)) {
      pending_.pop_front();
      progress_ = now;
    }
  } catch (const std::exception&) {
    // The GPU is in error; the thread that computes hears it from its next synchronize, and says it better.
    pending_.clear();
  }
  if (pending_.empty()) return;
  const Seconds silence = now - std::max(pending_.front().since, progress_);
  if (silence <= timeout_) return;
  Stall stall = pending_.front().stall;
  stall.seconds = silence.count();
  lock.unlock();
  watchdog_.give_up(stall);
}

}  // namespace trident
