// The io_uring engine.
//
// Policy: whoever starts an operation submits it at once, under a lock; one thread waits for completions, so that what
// follows a transfer (its checksum) never takes the time of the thread that computes. That thread is woken for its end
// by an eventfd it polls through the same ring.
#include "core/base/error.h"
#include "core/device/file_engine.h"

#ifdef TRIDENT_URING

#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

namespace trident {
namespace {

constexpr uint64_t kStop = ~uint64_t{0};

[[noreturn]] void refuse(const char* doing, int error) {
  throw UringRefused(build_string("io_uring: ", doing, ": ", std::strerror(error)));
}

/// A ring that has been seen to work.
class Ring {
 public:
  explicit Ring(unsigned entries) {
    const int failed = io_uring_queue_init(entries, &ring_, 0);
    if (failed < 0) refuse("setup", -failed);
    try {
      try_out();
    } catch (...) {
      io_uring_queue_exit(&ring_);
      throw;
    }
  }
  ~Ring() { io_uring_queue_exit(&ring_); }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  io_uring* get() { return &ring_; }

 private:
  /// A sandbox may allow the setup and nothing after it; kernels before 5.6 know no plain reads and writes.
  void try_out() {
    io_uring_probe* const probe = io_uring_get_probe_ring(&ring_);
    const bool knows = probe != nullptr && io_uring_opcode_supported(probe, IORING_OP_READ) != 0 &&
                       io_uring_opcode_supported(probe, IORING_OP_WRITE) != 0;
    io_uring_free_probe(probe);
    if (!knows) refuse("read and write operations", ENOSYS);
    io_uring_prep_nop(io_uring_get_sqe(&ring_));
    const int submitted = io_uring_submit(&ring_);
    if (submitted < 0) refuse("submit", -submitted);
    io_uring_cqe* completion = nullptr;
    const int failed = io_uring_wait_cqe(&ring_, &completion);
    if (failed < 0) refuse("wait", -failed);
    io_uring_cqe_seen(&ring_, completion);
  }

  io_uring ring_{};
};

class UringEngine : public FileEngine {
 public:
  UringEngine(int fd, int depth, Done done)
      : fd_(fd),
        done_(std::move(done)),
        ring_(static_cast<unsigned>(depth) + 1),  // and the poll
        stop_(::eventfd(0, EFD_CLOEXEC)) {
    if (stop_.get() < 0) refuse("eventfd", errno);
    reaper_ = std::thread([this] { reap(); });
  }

  ~UringEngine() override {
    ::eventfd_write(stop_.get(), 1);
    reaper_.join();
  }

  void start(const FileOp& op) override {
    const int error = submit(static_cast<uint64_t>(op.slot), [&](io_uring_sqe* entry) {
      const auto bytes = static_cast<unsigned>(op.bytes);
      if (op.from != nullptr) {
        io_uring_prep_write(entry, fd_, op.from, bytes, op.offset);
      } else {
        io_uring_prep_read(entry, fd_, op.into, bytes, op.offset);
      }
    });
    if (error != 0) done_(op.slot, -error);
  }

  std::string name() const override { return "io_uring"; }

 private:
  /// Hands one entry, which `prepare` fills, to the kernel. Returns 0 or an errno.
  template <class Prepare>
  int submit(uint64_t token, const Prepare& prepare) {
    const std::lock_guard lock(submitting_);
    if (broken_ != 0) return broken_;
    io_uring_sqe* const entry = io_uring_get_sqe(ring_.get());
    ensure(entry != nullptr, "each slot of a file engine has at most one operation under way");
    prepare(entry);
    entry->user_data = token;
    int submitted = 0;
    do {
      submitted = io_uring_submit(ring_.get());
      if (submitted == -EAGAIN || submitted == -EBUSY) std::this_thread::yield();  // the kernel is short of memory
    } while (submitted == -EINTR || submitted == -EAGAIN || submitted == -EBUSY);
    // An entry that was not taken would go with the next one and be reported twice: there is no next one.
    if (submitted < 0) broken_ = -submitted;
    return broken_;
  }

  void reap() {
    // By this thread, which lives as long as the ring: the kernel cancels what a thread that ends has submitted.
    const int error = submit(kStop, [&](io_uring_sqe* entry) { io_uring_prep_poll_add(entry, stop_.get(), POLLIN); });
    ensure(error == 0, "a ring that took a NOP takes a poll");
    while (true) {
      io_uring_cqe* completion = nullptr;
      const int failed = io_uring_wait_cqe(ring_.get(), &completion);
      if (failed == -EINTR || failed == -EAGAIN) continue;
      ensure(failed == 0, "a ring can be waited for");
      const uint64_t token = completion->user_data;
      const int result = completion->res;
      io_uring_cqe_seen(ring_.get(), completion);
      if (token == kStop) return;
      done_(static_cast<int>(token), result);
    }
  }

  const int fd_;
  const Done done_;
  Ring ring_;
  const FileDescriptor stop_;
  std::mutex submitting_;
  int broken_ = 0;
  std::thread reaper_;
};

}  // namespace

std::unique_ptr<FileEngine> make_uring_engine(int fd, int depth, FileEngine::Done done) {
  return std::make_unique<UringEngine>(fd, depth, std::move(done));
}

}  // namespace trident

#else

namespace trident {

std::unique_ptr<FileEngine> make_uring_engine(int, int, FileEngine::Done) {
  throw UringRefused("io_uring: built without liburing");
}

}  // namespace trident

#endif
