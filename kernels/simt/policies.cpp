// Which queued operation the emulated GPU starts next.
#include <algorithm>

#include "kernels/simt/device_thread.h"

namespace simt {

bool Gpu::idle_for_long() const {
  return std::chrono::steady_clock::now() - last_activity_ >= std::chrono::milliseconds(2);
}

StreamPtr Gpu::choose() {
  if (policy_ == StreamPolicy::Eager || pressed_) return oldest_runnable();
  if (policy_ == StreamPolicy::Lazy) {
    for (const Waiter& w : waiters_) {
      if (StreamPtr s = needed(w.stream, w.position)) return s;
    }
    return idle_for_long() ? oldest_runnable() : nullptr;
  }
  const bool awaited =
      std::any_of(waiters_.begin(), waiters_.end(), [](const Waiter& w) { return w.stream->finished < w.position; });
  if (!awaited && credits_ == 0) return idle_for_long() ? oldest_runnable() : nullptr;
  StreamPtr s = random_runnable();
  if (s && credits_ > 0) --credits_;
  return s;
}

/// The stream whose head must run next for `stream` to get to `position`; null when nothing can be started for it.
StreamPtr Gpu::needed(const StreamPtr& stream, uint64_t position) {
  if (stream->finished >= position || stream->queue.empty()) return nullptr;
  const Item& head = stream->queue.front();
  if (head.wait) return needed(head.wait->stream, head.wait->position);
  return head.poll && !head.started ? stream : nullptr;
}

std::vector<StreamPtr> Gpu::runnable() {
  std::vector<StreamPtr> found;
  for (const StreamPtr& s : streams_) {
    if (!s->queue.empty() && s->queue.front().poll && !s->queue.front().started) found.push_back(s);
  }
  return found;
}

StreamPtr Gpu::oldest_runnable() {
  const std::vector<StreamPtr> all = runnable();
  const auto oldest = std::min_element(all.begin(), all.end(), [](const StreamPtr& a, const StreamPtr& b) {
    return a->queue.front().op->id < b->queue.front().op->id;
  });
  return oldest == all.end() ? nullptr : *oldest;
}

StreamPtr Gpu::random_runnable() {
  const std::vector<StreamPtr> all = runnable();
  return all.empty() ? nullptr : all[random_() % all.size()];
}

void Gpu::set_policy(const Settings& s) {
  policy_ = s.policy;
  random_.seed(s.seed);
  credits_ = 0;
}

}  // namespace simt
