#include "core/train/schedule.h"

#include <algorithm>
#include <climits>
#include <functional>
#include <set>

#include "core/base/error.h"
#include "schedule_simulator.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::testing;

namespace {

struct Case {
  Sched sched;
  int stages, micros, chunks;
};

/// Every pipeline of 1..8 stages, 1..32 micro-batches and 1..4 chunks that the schedules accept.
std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (int stages = 1; stages <= 8; ++stages) {
    for (int micros = 1; micros <= 32; ++micros) {
      cases.push_back({Sched::gpipe, stages, micros, 1});
      cases.push_back({Sched::one_f_one_b, stages, micros, 1});
      if (stages < 2 || micros % stages != 0) continue;
      for (int chunks = 1; chunks <= 4; ++chunks) cases.push_back({Sched::interleaved, stages, micros, chunks});
    }
  }
  return cases;
}

std::string name(const Case& c) {
  return build_string(sched_name(c.sched), " stages ", c.stages, " micros ", c.micros, " chunks ", c.chunks);
}

int promised_slots(const Case& c, int stage) {
  if (c.sched == Sched::gpipe) return c.micros;
  if (c.sched == Sched::one_f_one_b) return std::min(c.stages - stage, c.micros);
  return std::min((c.stages - stage - 1) * 2 + (c.chunks - 1) * c.stages + 1, c.micros * c.chunks);
}

/// Busy time of a stage plus the bubble, with forward 1 and backward 2: the bubble is (stages - 1) (1 + 2), which is
/// (stages - 1) / micros of the busy time, divided by chunks when interleaved (2104.04473, equations of section 2.2;
/// a chunk is 1 unit here, so a whole stage's forward is `chunks` units).
int64_t textbook_makespan(const Case& c) { return int64_t{3} * c.micros * c.chunks + 3 * (c.stages - 1); }

Simulated simulate(const Case& c, SimulatorOptions options = {}) {
  return ScheduleSimulator(all_stages(c.sched, c.stages, c.micros, c.chunks), c.micros, c.chunks, options).run();
}

