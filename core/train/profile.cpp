#include "core/train/profile.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "core/base/error.h"
#include "core/base/format.h"

namespace trident {
namespace {

using trace::Activity;

/// Names of lines in their order, and the activities that each sums up.
struct Row {
  const char* name;
  const char* text;
  Activity first, last;
};
constexpr Row row(const char* name, const char* text, Activity one) { return {name, text, one, one}; }
constexpr std::array kRows = {
    Row{"gemm", "gemm", Activity::gemm_qkv, Activity::gemm_other},
    row("gemm.qkv", "  qkv", Activity::gemm_qkv),
    row("gemm.out", "  out", Activity::gemm_out),
    row("gemm.up", "  up", Activity::gemm_up),
    row("gemm.down", "  down", Activity::gemm_down),
    row("gemm.head", "  head", Activity::gemm_head),
    row("gemm.other", "  other", Activity::gemm_other),
    row("attention", "attention", Activity::attention),
    row("norm", "norm", Activity::norm),
    row("activation", "activation", Activity::activation),
    row("pointwise", "residual, dropout, bias, rope", Activity::pointwise),
    row("embedding", "embedding", Activity::embedding),
    row("loss", "loss", Activity::loss),
    row("optimizer", "optimizer", Activity::optimizer),
    row("copy", "copies, zeroing", Activity::copy),
    row("comm_tensor", "waiting: tensor ranks", Activity::comm_tensor),
    row("comm_pipeline", "waiting: pipeline", Activity::comm_pipeline),
    row("comm_data", "waiting: data ranks", Activity::comm_data),
    row("comm_world", "waiting: all ranks", Activity::comm_world),
    row("offload", "waiting: offload", Activity::offload),
    row("data", "data loading", Activity::data),
    row("host", "between operations", Activity::host),
};

/// Milliseconds of a row, of times by activity.
double of_row(const Row& r, std::span<const double> times_A) {
  double sum = 0;
  for (auto a = static_cast<size_t>(r.first); a <= static_cast<size_t>(r.last); ++a) sum += times_A[a];
  return sum;
}

const char* text_of(const std::string& name) {
  return std::find_if(kRows.begin(), kRows.end(), [&](const Row& r) { return r.name == name; })->text;
}

std::string fixed(double x, int decimals, size_t width) { return pad_left(format_fixed(x, decimals), width); }

std::string columns(const std::string& text, double ms, double step_ms) {
  return pad_right(text, 32) + fixed(ms, 2, 10) + fixed(100 * ms / step_ms, 1, 8) + "%";
}

}  // namespace

Activity activity_of(Op op, Activity product) {
  switch (op) {
    case Op::gemm: return product;
    case Op::attention_forward:
    case Op::attention_backward: return Activity::attention;
    case Op::norm_forward:
    case Op::norm_backward: return Activity::norm;
    case Op::activation_forward:
    case Op::activation_backward: return Activity::activation;
    case Op::rope:
    case Op::dropout_add:
    case Op::dropout_backward:
    case Op::bias_backward:
    case Op::bias_add:
    case Op::add:
    case Op::scale: return Activity::pointwise;
    case Op::embedding_forward:
    case Op::embedding_backward:
    case Op::position_forward:
    case Op::position_backward: return Activity::embedding;
    case Op::softmax_max:
    case Op::softmax_sum:
    case Op::softmax_loss:
    case Op::sum: return Activity::loss;
    case Op::adamw:
    case Op::step_sums:
    case Op::step_control:
    case Op::sum_squares: return Activity::optimizer;
  }
  ensure(false, "every operation has an activity");
  return {};
}

void OpTracer::begin(const OpCall& call) {
  if (trace::recorder == nullptr) return;
  trace::recorder->enter(activity_of(call.op, trace::recorder->product()), call.work);
}
void OpTracer::end() {
  if (trace::recorder != nullptr) trace::recorder->leave();
}

void Profiler::end_step(double seconds) {
  recorder_.stop();
  ++steps_;
  seconds_ += seconds;
}

StepProfile Profiler::take(int64_t last_step, Communicator& world) {
  ensure(steps_ > 0, "a profile is of one step at least");
  const double in_ms = 1e3 / static_cast<double>(steps_);
  std::array<double, trace::kActivities> mine{};
  for (size_t a = 0; a < mine.size(); ++a) mine[a] = recorder_[static_cast<Activity>(a)].seconds * in_ms;
  std::vector<std::array<double, trace::kActivities>> ranks;
  for (const auto& bytes : world.all_gather_bytes(std::as_bytes(std::span(mine)))) {
    std::memcpy(&ranks.emplace_back(), bytes.data(), sizeof mine);
  }
  StepProfile profile{.last_step = last_step,
                      .steps = steps_,
                      .ranks = static_cast<int64_t>(ranks.size()),
                      .step_ms = seconds_ * in_ms};
  for (const Row& r : kRows) {
    StepProfile::Line line{.name = r.name, .ms = of_row(r, mine), .least_ms = of_row(r, ranks.front())};
    for (const auto& theirs : ranks) {
      line.least_ms = std::min(line.least_ms, of_row(r, theirs));
      line.most_ms = std::max(line.most_ms, of_row(r, theirs));
    }
    for (auto a = static_cast<size_t>(r.first); a <= static_cast<size_t>(r.last); ++a) {
      line.work.flops += recorder_[static_cast<Activity>(a)].work.flops / static_cast<double>(steps_);
      line.work.bytes += recorder_[static_cast<Activity>(a)].work.bytes / static_cast<double>(steps_);
    }
    if (line.most_ms > 0) profile.lines.push_back(std::move(line));
  }
  recorder_.clear();
  steps_ = 0;
  seconds_ = 0;
  return profile;
}

std::vector<std::string> describe(const StepProfile& p) {
  const int64_t first = p.last_step - p.steps + 1;
  std::vector<std::string> lines = {
      pad_right(build_string("profile of step", first == p.last_step ? "" : build_string("s ", first, " to"), " ",
                             p.last_step),
                32) +
      " ms a step    share" + (p.ranks > 1 ? build_string("  on rank 0 of ", p.ranks) : "")};
  for (const StepProfile::Line& line : p.lines) {
    std::string text = columns(text_of(line.name), line.ms, p.step_ms);
    if (line.rated()) text += fixed(line.rate() * 1e-9, 1, 10) + (line.work.flops > 0 ? " GFLOP/s" : " GB/s   ");
    if (p.ranks > 1) {
      text +=
          pad_right("", line.rated() ? 0 : 18) + fixed(line.least_ms, 2, 12) + " to " + format_fixed(line.most_ms, 2);
    }
    lines.push_back(std::move(text));
  }
  lines.push_back(columns("step", p.step_ms, p.step_ms));
  return lines;
}

}  // namespace trident
