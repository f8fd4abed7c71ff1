// What is the io_uring engine's own: its queues overflow, and one system call hands over all. What it has in
// common with the other engines is in the tests named after what they do.

#include <doctest/doctest.h>
#include <keel/kevent_sys/queue.hpp>

#include <cstddef>
#include <cstdint>
#include <thread>

#include "support/burst.hpp"
#include "support/death_test.hpp"
#include "support/engines.hpp"
#include "support/recorded_operation.hpp"

using keel::kevent_sys::never;
using keel::kevent_sys::opcode;
using keel::kevent_sys::queue;
using keel::kevent_sys::queue_options;
using keel::test::answer_of;
using keel::test::burst;
using keel::test::missing;
using keel::test::on_uring;
using keel::test::recorded;
using keel::test::turn_until;

namespace {

queue_options small(std::uint32_t ring_events) {
  queue_options options = on_uring::options({.entries = 64});
  options.ring_events = ring_events;
  return options;
}

void check_stopped(queue& q, recorded& op) {
  q.cancel(op);
  REQUIRE(turn_until(q, [&] { return !op.in_flight(); }));
}

}  // namespace

TEST_CASE("B1 B6: uring: bursts far beyond all queues: everything is answered once, in order") {
  if (missing<on_uring>()) return;
  for (const std::uint32_t ring_events : {16u, 1024u}) {
    queue q(small(ring_events));
    for (const std::size_t count : {65u, 1'000u, 10'000u}) {
      const burst all(q, count);
      REQUIRE(turn_until(q, [&] { return all.done(); }));
      CHECK(all.in_order());
      CHECK(q.idle());
    }
    CHECK(q.counters().overflows > 0);
    CHECK(q.counters().submitted == 11'065);
  }
}

TEST_CASE("uring: one turn is one system call, whatever it hands over") {
  if (missing<on_uring>()) return;
  queue q(on_uring::options());
  CHECK(answer_of(q, {.code = opcode::nop}) == 0);
  const std::uint64_t before = q.counters().enters;
  const burst all(q, 200);
  q.wait(q.fresh_now_ns() + 1'000'000'000);
  q.consume();
  CHECK(q.counters().enters == before + 1);
  REQUIRE(turn_until(q, [&] { return all.done(); }));
}

TEST_CASE("uring: a turn that may not sleep and has nothing to do makes no system call") {
  if (missing<on_uring>()) return;
  queue q(on_uring::options());
  CHECK(answer_of(q, {.code = opcode::nop}) == 0);
  const std::uint64_t before = q.counters().enters;
  for (int i = 0; i < 100; ++i) q.wait(0);
  CHECK(q.counters().enters == before);
}

TEST_CASE("B6: uring: a wake operation that the kernel ended for want of room is noticed by its owner") {
  if (missing<on_uring>()) return;
  queue q(small(1024));
  recorded wake({.code = opcode::wake, .multishot = true});
  q.submit(wake);
  q.wait(0);
  {
    const burst all(q, 2'000);
    q.wake();
    REQUIRE(turn_until(q, [&] { return all.done() && !wake.answers.empty(); }));
  }
  // Either it goes on, or it said that it does not.
  CHECK(wake.in_flight() == wake.answers.back().more());
  if (wake.in_flight()) check_stopped(q, wake);
}

TEST_CASE("B13: uring: use from a second thread is told at once") {
  if (missing<on_uring>()) return;
  const auto second_thread = [] {
    queue q(on_uring::options());
    recorded op({.code = opcode::nop});
    answer_of(q, op);
    std::thread([&] {
      q.submit(op);
      q.wait(never);
    }).join();
  };
  CHECK_DEATH(second_thread(), "was it used from a second thread?");
}
