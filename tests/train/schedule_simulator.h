// Executes the instruction lists of all stages of a pipeline and finds every way in which they could be wrong: a piece
// of work missing, doubled or before its input, a message that does not match, a deadlock, a slot used by two.
//
// Model of time: a forward takes 1 unit, a backward 2, everything else nothing. A stage works off its list in order.
// A receive blocks the stage. Sends go into the stage's queue, which holds `queue` of them: one more blocks the stage
// until the oldest has left. With `rendezvous` a send leaves when its receiver asks for it (the worst that MPI may do),
// without it at once; either way strictly one after the other (one send stream). A backward that makes a gradient to
// send waits until one of the `gradient_buffers` is free; with `gradients_in_slots` it is the next tenant of the slot
// that waits instead.
#pragma once

#include <algorithm>
#include <climits>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "core/base/error.h"
#include "core/train/schedule.h"

namespace trident::testing {

struct SimulatorOptions {
  int queue = INT_MAX, gradient_buffers = INT_MAX;
  bool rendezvous = true, gradients_in_slots = false;
};

struct Simulated {
  std::string problem;     ///< the first thing that is wrong; empty when all is well
  int64_t makespan = 0;    ///< when the last stage is done
  std::vector<int> slots;  ///< slots in use at once, at most, for each stage
};

class ScheduleSimulator {
 public:
  ScheduleSimulator(std::vector<std::vector<Instr>> lists, int micros, int chunks, SimulatorOptions options = {})
      : lists_(std::move(lists)), micros_(micros), chunks_(chunks), options_(options), stages_(lists_.size()) {}

  Simulated run() {
    bool progress = true;
    while (progress && problem_.empty()) {
      progress = false;
      for (int s = 0; s < count(); ++s) {
        while (problem_.empty() && step(s)) progress = true;
      }
    }
    for (int s = 0; s < count() && problem_.empty(); ++s) check_end(s);
    Simulated result{problem_, 0, {}};
    for (const Stage& stage : stages_) {
      result.makespan = std::max(result.makespan, stage.now);
      result.slots.push_back(stage.most_slots);
    }
    return result;
  }

 private:
  struct Send {
    Instr instr;
    Message to;
    int64_t ready;      ///< when it joined the queue
    int64_t left = -1;  ///< when it was received; -1 = still waiting
  };
  struct Stage {
    size_t next = 0;  ///< the instruction to do now
    int64_t now = 0;
    std::vector<Send> sends;
    std::vector<size_t> gradients;             ///< which of the sends are gradients
    std::map<int, std::pair<int, int>> slots;  ///< slot -> the (micro, chunk) that lives there
    std::set<std::tuple<Do, int, int>> done;   ///< (what, micro, chunk)
    std::map<int, int> last_backward;          ///< chunk -> micro, for the ascending order
    int most_slots = 0;
  };

  int count() const { return static_cast<int>(lists_.size()); }
  bool first(int s, int chunk) const { return chunk_of(count(), s, chunk) == 0; }
  bool last(int s, int chunk) const { return chunk_of(count(), s, chunk) == count() * chunks_ - 1; }

  void fail(int s, const Instr& instr, const std::string& what) {
    if (problem_.empty()) problem_ = build_string("stage ", s, ", ", describe(instr), ": ", what);
  }
  bool did(int s, Do what, const Instr& i) const { return stages_[s].done.count({what, i.micro, i.chunk}) > 0; }

  /// Does the stage's next instruction; false when it has to wait or the list is at its end.
  bool step(int s) {
    Stage& stage = stages_[s];
    if (stage.next == lists_[s].size()) return false;
    const Instr instr = lists_[s][stage.next];
    if (instr.micro < 0 || instr.micro >= micros_ || instr.chunk < 0 || instr.chunk >= chunks_) {
      fail(s, instr, "no such micro-batch or chunk");
      return false;
    }
    const bool sends = instr.what == Do::send_activation || instr.what == Do::send_gradient;
    const bool receives = instr.what == Do::recv_activation || instr.what == Do::recv_gradient;
    if (!gradient_gone(s, instr)) return false;
    if (sends && !enqueue(s, instr)) return false;
    if (receives && !receive(s, instr)) return false;
    check_order(s, instr);
    live(s, instr);
    if (!stage.done.insert({instr.what, instr.micro, instr.chunk}).second) fail(s, instr, "done twice");
    stage.now += instr.what == Do::forward ? 1 : instr.what == Do::backward ? 2 : 0;
    ++stage.next;
    return true;
  }

  bool starts(int s, const Instr& i) const {
    return i.what == Do::load_batch || (i.what == Do::recv_activation && !last(s, i.chunk));
  }

  /// Whether the gradient that this instruction would overwrite has left.
  bool gradient_gone(int s, const Instr& instr) {
    Stage& stage = stages_[s];
    const auto oldest = static_cast<int64_t>(stage.gradients.size()) - options_.gradient_buffers;
    const Send* send = nullptr;
    if (options_.gradients_in_slots) {
      if (!starts(s, instr)) return true;
      for (const size_t k : stage.gradients) {
        if (stage.sends[k].instr.slot == instr.slot) send = &stage.sends[k];
      }
    } else if (instr.what == Do::backward && !first(s, instr.chunk) && oldest >= 0) {
      send = &stage.sends[stage.gradients[oldest]];
    }
    if (send == nullptr || !options_.rendezvous) return true;
    if (send->left >= 0) stage.now = std::max(stage.now, send->left);
    return send->left >= 0;
  }

