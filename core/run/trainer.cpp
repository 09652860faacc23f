#include "core/run/trainer.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <memory>
#include <span>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/format.h"
#include "core/base/log.h"
#include "core/base/process_memory.h"
#include "core/plan/plan.h"
#include "core/plan/settings.h"
#include "core/run/device_peak.h"
#include "core/run/locate.h"
#include "core/run/memory_check.h"
#include "core/run/report.h"
#include "core/run/run.h"
#include "core/run/run_directory.h"
#include "core/run/signals.h"
#include "core/train/flops.h"
#include "core/train/metrics.h"
#include "core/train/profile.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/peak.h"

namespace trident {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kExitStopped = 75;

class Trainer {
 public:
  /// `notes`: lines for the head of the log.
  Trainer(const Config& config, World& world, const TrainOptions& options, std::vector<std::string> notes)
      : config_(config), world_(world), options_(options), notes_(std::move(notes)), dir_{config.out} {}

  int run();

 private:
  bool root() const { return world_.rank() == 0; }
  void refuse_occupied_directory();
  void refuse_mixed_processors();
  std::string choose_checkpoint();
  void start();
  double gemm_peak(double seconds);
  void measure_peak(double seconds);
  void measure_peak_again();
  void compare_with_plan();
  bool validates_at(int64_t step) const;
  bool saves_at(int64_t step) const;
  void finish_steps(size_t left);
  void one_step();
  void record(const StepReport&, double seconds);
  void validate();
  void save();
  void committed(const std::optional<std::string>& path);
  double world_reduce(double value, Reduce);