template <class F>
std::string message_of_user_error(F&& f) {
  try {
    f();
  } catch (const UserError& e) {
    return e.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("every schedule is right, whole, ordered and as fast as the textbook's", "[train]") {
  const std::vector<Case> cases = all_cases();
  REQUIRE(cases.size() > 700);
  for (const Case& c : cases) {
    INFO(name(c));
    const Simulated buffered = simulate(c, {.rendezvous = false});
    const Simulated rendezvous =
        simulate(c, {.queue = sends_in_flight(c.sched, c.stages, c.micros, c.chunks), .gradient_buffers = 1});
    REQUIRE(buffered.problem == "");
    REQUIRE(rendezvous.problem == "");
    REQUIRE(buffered.makespan == textbook_makespan(c));
    REQUIRE(rendezvous.makespan == textbook_makespan(c));
    for (int stage = 0; stage < c.stages; ++stage) {
      REQUIRE(buffered.slots[stage] == promised_slots(c, stage));
      REQUIRE(schedule_slots(make_schedule(c.sched, c.stages, stage, c.micros, c.chunks)) == promised_slots(c, stage));
    }
  }
}

TEST_CASE("fewer sends in flight than promised would deadlock", "[train]") {
  int deadlocks = 0;
  for (const Case& c : all_cases()) {
    const int promised = sends_in_flight(c.sched, c.stages, c.micros, c.chunks);
    if (promised == 1) continue;
    INFO(name(c));
    REQUIRE(contains(simulate(c, {.queue = promised - 1}).problem, "deadlock"));
    ++deadlocks;
  }
  REQUIRE(deadlocks > 0);
}

TEST_CASE("a larger send queue changes nothing", "[train]") {
  for (const Case& c :
       {Case{Sched::gpipe, 4, 8, 1}, Case{Sched::one_f_one_b, 4, 8, 1}, Case{Sched::interleaved, 4, 8, 3}}) {
    for (const int queue : {2, 3, 7, INT_MAX}) {
      INFO(name(c) << " queue " << queue);
      const Simulated result = simulate(c, {.queue = queue, .gradient_buffers = 1});
      REQUIRE(result.problem == "");
      REQUIRE(result.makespan == textbook_makespan(c));
    }
  }
}

TEST_CASE("the simulator finds every kind of broken list", "[train]") {
  using Lists = std::vector<std::vector<Instr>>;
  const int stages = 3, micros = 6, chunks = 2;
  const Lists good = all_stages(Sched::interleaved, stages, micros, chunks);
  const auto find = [](std::vector<Instr>& list, Do what, int nth) {
    const auto at =
        std::find_if(list.begin(), list.end(), [&](const Instr& i) { return i.what == what && nth-- == 0; });
    REQUIRE(at != list.end());
    return at;
  };
  const auto swap = [&](std::vector<Instr>& list, Do one, int nth, Do other, int mth) {
    std::iter_swap(find(list, one, nth), find(list, other, mth));
  };
  const auto expect = [&](const std::string& part, const std::function<void(Lists&)>& damage) {
    Lists lists = good;
    damage(lists);
    const std::string problem = ScheduleSimulator(lists, micros, chunks).run().problem;
    INFO("wanted: " << part << "; found: " << problem);
    CHECK(contains(problem, part));
  };
  REQUIRE(ScheduleSimulator(good, micros, chunks).run().problem == "");
  using enum Do;
  expect("before its forward", [&](Lists& l) { l[1].erase(find(l[1], forward, 2)); });
  expect("before its backward", [&](Lists& l) { l[1].erase(find(l[1], backward, 0)); });
  expect("before its load_batch", [&](Lists& l) { l[0].erase(find(l[0], load_batch, 1)); });
  expect("the next message is send_activation micro 1", [&](Lists& l) { l[1].erase(find(l[1], send_activation, 0)); });
  expect("the slot still holds", [&](Lists& l) { l[1].erase(find(l[1], send_gradient, 1)); });
  expect("done twice", [&](Lists& l) { l[1].insert(find(l[1], forward, 1), *find(l[1], forward, 0)); });
  expect("before its forward", [&](Lists& l) { swap(l[0], send_activation, 0, send_activation, 1); });
  expect("the next message is", [&](Lists& l) { swap(l[2], recv_activation, 1, recv_activation, 2); });
  expect("recv_gradient micro 0 chunk 1 slot 3: deadlock", [&](Lists& l) { swap(l[0], recv_gradient, 0, forward, 0); });
  expect("not in its slot", [&](Lists& l) { find(l[1], forward, 0)->slot = 1; });
  expect("no such micro-batch", [&](Lists& l) { find(l[1], forward, 0)->micro = 6; });
  expect("deadlock", [&](Lists& l) { l[1].resize(l[1].size() - 2); });
  expect("never done", [&](Lists& l) { l[0].clear(); });
  expect("needs no tokens", [&](Lists& l) { find(l[1], recv_activation, 0)->what = load_batch; });
  expect("the last chunk has no output", [&](Lists& l) {
    l[2].insert(find(l[2], backward, 0), {send_activation, 0, 1, find(l[2], backward, 0)->slot});
  });
  expect("the first chunk sends no gradient", [&](Lists& l) { l[0].push_back({send_gradient, 5, 0, 0}); });
  expect("recv_activation micro 0 chunk 0 slot 0: deadlock", [&](Lists& l) { l[0][0].what = recv_activation; });
  expect("not dense", [&](Lists& l) {
    for (Instr& i : l[0]) i.slot = static_cast<int16_t>(i.slot + 1);
  });
}

TEST_CASE("the simulator finds backwards in another order and stages that wait for each other", "[train]") {
  using enum Do;
  const std::vector<Instr> descending = {{load_batch, 0, 0, 0}, {forward, 0, 0, 0},  {load_batch, 1, 0, 1},
                                         {forward, 1, 0, 1},    {backward, 1, 0, 1}, {backward, 0, 0, 0}};
  REQUIRE(contains(ScheduleSimulator({descending}, 2, 1).run().problem, "backward follows micro -1"));
  // Both stages want the other's message before they send theirs.
  const std::vector<Instr> first = {{load_batch, 0, 0, 0},
                                    {forward, 0, 0, 0},
                                    {recv_gradient, 0, 0, 0},
                                    {backward, 0, 0, 0},
                                    {send_activation, 0, 0, 0}};
  const std::vector<Instr> last = make_schedule(Sched::gpipe, 2, 1, 1, 1);
  REQUIRE(
      contains(ScheduleSimulator({first, last}, 1, 1).run().problem, "recv_gradient micro 0 chunk 0 slot 0: deadlock"));
}

TEST_CASE("gradients that stay in their slot deadlock the interleaved schedule", "[train]") {
  // Why the header asks for a buffer apart. Stage 0 has sent B(0, chunk 1) and takes its slot for F(3, chunk 0); stage
  // 1 has sent B(1, chunk 1) and takes its slot for F(2, chunk 0). Each receives the other's gradient only after that.
  const Case c{Sched::interleaved, 2, 4, 2};
  REQUIRE(simulate(c, {.gradient_buffers = 1}).problem == "");
  REQUIRE(contains(simulate(c, {.gradients_in_slots = true}).problem, "load_batch micro 3 chunk 0 slot 2: deadlock"));
}

TEST_CASE("1f1b written out for three stages and four micro-batches", "[train]") {
  using enum Do;
  const std::vector<Instr> last = make_schedule(Sched::one_f_one_b, 3, 2, 2, 1);
  REQUIRE(last == std::vector<Instr>{{load_batch, 0, 0, 0},
                                     {recv_activation, 0, 0, 0},
                                     {forward, 0, 0, 0},
                                     {backward, 0, 0, 0},
                                     {send_gradient, 0, 0, 0},
                                     {load_batch, 1, 0, 0},
                                     {recv_activation, 1, 0, 0},
                                     {forward, 1, 0, 0},
                                     {backward, 1, 0, 0},
                                     {send_gradient, 1, 0, 0}});
  const std::vector<Instr> first = make_schedule(Sched::one_f_one_b, 3, 0, 2, 1);
  REQUIRE(first == std::vector<Instr>{{load_batch, 0, 0, 0},
                                      {forward, 0, 0, 0},
                                      {send_activation, 0, 0, 0},
                                      {load_batch, 1, 0, 1},
                                      {forward, 1, 0, 1},
                                      {send_activation, 1, 0, 1},
                                      {recv_gradient, 0, 0, 0},
                                      {backward, 0, 0, 0},
                                      {recv_gradient, 1, 0, 1},
                                      {backward, 1, 0, 1}});
  const std::vector<Instr> alone = make_schedule(Sched::one_f_one_b, 1, 0, 2, 1);
  REQUIRE(alone == std::vector<Instr>{{load_batch, 0, 0, 0},
                                      {forward, 0, 0, 0},
                                      {backward, 0, 0, 0},
                                      {load_batch, 1, 0, 0},
                                      {forward, 1, 0, 0},
                                      {backward, 1, 0, 0}});
}

TEST_CASE("both ends of a message agree, and tags stay within what MPI guarantees", "[train]") {
  // Stage 2 of 3, chunk 0 is model chunk 2; its output crosses boundary 2 to model chunk 3 = stage 0, chunk 1.
  const Message sent = message_of({Do::send_activation, 5, 0, 0}, 3, 2);
  const Message received = message_of({Do::recv_activation, 5, 1, 0}, 3, 0);
  REQUIRE(sent == Message{0, 2, message_tag(5, 2, false)});
  REQUIRE(received == Message{2, 2, sent.tag});
  const Message gradient_sent = message_of({Do::send_gradient, 5, 1, 0}, 3, 0);
  const Message gradient_received = message_of({Do::recv_gradient, 5, 0, 0}, 3, 2);
  REQUIRE(gradient_sent == Message{2, 2, message_tag(5, 2, true)});
  REQUIRE(gradient_received == Message{0, 2, gradient_sent.tag});
  std::set<int> tags;
  for (int micro = 0; micro < 64; ++micro) {
    for (int boundary = 0; boundary < 256; ++boundary) {
      for (const bool gradient : {false, true}) tags.insert(message_tag(micro, boundary, gradient));
    }
  }
  REQUIRE(tags.size() == 64 * 256 * 2);
  REQUIRE(*tags.begin() == 0);
  REQUIRE(*tags.rbegin() == 32767);
  REQUIRE(message_tag(32767, 1000, true) <= 32767);
  REQUIRE_THROWS_AS(message_of({Do::forward, 0, 0, 0}, 3, 0), InternalError);
}

TEST_CASE("a schedule that cannot be is refused with the nearest that can", "[train]") {
  const auto refused = [](Sched sched, int stages, int micros, int chunks) {
    return message_of_user_error([&] { make_schedule(sched, stages, 0, micros, chunks); });
  };
  CHECK(contains(refused(Sched::interleaved, 4, 10, 2), "the nearest are 8 and 12"));
  CHECK(contains(refused(Sched::interleaved, 4, 3, 2), "the nearest are 4"));
  CHECK(contains(refused(Sched::interleaved, 1, 4, 2), "parallel.schedule: 1f1b"));
  CHECK(contains(refused(Sched::one_f_one_b, 4, 4, 2), "parallel.virtual_stages: 1"));
  CHECK(contains(refused(Sched::gpipe, 4, 4, 3), "gpipe over 4 stages"));
  CHECK(contains(refused(Sched::interleaved, 4, 16384, 2), "at most 16383"));
  REQUIRE_THROWS_AS(make_schedule(Sched::gpipe, 4, 4, 4, 1), InternalError);
  REQUIRE_THROWS_AS(make_schedule(Sched::gpipe, 4, 0, 0, 1), InternalError);
  REQUIRE(make_schedule(Sched::gpipe, 1, 0, 32767, 1).size() == 3 * 32767);
}

TEST_CASE("an instruction describes itself", "[train]") {
  REQUIRE(describe({Do::recv_gradient, 3, 1, 2}) == "recv_gradient micro 3 chunk 1 slot 2");
  REQUIRE(sched_name(Sched::interleaved) == "interleaved");
}