  bool enqueue(int s, const Instr& instr) {
    Stage& stage = stages_[s];
    const auto oldest = static_cast<int64_t>(stage.sends.size()) - options_.queue;  // this one must have left by now
    if (options_.rendezvous && oldest >= 0) {
      if (stage.sends[oldest].left < 0) return false;
      stage.now = std::max(stage.now, stage.sends[oldest].left);
    }
    if (instr.what == Do::send_gradient) stage.gradients.push_back(stage.sends.size());
    stage.sends.push_back({instr, message_of(instr, count(), s), stage.now});
    return true;
  }

  bool receive(int s, const Instr& instr) {
    const Message from = message_of(instr, count(), s);
    const bool gradient = instr.what == Do::recv_gradient;
    Stage& peer = stages_[from.stage];
    int64_t before = 0;  // when the send ahead of it left
    for (Send& send : peer.sends) {
      const bool same_kind = (send.instr.what == Do::send_gradient) == gradient;
      if (send.left < 0 && same_kind && send.to.stage == s) {
        if (send.instr.micro != instr.micro || send.to.boundary != from.boundary || send.to.tag != from.tag) {
          fail(s, instr, build_string("the next message is ", describe(send.instr)));
          return false;
        }
        const int64_t start = std::max(send.ready, before);
        send.left = options_.rendezvous ? std::max(start, stages_[s].now) : start;
        stages_[s].now = std::max(stages_[s].now, send.left);
        return true;
      }
      if (options_.rendezvous) {
        if (send.left < 0) return false;  // another message is at the head of the queue
        before = send.left;
      }
    }
    return false;
  }

  /// Every piece of work comes after what it needs on its own stage (the other stages' part comes in messages).
  void check_order(int s, const Instr& i) {
    const auto need = [&](Do what) {
      if (!did(s, what, i)) fail(s, i, build_string("before its ", describe({what, i.micro, i.chunk, i.slot})));
    };
    const bool is_first = first(s, i.chunk), is_last = last(s, i.chunk);
    switch (i.what) {
      case Do::load_batch:
        if (!is_first && !is_last) fail(s, i, "this chunk needs no tokens");
        break;
      case Do::forward:
        if (is_first || is_last) need(Do::load_batch);
        if (!is_first) need(Do::recv_activation);
        break;
      case Do::send_activation:
        if (is_last) fail(s, i, "the last chunk has no output");
        need(Do::forward);
        break;
      case Do::recv_activation: break;  // on a first chunk it waits forever, as a last chunk's recv_gradient does
      case Do::recv_gradient: need(Do::send_activation); break;
      case Do::backward: {
        need(is_last ? Do::forward : Do::recv_gradient);
        const auto [at, inserted] = stages_[s].last_backward.try_emplace(i.chunk, -1);
        if (i.micro != at->second + 1) fail(s, i, build_string("backward follows micro ", at->second));
        at->second = i.micro;
        break;
      }
      case Do::send_gradient:
        if (is_first) fail(s, i, "the first chunk sends no gradient");
        need(Do::backward);
        break;
    }
  }

  /// A slot belongs to one (micro, chunk) from its first to its last instruction.
  void live(int s, const Instr& i) {
    Stage& stage = stages_[s];
    const std::pair<int, int> who{i.micro, i.chunk};
    const auto at = stage.slots.find(i.slot);
    if (starts(s, i)) {
      if (at != stage.slots.end()) fail(s, i, build_string("the slot still holds micro ", at->second.first));
      stage.slots[i.slot] = who;
    } else if (at == stage.slots.end() || at->second != who) {
      fail(s, i, "not in its slot");
    }
    stage.most_slots = std::max(stage.most_slots, static_cast<int>(stage.slots.size()));
    if (i.slot < 0 || i.slot >= stage.most_slots) fail(s, i, "slot ids are not dense");
    if (i.what == (first(s, i.chunk) ? Do::backward : Do::send_gradient)) stage.slots.erase(i.slot);
  }

  void check_end(int s) {
    const Stage& stage = stages_[s];
    if (stage.next < lists_[s].size()) return fail(s, lists_[s][stage.next], "deadlock");
    for (int micro = 0; micro < micros_; ++micro) {
      for (int chunk = 0; chunk < chunks_; ++chunk) {
        const Instr i{Do::forward, static_cast<int16_t>(micro), static_cast<int16_t>(chunk), 0};
        if (!did(s, Do::forward, i) || !did(s, Do::backward, i)) fail(s, i, "never done, forward or backward");
      }
    }
  }

  std::vector<std::vector<Instr>> lists_;
  int micros_, chunks_;
  SimulatorOptions options_;
  std::vector<Stage> stages_;
  std::string problem_;
};

inline std::vector<std::vector<Instr>> all_stages(Sched sched, int stages, int micros, int chunks) {
  std::vector<std::vector<Instr>> lists;
  for (int stage = 0; stage < stages; ++stage) lists.push_back(make_schedule(sched, stages, stage, micros, chunks));
  return lists;
}

}  // namespace trident::testing
