#include "core/device/host_stream.h"

#include <atomic>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "core/device/device.h"
#include "support/catch.h"

using namespace trident;

namespace {

/// A gate that a test opens by hand: order is proved by what has happened, never by time.
class Gate {
 public:
  void open() { open_ = true; }
  void pass() const {
    while (!open_) std::this_thread::yield();
  }

 private:
  std::atomic<bool> open_{false};
};

}  // namespace

TEST_CASE("work in place runs in the caller before submit returns") {
  HostStream stream(HostStream::Mode::in_place);
  std::thread::id ran_in;
  submit(stream.handle(), [&] { ran_in = std::this_thread::get_id(); });
  CHECK(ran_in == std::this_thread::get_id());
  CHECK_THROWS_AS(submit(stream.handle(), [] { throw RunError("full"); }), RunError);
  CHECK_NOTHROW(stream.wait_for(stream.last_ticket()));  // it came out already
}

TEST_CASE("a worker runs its work in order, apart from the caller") {
  Gate gate;
  std::vector<int> order;
  HostStream stream(HostStream::Mode::worker);
  stream.submit([&] { gate.pass(); });
  for (int i = 0; i < 100; ++i) stream.submit([&order, i] { order.push_back(i); });
  gate.open();  // a stream that ran in the caller would never get here
  stream.wait_for(stream.last_ticket());
  REQUIRE(order.size() == 100);
  for (int i = 0; i < 100; ++i) CHECK(order[i] == i);
}

TEST_CASE("an event orders one stream after another") {
  Gate gate;
  int value = 0, seen = -1;
  HostStream producer(HostStream::Mode::worker), consumer(HostStream::Mode::worker);
  producer.submit([&] {
    gate.pass();
    value = 42;
  });
  wait_event(consumer, producer.event());
  producer.submit([&] { gate.pass(); });  // after the event: the consumer does not wait for it
  consumer.submit([&] { seen = value; });
  gate.open();
  consumer.wait_for(consumer.last_ticket());
  CHECK(seen == 42);
}

TEST_CASE("the compute stream waits for an event in the caller") {
  std::atomic<int> value = 0;
  HostStream worker(HostStream::Mode::worker), compute(HostStream::Mode::in_place);
  worker.submit([&] { value = 7; });
  wait_event(compute, worker.event());
  CHECK(value == 7);
  wait_event(compute, Event{});  // never recorded: passed
}

TEST_CASE("an exception poisons its stream and those that wait for it") {
  HostStream first(HostStream::Mode::worker), second(HostStream::Mode::worker);
  std::atomic<bool> ran = false;
  first.submit([] { throw RunError("the disk is full"); });
  first.submit([&] { ran = true; });
  wait_event(second, first.event());
  second.submit([&] { ran = true; });
  CHECK_THROWS_WITH(first.wait_for(first.last_ticket()), "the disk is full");
  CHECK_THROWS_WITH(second.wait_for(second.last_ticket()), "the disk is full");
  CHECK_THROWS_AS(first.wait_for(first.last_ticket()), RunError);  // and stays so
  CHECK_FALSE(ran);
}

TEST_CASE("closing drops waiting work and wakes those who wait for it") {
  Gate gate;
  std::atomic<bool> ran = false;
  auto stream = std::make_unique<HostStream>(HostStream::Mode::worker);
  HostStream other(HostStream::Mode::worker);
  std::atomic<bool> started = false;
  stream->submit([&] {
    started = true;
    gate.pass();
  });
  stream->submit([&] { ran = true; });
  wait_event(other, stream->event());
  while (!started) std::this_thread::yield();
  stream->close();
  CHECK_THROWS_WITH(other.wait_for(other.last_ticket()), "the device was closed while its streams still had work");
  gate.open();
  stream.reset();
  CHECK_FALSE(ran);
}

TEST_CASE("an empty stream handle is refused") {
  CHECK_THROWS_AS(submit(Stream{}, [] {}), InternalError);
}
