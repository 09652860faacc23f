// Trace: where a thread's time goes. Whoever wants to know makes a Recorder on the thread; the code that spends the
// time names it (Section). Without a recorder, on this thread, a section costs a load and a branch. One of the three
// permitted globals (log, trace, SIMT emulator).
//
// Policy: self time. At every moment the thread does one thing, the innermost section, so that the times of all
// activities add up to what has passed, whatever nests in what.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

namespace trident::trace {

enum class Activity : uint8_t {
  host,      ///< none of the others: preparing calls, reading their results
  gemm_qkv,  ///< the matrix products, by the layer they belong to
  gemm_out,
  gemm_up,
  gemm_down,
  gemm_head,
  gemm_other,
  attention,
  norm,
  activation,
  pointwise,
  embedding,
  loss,
  optimizer,
  copy,         ///< copies and zeroing
  comm_tensor,  ///< waiting for other ranks or talking to them, by axis; work beside the thread's own does not count
  comm_pipeline,
  comm_data,
  comm_world,
  offload,  ///< waiting for a disk or for copies between host and device
  data,     ///< reading samples
};
inline constexpr int kActivities = static_cast<int>(Activity::data) + 1;

/// Model operations, and bytes read and written where each is touched once; 0: not counted.
struct Work {
  double flops = 0, bytes = 0;
};
struct Spent {
  double seconds = 0;
  Work work;
};

/// What one thread spends, from start() to stop(), as often as that is. The thread that makes it is the one observed;
/// it has one at a time.
class Recorder {
 public:
  Recorder();
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  void start();
  void stop();
  /// Forgets what was spent.
  void clear() { spent_ = {}; }
  const Spent& operator[](Activity a) const { return spent_[static_cast<size_t>(a)]; }

  /// For Section, Product and those who cannot live in a scope: every enter has its leave.
  void enter(Activity, Work = {});
  void leave();
  /// What a matrix product is for now; returns what it was before.
  Activity product(Activity);
  Activity product() const { return product_; }

 private:
  using Clock = std::chrono::steady_clock;
  void settle();

  static constexpr size_t kDepth = 8;
  std::array<Spent, kActivities> spent_{};
  std::array<Activity, kDepth> outer_{};
  size_t depth_ = 0;
  Activity now_ = Activity::host, product_ = Activity::gemm_other;
  bool running_ = false;
  Clock::time_point since_;
};

/// The calling thread's recorder, or nullptr.
inline constinit thread_local Recorder* recorder = nullptr;

/// While it lives the thread does this.
class Section {
 public:
  explicit Section(Activity activity, Work work = {}) : recorder_(recorder) {
    if (recorder_ != nullptr) recorder_->enter(activity, work);
  }
  ~Section() {
    if (recorder_ != nullptr) recorder_->leave();
  }
  Section(const Section&) = delete;
  Section& operator=(const Section&) = delete;

 private:
  Recorder* const recorder_;
};

/// While it lives, matrix products are this layer's.
class Product {
 public:
  explicit Product(Activity layer) : recorder_(recorder) {
    if (recorder_ != nullptr) before_ = recorder_->product(layer);
  }
  ~Product() {
    if (recorder_ != nullptr) recorder_->product(before_);
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

 private:
  Recorder* const recorder_;
  Activity before_ = Activity::gemm_other;
};

}  // namespace trident::trace
