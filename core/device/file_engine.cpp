#include "core/device/file_engine.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#ifdef TRIDENT_URING
#include <liburing.h>
#endif

#include "core/base/error.h"

namespace trident {
namespace {

class ThreadEngine final : public FileEngine {
 public:
  ThreadEngine(int fd, FileCalls calls) : fd_(fd), calls_(std::move(calls)) {
    if (!calls_.read) calls_.read = ::pread;
    if (!calls_.write) calls_.write = ::pwrite;
    for (int i = 0; i < kThreads; ++i) threads_.emplace_back([this] { work(); });
  }
  ~ThreadEngine() override {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    ready_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  const char* name() const override { return "threads"; }

  void start(std::shared_ptr<FileTransfer> transfer) override {
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(transfer));
    }
    ready_.notify_one();
  }

  void wait(FileTransfer& transfer) override {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return transfer.finished; });
  }

 private:
  static constexpr int kThreads = 2;  // one reads while the other writes

  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      ready_.wait(lock, [&] { return closed_ || !queue_.empty(); });
      if (queue_.empty()) return;
      const std::shared_ptr<FileTransfer> t = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      const auto offset = static_cast<off_t>(t->offset);
      const ssize_t moved =
          t->write ? calls_.write(fd_, t->buffer, t->bytes, offset) : calls_.read(fd_, t->buffer, t->bytes, offset);
      const ssize_t result = moved < 0 ? -errno : moved;
      lock.lock();
      t->result = result;
      t->finished = true;
      done_.notify_all();
    }
  }

  const int fd_;
  FileCalls calls_;
  std::mutex mutex_;
  std::condition_variable ready_, done_;
  std::deque<std::shared_ptr<FileTransfer>> queue_;
  bool closed_ = false;
  std::vector<std::thread> threads_;
};

#ifdef TRIDENT_URING
class UringEngine final : public FileEngine {
 public:
  UringEngine(int fd, io_uring ring) : fd_(fd), ring_(ring) {}
  ~UringEngine() override {
    while (!started_.empty()) finish_one();
    io_uring_queue_exit(&ring_);
  }

  static constexpr unsigned kDepth = 16;

  const char* name() const override { return "io_uring"; }

  void start(std::shared_ptr<FileTransfer> transfer) override {
    while (started_.size() >= kDepth) finish_one();
    io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
    ensure(entry != nullptr, "an io_uring has room for as many entries as it was made for");
    FileTransfer* const t = transfer.get();
    const auto bytes = static_cast<unsigned>(std::min<size_t>(t->bytes, size_t{1} << 30));
    if (t->write) {
      io_uring_prep_write(entry, fd_, t->buffer, bytes, t->offset);
    } else {
      io_uring_prep_read(entry, fd_, t->buffer, bytes, t->offset);
    }
    io_uring_sqe_set_data(entry, t);
    started_.insert(std::move(transfer));
    for (int code = -EINTR; code < 0;) {
      code = io_uring_submit(&ring_);
      if (code < 0 && code != -EINTR && code != -EAGAIN)
        throw RunError(build_string("io_uring_submit failed: error ", -code));
    }
  }

  void wait(FileTransfer& transfer) override {
    while (!transfer.finished) finish_one();
  }

 private:
  void finish_one() {
    io_uring_cqe* entry = nullptr;
    int code = -EINTR;
    while (code == -EINTR) code = io_uring_wait_cqe(&ring_, &entry);
    if (code < 0) throw RunError(build_string("io_uring_wait_cqe failed: error ", -code));
    auto* const t = static_cast<FileTransfer*>(io_uring_cqe_get_data(entry));
    t->result = entry->res;
    t->finished = true;
    io_uring_cqe_seen(&ring_, entry);
    std::erase_if(started_, [&](const auto& started) { return started.get() == t; });
  }

  const int fd_;
  io_uring ring_;
  std::set<std::shared_ptr<FileTransfer>> started_;
};
#endif

}  // namespace

std::unique_ptr<FileEngine> make_thread_engine(int fd, FileCalls calls) {
  return std::make_unique<ThreadEngine>(fd, std::move(calls));
}

#ifdef TRIDENT_URING
std::unique_ptr<FileEngine> make_uring_engine(int fd) {
  io_uring ring{};
  if (io_uring_queue_init(UringEngine::kDepth, &ring, 0) != 0) return nullptr;
  return std::make_unique<UringEngine>(fd, ring);
}
#else
std::unique_ptr<FileEngine> make_uring_engine(int) { return nullptr; }
#endif

}  // namespace trident
