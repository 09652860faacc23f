// Profile: where the time of training steps goes (log.profile), on a device whose work runs in the calling thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/trace.h"
#include "core/comm/communicator.h"
#include "kernels/observed_ops.h"

namespace trident {

/// The activity that an operation's time belongs to; of products, `product`.
trace::Activity activity_of(Op, trace::Activity product);

/// Lets operations know the thread's recorder, if it has one.
class OpTracer final : public OpObserver {
 public:
  void begin(const OpCall&) override;
  void end() override;
};

/// Where `steps` steps up to `last_step` went. All numbers are of one step, in the mean.
struct StepProfile {
  /// One activity, or the sum of several.
  struct Line {
    std::string name;                  ///< a part of the line before it is called "gemm.qkv"
    double ms = 0;                     ///< on rank 0
    double least_ms = 0, most_ms = 0;  ///< of the ranks
    trace::Work work;                  ///< on rank 0, in a step

    bool part() const { return name.find('.') != std::string::npos; }
    bool rated() const { return ms > 0 && work.flops + work.bytes > 0; }
    /// Operations per second, or bytes where there are none.
    double rate() const { return (work.flops > 0 ? work.flops : work.bytes) / (ms * 1e-3); }
  };
  int64_t last_step = 0, steps = 0, ranks = 1;
  double step_ms = 0;  ///< measured by itself, on rank 0
  /// In the order of the table; their ms add up to step_ms but for the parts, which add up to theirs. What no rank
  /// spent time on is left out.
  std::vector<Line> lines;
};

/// As a table, line by line:
///
///   profile of steps 11-20      ms a step   share
///   gemm                            60.10   74.0%   412.1 GFLOP/s   59.80 to 60.10 over 4 ranks
///     qkv                           13.20   ...
std::vector<std::string> describe(const StepProfile&);

/// Collects profiles. Made on the thread that trains.
class Profiler {
 public:
  void begin_step() { recorder_.start(); }
  /// `seconds`: what the step took, measured beside it.
  void end_step(double seconds);
  /// Of the steps since the last call, at least one. Collective over `world`.
  StepProfile take(int64_t last_step, Communicator& world);

 private:
  trace::Recorder recorder_;
  int64_t steps_ = 0;
  double seconds_ = 0;
};

}  // namespace trident
