// The numbers of a run: metrics.jsonl (one JSON object a line, appended) and the progress line.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/train/profile.h"

namespace trident {

/// One training step, over all ranks unless said otherwise. A number that is unknown is NaN, in JSON null.
struct StepMetrics {
  int64_t step = 0;             ///< from 1
  int64_t tokens = 0;           ///< seen since the start of training, this step included
  double loss = kUnknown;       ///< mean over the valid tokens of the global batch
  double grad_norm = kUnknown;  ///< global, before clipping
  double lr = 0;
  double tokens_per_s = kUnknown;
  double tflops = kUnknown;  ///< 1e12 model operations per second (core/train/flops.h), of all ranks together
  double mfu = kUnknown;     ///< share of the measured GEMM peak, 0..1
  double step_ms = kUnknown;
  int64_t mem_peak_bytes = 0;  ///< largest of the ranks
  int64_t comm_bytes = 0;      ///< sent by all ranks in this step
  bool skipped = false;        ///< not applied: loss or norm was not finite
  /// With log.profile, where the steps since the last profile went; in the line under `profile`:
  ///   {"steps": 10, "step_ms": 81.2, "spent": {"gemm": {"ms": 60.1, "least_ms": 59.8, "most_ms": 60.1, "gflops": 412},
  ///   "gemm.qkv": {...}, ..., "norm": {..., "gbytes": 31}, "comm_tensor": ..., "host": ...}}
  /// by the names of its lines. Rates, per second on rank 0, are of lines that have one.
  std::optional<StepProfile> profile;

  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
};

/// One validation, after `step` updates.
struct EvalMetrics {
  int64_t step = 0;
  double valid_loss = StepMetrics::kUnknown;
  double perplexity() const;  ///< e^valid_loss
};

/// The line of metrics.jsonl, without the newline.
std::string to_json(const StepMetrics&);
std::string to_json(const EvalMetrics&);

/// Everything in a metrics.jsonl, in file order.
struct MetricsLog {
  std::vector<StepMetrics> steps;
  std::vector<EvalMetrics> evaluations;
  int64_t unreadable_lines = 0;  ///< torn by a kill or a full disk, or not ours; skipped
};

/// Reads a metrics.jsonl, but for profiles. A missing key stays unknown. Throws UserError when the file cannot be read.
MetricsLog read_metrics(const std::string& path);

/// For resuming: keeps the lines whose step is <= last_step, drops later and unreadable ones. Atomic: the file is
/// replaced by a synced copy. Returns the number of lines dropped; a missing file is 0. Throws RunError when it can't.
int64_t truncate_metrics(const std::string& path, int64_t last_step);

/// Appends lines to a metrics.jsonl, each with one write, so that a kill tears at most the last. Starts on a new line
/// when the file ends in a torn one. Owns the file descriptor. Throws RunError (with the system's words) on failure.
class MetricsWriter {
 public:
  explicit MetricsWriter(const std::string& path);
  ~MetricsWriter();
  MetricsWriter(const MetricsWriter&) = delete;
  MetricsWriter& operator=(const MetricsWriter&) = delete;

  void write(const StepMetrics& metrics) { append(to_json(metrics)); }
  void write(const EvalMetrics& metrics) { append(to_json(metrics)); }

 private:
  void append(std::string line);

  std::string path_;
  int file_ = -1;
};

/// The live line. Columns keep their width for the whole run, so that lines stand under one another:
///
///   step   120/300  loss  2.3456  norm   1.234  lr 3.00e-04  12.3k tok/s  MFU  41.2%  ETA  1m23s  mem   1.2 GiB
///
/// loss and norm of this step, model operations as a share of the measured GEMM peak ("?" when there is none), time to
/// the last step at `seconds_per_step`, largest memory of a rank. A step that was not applied says so at the end.
std::string progress_line(const StepMetrics&, int64_t last_step, double seconds_per_step);

/// "step   100/300  valid loss  2.1234  perplexity 8.36".
std::string progress_line(const EvalMetrics&, int64_t last_step);

}  // namespace trident
