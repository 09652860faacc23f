#include "core/train/schedule.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"

namespace trident {
namespace {

struct Work {  // one forward or backward, before its messages and slot are added
  int micro, chunk;
};

/// The k-th forward (backward) of a stage. Micro-batches go through a chunk in groups of `stages`; with one chunk that
/// is simply ascending. Backward takes the chunks of a group from the last to the first.
Work work_at(int k, int stages, int chunks, bool backward) {
  if (chunks == 1) return {k, 0};
  const int group = k / (stages * chunks), within = k % (stages * chunks);
  const int chunk = within / stages;
  return {group * stages + within % stages, backward ? chunks - 1 - chunk : chunk};
}

int warmup_forwards(Sched sched, int stages, int stage, int micros, int chunks) {
  switch (sched) {
    case Sched::gpipe: return micros;
    case Sched::one_f_one_b: return std::min(stages - stage - 1, micros);
    case Sched::interleaved: return std::min((stages - stage - 1) * 2 + (chunks - 1) * stages, micros * chunks);
  }
  return 0;
}

void check(Sched sched, int stages, int stage, int micros, int chunks) {
  ensure(stages >= 1 && stage >= 0 && stage < stages && micros >= 1 && chunks >= 1, "a schedule's counts are positive");
  const auto refuse = [&](const auto&... why) {
    throw UserError(build_string("schedule ", sched_name(sched), " over ", stages, " stages, ", micros,
                                 " micro-batches, ", chunks, " chunks: ", why...));
  };
  if (micros > 32767 / chunks) {
    refuse("more than 32767 forward passes in a step; raise train.micro_batch or parallel.data so that at most ",
           32767 / chunks, " micro-batches remain");
  }
  if (sched != Sched::interleaved) {
    if (chunks != 1)
      refuse("only interleaved has several chunks; set parallel.virtual_stages: 1 or schedule: interleaved");
    return;
  }
  if (stages < 2) refuse("interleaved needs at least 2 stages; set parallel.schedule: 1f1b");
  if (micros % stages != 0) {
    const int below = micros / stages * stages;
    refuse("interleaved needs a multiple of ", stages, " micro-batches; the nearest are ",
           below > 0 ? build_string(below, " and ") : std::string(), below + stages,
           " (change train.global_batch or train.micro_batch)");
  }
}

/// Writes the list, adding messages round each piece of work and giving out slots.
class Writer {
 public:
  Writer(int stages, int stage, int micros, int chunks)
      : stages_(stages), stage_(stage), chunks_(chunks), slot_of_(static_cast<size_t>(micros * chunks), -1) {}

  void forward(Work w) {
    int16_t& slot = slot_of(w);
    slot = take();
    const bool first = is_first(w), last = is_last(w);
    if (first || last) add(Do::load_batch, w);
    if (!first) add(Do::recv_activation, w);
    add(Do::forward, w);
    if (!last) add(Do::send_activation, w);
  }

  void backward(Work w) {
    if (!is_last(w)) add(Do::recv_gradient, w);
    add(Do::backward, w);
    if (!is_first(w)) add(Do::send_gradient, w);
    used_[static_cast<size_t>(slot_of(w))] = false;
  }

  std::vector<Instr> take_list() { return std::move(list_); }

 private:
  bool is_first(Work w) const { return chunk_of(stages_, stage_, w.chunk) == 0; }
  bool is_last(Work w) const { return chunk_of(stages_, stage_, w.chunk) == stages_ * chunks_ - 1; }
  int16_t& slot_of(Work w) { return slot_of_[static_cast<size_t>(w.micro * chunks_ + w.chunk)]; }

  int16_t take() {
    const auto free = std::find(used_.begin(), used_.end(), false);
    const auto slot = static_cast<int16_t>(free - used_.begin());
    if (free == used_.end()) used_.push_back(true);
    used_[static_cast<size_t>(slot)] = true;
    return slot;
  }

  void add(Do what, Work w) {
    list_.push_back({what, static_cast<int16_t>(w.micro), static_cast<int16_t>(w.chunk), slot_of(w)});
  }

  int stages_, stage_, chunks_;
  std::vector<int16_t> slot_of_;
  std::vector<bool> used_;
  std::vector<Instr> list_;
};

}  // namespace

std::string_view sched_name(Sched sched) {
  switch (sched) {
    case Sched::gpipe: return "gpipe";
    case Sched::one_f_one_b: return "1f1b";
    case Sched::interleaved: return "interleaved";
  }
  return "?";
}

std::vector<Instr> make_schedule(Sched sched, int stages, int stage, int micros, int chunks) {
  check(sched, stages, stage, micros, chunks);
  const int total = micros * chunks;
  const int warmup = warmup_forwards(sched, stages, stage, micros, chunks);
  Writer writer(stages, stage, micros, chunks);
  for (int k = 0; k < warmup; ++k) writer.forward(work_at(k, stages, chunks, false));
  for (int k = warmup; k < total; ++k) {
    writer.forward(work_at(k, stages, chunks, false));
    writer.backward(work_at(k - warmup, stages, chunks, true));
  }
  for (int k = total - warmup; k < total; ++k) writer.backward(work_at(k, stages, chunks, true));
  return writer.take_list();
}

int schedule_slots(std::span<const Instr> list) {
  int slots = 0;
  for (const Instr& instr : list) slots = std::max(slots, instr.slot + 1);
  return slots;
}

int sends_in_flight(Sched sched, int stages, int micros, int chunks) {
  return sched == Sched::interleaved && chunks > 1 && micros > stages ? 2 : 1;
}

Message message_of(const Instr& instr, int stages, int stage) {
  const int mine = chunk_of(stages, stage, instr.chunk);
  const auto make = [&](int peer, int boundary, bool gradient) {
    return Message{peer, boundary, message_tag(instr.micro, boundary, gradient)};
  };
  switch (instr.what) {
    case Do::send_activation: return make(next_stage(stages, stage), mine, false);
    case Do::recv_activation: return make(previous_stage(stages, stage), mine - 1, false);
    case Do::recv_gradient: return make(next_stage(stages, stage), mine, true);
    case Do::send_gradient: return make(previous_stage(stages, stage), mine - 1, true);
    default: ensure(false, "only sends and receives are messages"); return {};
  }
}

std::string describe(const Instr& instr) {
  constexpr std::string_view kNames[] = {"load_batch",    "recv_activation", "forward",      "send_activation",
                                         "recv_gradient", "backward",        "send_gradient"};
  return build_string(kNames[static_cast<size_t>(instr.what)], " micro ", instr.micro, " chunk ", instr.chunk, " slot ",
                      instr.slot);
}

}  // namespace trident
