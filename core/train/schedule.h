// The pipeline schedule as pure data: one list of instructions per stage, which the executor obeys and the planner
// times. Nothing here touches a tensor, a stream or a rank.
//
// Words: `stages` ranks form one pipeline. Each holds `chunks` pieces of the model; chunk c of stage s is *model chunk*
// c * stages + s, so that with several chunks the model winds round the pipeline (Narayanan et al., "Efficient
// large-scale language model training on GPU clusters", arXiv 2104.04473, section 2.2). *Boundary* b lies between model
// chunks b and b + 1; one activation per micro-batch crosses it downwards and one gradient upwards.
//
// Contract with the executor:
// - Instructions run in order on the compute stream. A receive blocks the compute stream; a send is queued on the send
//   stream and does not. Between two stages and per kind (activation, gradient) messages are received in the order
//   sent.
// - One send stream is enough, even when it works strictly in order with a rendezvous for every message. Its queue must
//   hold sends_in_flight() messages; with fewer, the interleaved schedule deadlocks.
// - One buffer for the gradient that is sent back is enough: a backward waits until the last send_gradient has left.
//   (Kept in the slot and waited for when the slot is taken again, it makes the interleaved schedule deadlock.)
// - An output needs no wait: its gradient has come back, so it has been received, before its slot is taken again.
//   tests/train/schedule_test.cpp proves all this. Nothing in it depends on how long anything takes: every wait is for
//   one given event, so an order that passes once always passes.
// - Backward runs micro-batches in ascending order for every chunk in every schedule, so gradients accumulate in the
//   same order and schedules are equal bit for bit.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trident {

enum class Do : uint8_t {
  load_batch,
  recv_activation,
  forward,
  send_activation,
  recv_gradient,
  backward,
  send_gradient
};

/// One step of one stage. `slot` is the home of what (micro, chunk) keeps from its first to its last instruction:
/// tokens and targets, the received input, saved activations, the output.
struct Instr {
  Do what;
  int16_t micro, chunk, slot;
  bool operator==(const Instr&) const = default;
};

/// gpipe: all forwards, then all backwards (Huang et al., arXiv 1811.06965; backwards ascending here).
/// one_f_one_b: PipeDream-flush (arXiv 2006.09503; 2104.04473 section 2.2.1): min(stages - stage - 1, micros) warm-up
///   forwards, then one forward and one backward in turn, then the remaining backwards.
/// interleaved: the same over chunks (2104.04473 section 2.2.2): micro-batches go in groups of `stages` through each
///   chunk; min((stages - stage - 1) * 2 + (chunks - 1) * stages, micros * chunks) warm-up forwards.
enum class Sched : uint8_t { gpipe, one_f_one_b, interleaved };

/// "gpipe", "1f1b", "interleaved": the names of the config.
std::string_view sched_name(Sched);

/// The instructions of `stage` for one training step of `micros` micro-batches.
/// Model chunk 0 loads tokens instead of receiving; the last model chunk loads targets, computes the loss, and neither
/// sends an activation nor receives a gradient. There is one load_batch per (micro, chunk) that needs tokens, targets
/// or (one model chunk in all) both. With one stage nothing is sent.
/// Throws UserError, with the nearest legal values, unless: gpipe and one_f_one_b have one chunk; interleaved has at
/// least two stages and micros % stages == 0; micros * chunks <= 32767.
std::vector<Instr> make_schedule(Sched, int stages, int stage, int micros, int chunks);

/// Slots that a list uses at once: ids are 0 .. schedule_slots() - 1, and the lowest free one is always taken.
/// A slot is free after its backward and, where there is one, its send_gradient. The counts are gpipe: micros;
/// one_f_one_b: min(stages - stage, micros); interleaved: min((stages - stage - 1) * 2 + (chunks - 1) * stages + 1,
/// micros * chunks).
int schedule_slots(std::span<const Instr>);

/// Sends that every stage must be able to have queued, not yet received, at once: 2 when several chunks wind round the
/// pipeline more than once (interleaved, chunks > 1, micros > stages), else 1. Then a rendezvous for every message
/// costs no time either: the makespan is the textbook's. A larger queue does no harm.
int sends_in_flight(Sched, int stages, int micros, int chunks);

/// The model chunk that chunk `chunk` of `stage` is.
constexpr int chunk_of(int stages, int stage, int chunk) { return chunk * stages + stage; }
/// The stage that holds the next model chunk (the last stage wraps round to the first), and the previous one.
constexpr int next_stage(int stages, int stage) { return (stage + 1) % stages; }
constexpr int previous_stage(int stages, int stage) { return (stage + stages - 1) % stages; }

/// Tag of the message of `micro` across `boundary`. In 0 .. 32767, which MPI guarantees, so micro wraps at 64 and
/// boundary at 256: safe, because messages between two ranks keep their order and are received in the order sent.
constexpr int message_tag(int micro, int boundary, bool gradient) {
  return ((micro % 64) * 256 + boundary % 256) * 2 + (gradient ? 1 : 0);
}

/// Where a send or receive goes: the other stage, and the tag both ends use.
struct Message {
  int stage, boundary, tag;
  bool operator==(const Message&) const = default;
};

/// The message of a send or receive of `stage`. Throws InternalError for another instruction.
Message message_of(const Instr&, int stages, int stage);

/// "forward micro 3 chunk 0 slot 1", for traces and messages.
std::string describe(const Instr&);

}  // namespace trident