  const Config& config_;
  World& world_;
  const TrainOptions& options_;
  const std::vector<std::string> notes_;
  RunDirectory dir_;
  std::unique_ptr<Run> run_;
  std::unique_ptr<MetricsWriter> metrics_;
  std::unique_ptr<Profiler> profiler_;  // with log.profile: then a step is finished before the next one begins
  double peak_flops_ = 0;               // of all ranks together, the best so far
  Clock::time_point peak_measured_, step_began_;
  double seconds_per_step_ = 0;
  int64_t comm_bytes_ = 0, mem_peak_ = 0, saved_step_ = -1, first_step_ = 0;
  bool stop_ = false;
};

void Trainer::refuse_occupied_directory() {
  if (world_reduce(root() && holds_a_run(dir_) ? 1.0 : 0.0, Reduce::max) > 0) {
    throw UserError(build_string(
        dir_.path, " already holds a run: choose another `out`, remove it, or continue it with --resume auto"));
  }
}

// Sums round differently with each instruction set: copies of a weight on several ranks would drift apart.
void Trainer::refuse_mixed_processors() {
  if (config_.device != DeviceKind::cpu && config_.zero.offload == Offload::none) return;
  const auto mine = static_cast<double>(cpu_isa());
  const auto name = [](double isa) { return cpu_isa_name(static_cast<CpuIsa>(static_cast<int>(isa))); };
  const double most = world_reduce(mine, Reduce::max), least = -world_reduce(-mine, Reduce::max);
  if (least == most) return;
  throw UserError(build_string("some ranks compute with ", name(most), ", some with ", name(least),
                               ", and their copies of the weights would drift apart: give all the same, ",
                               "mpirun -x TRIDENT_CPU_ISA=", name(least)));
}

// Which checkpoint to start from; "" for fresh weights. Says what it skipped.
std::string Trainer::choose_checkpoint() {
  if (options_.resume == "none") return "";
  const bool automatic = options_.resume == "auto";
  const Resume found = pick_newest_valid(automatic ? dir_.checkpoints() : options_.resume, *run_->grid().world, true);
  warn_of_skipped(found, world_.rank());
  // What the user names is a directory of checkpoints, or one checkpoint by its own path.
  return automatic || found.found() ? found.path : options_.resume;
}

void Trainer::start() {
  const auto begin = Clock::now();
  run_ = std::make_unique<Run>(config_, world_);
  refuse_mixed_processors();
  if (config_.log.profile) profiler_ = std::make_unique<Profiler>();
  if (options_.resume == "none") refuse_occupied_directory();
  // From here on the run directory is ours: whatever was refused above left no trace.
  if (root()) {
    make_directories(dir_.path);
    log::to_file(dir_.file("log.txt"));
  }
  log::info(build_string("grid: ", run_->grid().topology.describe(), " on ", world_.size(),
                         world_.size() == 1 ? " rank" : " ranks", ", ZeRO ", config_.zero.stage, ", ",
                         enum_name(config_.train.precision), "; built in ", format_duration(seconds_since(begin))));
  if (const std::string transport = describe_transport(run_->grid()); !transport.empty()) {
    log::info("collectives: " + transport);
  }
  if (config_.device == DeviceKind::cpu) log::info("processor: kernels for " + describe_cpu_isa());
  for (const std::string& note : notes_) log::info(note);
  if (const std::string attention = run_->describe_attention(); !attention.empty()) {
    log::info("attention: " + attention);
  }
  for (const std::string& file : run_->describe_files()) log::info("file: " + file);
  const std::string checkpoint = choose_checkpoint();
  if (checkpoint.empty()) {
    run_->initialize();
    log::info(build_string("fresh weights from seed ", config_.train.seed));
  } else {
    const StartReport report = run_->load(checkpoint, options_.resume == "auto" ? Checksums::trust : Checksums::verify);
    log::info(build_string("loaded ", checkpoint, ": step ", run_->step(),
                           report.weights_only ? " (weights only, fresh optimizer)" : "",
                           report.probe_found ? build_string(", probe loss ", format_fixed(*report.probe_found, 6),
                                                             " (saved ", format_fixed(*report.probe_expected, 6), ")")
                                              : ""));
  }
  saved_step_ = checkpoint.empty() || run_->step() == 0 ? -1 : run_->step();
  if (root()) {
    write_config(dir_, config_);
    if (const int64_t dropped = truncate_metrics(dir_.file("metrics.jsonl"), run_->step()); dropped > 0) {
      log::info(build_string("metrics.jsonl: dropped ", dropped, " lines of steps after ", run_->step(),
                             ", which are done again"));
    }
    metrics_ = std::make_unique<MetricsWriter>(dir_.file("metrics.jsonl"));
  }
}

double Trainer::gemm_peak(double seconds) {
  const DType dtype = dtype_of(config_.train.precision);
  if (config_.device == DeviceKind::cpu) return measure_gemm_peak(dtype, seconds);
  return measure_device_peak(run_->device(), dtype, seconds);
}

// All ranks at once, so that ranks which share cores measure what they will get.
void Trainer::measure_peak(double seconds) {
  run_->grid().world->barrier();
  const double peak = world_reduce(gemm_peak(seconds), Reduce::sum);
  peak_measured_ = Clock::now();
  constexpr double kWorthALine = 1.02;
  if (peak > kWorthALine * peak_flops_) {
    log::info(build_string("GEMM peak (", enum_name(config_.train.precision), "): ", format_fixed(peak * 1e-9, 1),
                           " GFLOP/s over all ranks", peak_flops_ > 0 ? ": more than before, MFU counts from it" : ""));
  }
  peak_flops_ = std::max(peak_flops_, peak);
}

// Whoever shares the machine may have been busy during the first fifth of a second: a peak that is too low makes MFU
// too high. So it is measured again, briefly, after steps 1, 2, 4, 8, ... of this process, where the steps since have
// taken fifty times as long, and the best counts.
void Trainer::measure_peak_again() {
  constexpr double kSeconds = 0.05, kShare = 0.02;
  const auto done = static_cast<uint64_t>(run_->step() - first_step_);
  if (!std::has_single_bit(done)) return;
  if (world_reduce(seconds_since(peak_measured_), Reduce::max) >= kSeconds / kShare) measure_peak(kSeconds);
}

// Over host messages alone: the device need not have come this far.
double Trainer::world_reduce(double value, Reduce how) {
  double total = how == Reduce::sum ? 0.0 : -std::numeric_limits<double>::infinity();
  for (const auto& bytes : run_->grid().world->all_gather_bytes(std::as_bytes(std::span(&value, 1)))) {
    double theirs = 0;
    std::memcpy(&theirs, bytes.data(), sizeof theirs);
    total = how == Reduce::sum ? total + theirs : std::max(total, theirs);
  }
  return total;
}

void Trainer::compare_with_plan() {
  const RankPlan mine = plan_rank(config_, world_.rank(), run_->device().ops());
  const std::vector<PlanRow> real = allocation_rows(run_->device().allocations());
  for (const Place place : {Place::device, Place::host, Place::pinned}) {
    ensure(bytes_at(mine.rows, place) == bytes_at(real, place),
           "the plan is the program: planned and allocated bytes are equal");
  }
  const size_t allocated = bytes_at(real, Place::device);
  const auto on_host = static_cast<int64_t>(bytes_at(real, Place::host) + bytes_at(real, Place::pinned));
  const auto resident = static_cast<int64_t>(world_reduce(static_cast<double>(peak_resident_bytes()), Reduce::max));
  if (!root()) return;
  // On a GPU the process holds the host's part only.
  const int64_t planned = on_host + (config_.device == DeviceKind::cpu ? static_cast<int64_t>(allocated) : 0);
  const std::string beside =
      planned > 0
          ? build_string(
                " (", format_fixed(100.0 * static_cast<double>(resident - planned) / static_cast<double>(planned), 1),
                " % more than planned for it)")
          : "";
  const std::string measured =
      build_string("memory: planned ", format_bytes(static_cast<int64_t>(mine.device_bytes)), ", allocated ",
                   format_bytes(static_cast<int64_t>(allocated)), " on rank 0, and on the host ", format_bytes(on_host),
                   "; largest process ", format_bytes(resident), beside);
  log::info(measured);
  std::ofstream(dir_.file("plan.txt")) << describe(mine) << '\n' << measured << '\n';
}

void Trainer::record(const StepReport& report, double seconds) {
  const int64_t sent = world_.ledger().bytes();
  StepMetrics m{.step = report.step,
                .tokens = run_->tokens(),
                .loss = report.loss,
                .grad_norm = report.grad_norm,
                .lr = report.lr};
  m.skipped = !report.applied;
  m.step_ms = seconds * 1e3;
  m.tokens_per_s = static_cast<double>(report.valid_tokens) / seconds;
  const double flops = flops_per_token(flop_shape_of(config_.model));
  m.tflops = flops * m.tokens_per_s * 1e-12;
  m.mfu = model_flops_utilization(flops, m.tokens_per_s, peak_flops_, 1);
  m.comm_bytes = static_cast<int64_t>(world_reduce(static_cast<double>(sent - comm_bytes_), Reduce::sum));
  comm_bytes_ = sent;
  const bool shown = report.step % config_.log.every == 0 || report.step == config_.train.steps;
  if (profiler_ && shown) m.profile = profiler_->take(report.step, *run_->grid().world);
  if (shown || mem_peak_ == 0)
    mem_peak_ = static_cast<int64_t>(world_reduce(static_cast<double>(peak_resident_bytes()), Reduce::max));
  m.mem_peak_bytes = mem_peak_;
  // The first step of a process pays for caches and page faults: it would spoil the estimate.
  seconds_per_step_ = seconds_per_step_ == 0 ? seconds : 0.9 * seconds_per_step_ + 0.1 * seconds;
  if (!root()) return;
  metrics_->write(m);
  if (shown) log::info(progress_line(m, config_.train.steps, seconds_per_step_));
  if (!m.profile) return;
  for (const std::string& line : describe(*m.profile)) log::info(line);
}

void Trainer::validate() {
  const EvalMetrics m{.step = run_->step(), .valid_loss = run_->evaluate()};
  if (!root()) return;
  metrics_->write(m);
  log::info(progress_line(m, config_.train.steps));
}

void Trainer::committed(const std::optional<std::string>& path) {
  if (path) log::info(build_string("checkpoint: ", *path));
}

void Trainer::save() {
  if (saved_step_ == run_->step()) return;
  committed(run_->finish_save());
  run_->save();
  saved_step_ = run_->step();
}

bool Trainer::validates_at(int64_t step) const {
  return config_.data.eval_every > 0 && (step % config_.data.eval_every == 0 || step == config_.train.steps);
}
bool Trainer::saves_at(int64_t step) const {
  return config_.checkpoint.every > 0 && step % config_.checkpoint.every == 0;
}

void Trainer::finish_steps(size_t left) {
  while (run_->in_flight() > left) {
    const StepReport report = run_->finish_step();
    const double seconds = seconds_since(step_began_);
    if (profiler_) profiler_->end_step(seconds);
    record(report, seconds);
    step_began_ = Clock::now();
    stop_ |= report.stop;
  }
}

void Trainer::one_step() {
  if (run_->in_flight() == 0) step_began_ = Clock::now();
  if (profiler_) profiler_->begin_step();
  run_->submit_step(stop_requested());
  committed(run_->poll_save());
  const int64_t step = run_->step();
  // Numbers of a step on a GPU are read while the next one runs there, except where the step must be whole.
  const bool whole = step == config_.train.steps || validates_at(step) || saves_at(step);
  finish_steps(whole || config_.device == DeviceKind::cpu ? 0 : 1);
  if (stop_) finish_steps(0);
  if (validates_at(step)) validate();
  if (saves_at(step)) save();
}

int Trainer::run() {
  start();
  measure_peak(0.2);
  if (config_.data.eval_every > 0 && run_->step() == 0) validate();
  first_step_ = run_->step();
  while (run_->step() < config_.train.steps && !stop_) {
    one_step();
    if (run_->step() == first_step_ + 1) compare_with_plan();
    if (!stop_) measure_peak_again();
  }
  save();
  committed(run_->finish_save());
  if (root()) write_report(dir_.path);
  if (run_->step() < config_.train.steps) {
    if (root()) {
      log::warn(build_string("stopped on request after step ", run_->step(), " of ", config_.train.steps,
                             "; the same command continues"));
    }
    return kExitStopped;
  }
  log::info(build_string("done: ", run_->step(), " steps, ", format_count(static_cast<double>(run_->tokens())),
                         " tokens; picture ", dir_.file("loss.svg")));
  return 0;
}

}  // namespace

int train(const Config& config, World& world, const TrainOptions& options) {
  MemoryCheck memory(config, world);
  Config settled = config;
  std::vector<std::string> notes;
  if (std::string chosen = memory.settle_recompute(settled); !chosen.empty()) notes.push_back(std::move(chosen));
  for (std::string& line : lines_of(memory.check(settled))) notes.push_back(std::move(line));
  return Trainer(settled, world, options, std::move(notes)).run();
}

}  // namespace trident
