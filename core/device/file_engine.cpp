// The engine of threads, and the choice between the engines.
#include "core/device/file_engine.h"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/device/host_stream.h"

namespace trident {
namespace {

/// More threads than this keep no disk busier: the kernel splits each large transfer into many requests anyway.
constexpr int kMostThreads = 8;

class ThreadEngine : public FileEngine {
 public:
  ThreadEngine(int fd, int depth, Done done, std::string remark)
      : fd_(fd), done_(std::move(done)), remark_(std::move(remark)) {
    for (int i = 0; i < std::min(depth, kMostThreads); ++i) {
      threads_.push_back(std::make_unique<HostStream>(HostStream::Mode::worker));
    }
  }

  void start(const FileOp& op) override {
    threads_[static_cast<size_t>(op.slot) % threads_.size()]->submit([this, op] { done_(op.slot, transfer(op)); });
  }

  std::string name() const override {
    return build_string(threads_.size(), threads_.size() == 1 ? " thread" : " threads", remark_);
  }

 private:
  int64_t transfer(const FileOp& op) const {
    const auto offset = static_cast<off_t>(op.offset);
    const ssize_t moved = op.from != nullptr ? ::pwrite(fd_, op.from, op.bytes, offset)  //
                                             : ::pread(fd_, op.into, op.bytes, offset);
    return moved < 0 ? -errno : moved;
  }

  int fd_;
  Done done_;
  std::string remark_;
  std::vector<std::unique_ptr<HostStream>> threads_;  // last: joined before what they use goes
};

}  // namespace

std::unique_ptr<FileEngine> make_thread_engine(int fd, int depth, FileEngine::Done done) {
  return std::make_unique<ThreadEngine>(fd, depth, std::move(done), "");
}

std::unique_ptr<FileEngine> make_file_engine(int fd, int depth, FileEngine::Done done) {
  try {
    return make_uring_engine(fd, depth, done);
  } catch (const UringRefused& refused) {
    return std::make_unique<ThreadEngine>(fd, depth, std::move(done), build_string(" (", refused.what(), ")"));
  }
}

}  // namespace trident
