#include "core/base/trace.h"

#include <utility>

#include "core/base/error.h"

namespace trident::trace {

Recorder::Recorder() {
  ensure(recorder == nullptr, "a thread has one recorder at a time");
  recorder = this;
}
Recorder::~Recorder() { recorder = nullptr; }

// What has passed since the last change belongs to what went on until now.
void Recorder::settle() {
  const Clock::time_point time = Clock::now();
  if (running_) spent_[static_cast<size_t>(now_)].seconds += std::chrono::duration<double>(time - since_).count();
  since_ = time;
}

void Recorder::start() {
  since_ = Clock::now();
  running_ = true;
}

void Recorder::stop() {
  settle();
  running_ = false;
}

void Recorder::enter(Activity activity, Work work) {
  ensure(depth_ < kDepth, "sections nest eight deep at most");
  settle();
  outer_[depth_++] = std::exchange(now_, activity);
  if (!running_) return;
  Work& total = spent_[static_cast<size_t>(activity)].work;
  total.flops += work.flops;
  total.bytes += work.bytes;
}

void Recorder::leave() {
  ensure(depth_ > 0, "a section is left once");
  settle();
  now_ = outer_[--depth_];
}

Activity Recorder::product(Activity layer) { return std::exchange(product_, layer); }

}  // namespace trident::trace
