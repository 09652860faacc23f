#include "core/device/host_stream.h"

#include <utility>

#include "core/base/error.h"
#include "core/device/device.h"

namespace trident {

HostStream& HostStream::of(Stream stream) {
  ensure(stream.handle != nullptr, "work goes to a stream of the device; an empty Stream is none");
  return *static_cast<HostStream*>(stream.handle);
}

HostStream::~HostStream() {
  close();
  join();
}

void HostStream::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  queue_.clear();
  work_ready_.notify_all();
  work_done_.notify_all();
}

void HostStream::join() {
  if (worker_.joinable()) worker_.join();
}

void HostStream::submit(std::function<void()> work) {
  if (mode_ == Mode::in_place) {
    work();
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    if (!worker_.joinable()) worker_ = std::thread([this] { run_worker(); });
    queue_.push_back(std::move(work));
    ++submitted_;
  }
  work_ready_.notify_one();
}

uint64_t HostStream::last_ticket() const {
  const std::lock_guard lock(mutex_);
  return submitted_;
}

void HostStream::wait_for(uint64_t ticket) {
  std::unique_lock lock(mutex_);
  work_done_.wait(lock, [&] { return finished_ >= ticket || closed_; });
  if (failure_) std::rethrow_exception(failure_);
  if (finished_ < ticket) throw RunError("the device was closed while its streams still had work");
}

bool HostStream::finished(uint64_t ticket) const {
  const std::lock_guard lock(mutex_);
  return finished_ >= ticket;
}

void HostStream::run_worker() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_ready_.wait(lock, [&] { return closed_ || !queue_.empty(); });
    if (closed_) return;
    std::function<void()> work = std::move(queue_.front());
    queue_.pop_front();
    std::exception_ptr failure = failure_;
    lock.unlock();
    if (!failure) {
      try {
        work();
      } catch (...) {
        failure = std::current_exception();
      }
    }
    work = nullptr;  // what it captured dies here, not under the lock
    lock.lock();
    failure_ = failure;
    ++finished_;
    work_done_.notify_all();
  }
}

void wait_event(HostStream& stream, const Event& event) {
  if (event.handle == nullptr) return;
  auto* const source = static_cast<HostStream*>(event.handle);
  if (source == &stream) return;  // a stream is in order with itself
  stream.submit([source, ticket = event.ticket] { source->wait_for(ticket); });
}

void submit(Stream stream, std::function<void()> work) { HostStream::of(stream).submit(std::move(work)); }

}  // namespace trident
