#include <doctest/doctest.h>
#include <keel/kevent_sys/queue.hpp>
#include <keel/kevent_sys/sim_engine.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <random>
#include <vector>

#include "support/death_test.hpp"
#include "support/engines.hpp"
#include "support/hand_engine.hpp"
#include "support/recorded_operation.hpp"
#include "support/seed.hpp"

using keel::kevent_sys::answer;
using keel::kevent_sys::engine;
using keel::kevent_sys::event_sink;
using keel::kevent_sys::never;
using keel::kevent_sys::opcode;
using keel::kevent_sys::operation;
using keel::kevent_sys::queue;
using keel::kevent_sys::queue_options;
using keel::kevent_sys::sim_engine;
using keel::kevent_sys::sim_world;
using keel::kevent_sys::timer;
using keel::kevent_sys::timing_wheel;
using keel::test::missing;
using keel::test::on_epoll;
using keel::test::on_uring;
using keel::test::recorded;
using keel::test::turn_until;

namespace {

constexpr std::uint64_t ms = 1'000'000;
constexpr std::uint64_t tick = timing_wheel::tick_ns;

// Counts how often it fired, notes when, and then does what the test says.
struct alarm_clock : timer {
  explicit alarm_clock(queue& its_queue) : timer(&ring), q(its_queue) {}
  ~alarm_clock() { q.disarm(*this); }

  static void ring(operation& self, answer) noexcept {
    auto& me = static_cast<alarm_clock&>(self);
    ++me.fired;
    me.fired_ns = me.q.now_ns();
    if (me.then) me.then();
  }

  queue& q;
  int fired = 0;
  std::uint64_t fired_ns = 0;
  std::function<void()> then;
};

struct simulated {
  explicit simulated(std::uint32_t ring_events = 1024)
      : q({.ring_events = ring_events, .factory = world.factory()}) {}

  sim_engine& sim() { return world.engine(); }
  void turn(std::uint64_t deadline_ns = 0) {
    q.wait(deadline_ns);
    q.consume();
  }

  sim_world world;
  queue q;
};

engine* make_hand_engine(event_sink& sink, void* place) {
  auto* made = new keel::test::hand_engine(sink);
  *static_cast<keel::test::hand_engine**>(place) = made;
  return made;
}

// A queue whose engine the test answers for.
struct by_hand {
  by_hand() : q({.factory = {.make = &make_hand_engine, .context = &engine}}) {}

  keel::test::hand_engine* engine = nullptr;
  queue q;
};

// Arms 500 timers with delays up to 3 ms, in several turns, and checks when they fire.
void check_never_early(queue& q, std::uint64_t late_max_ns) {
  const std::uint64_t seed = keel::test::chosen_seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  std::deque<alarm_clock> timers;
  std::vector<std::uint64_t> earliest_ns;
  int fired = 0;
  for (int i = 0; i < 500; ++i) {
    const std::uint64_t delay_ns = random() % (3 * ms);
    alarm_clock& t = timers.emplace_back(q);
    t.then = [&fired] { ++fired; };
    earliest_ns.push_back(q.fresh_now_ns() + delay_ns);
    if (i % 2 == 0) {
      q.arm_after(t, delay_ns);
    } else {
      q.arm_at(t, earliest_ns.back());
    }
    if (i % 50 == 0) {
      q.wait(q.fresh_now_ns() + ms / 4);
      q.consume();
    }
  }
  REQUIRE(turn_until(q, [&] { return fired == 500; }));
  for (std::size_t i = 0; i < timers.size(); ++i) {
    CHECK(timers[i].fired == 1);
    CHECK(timers[i].fired_ns >= earliest_ns[i]);
    CHECK(timers[i].fired_ns - earliest_ns[i] <= late_max_ns);
  }
}

}  // namespace

TEST_CASE("G4: queue: timers are never early, and in virtual time late by less than a tick") {
  simulated s;
  // Armed up to a quarter of a millisecond before the end of the turn.
  check_never_early(s.q, tick);
  CHECK(s.q.idle());
}

TEST_CASE_TEMPLATE("G4: queue: timers are never early by the kernel's clock", Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  check_never_early(q, never);
}

TEST_CASE("queue: the time of arm_after counts from the end of the turn") {
  simulated s;
  alarm_clock t(s.q);
  const std::uint64_t start = s.q.now_ns();
  s.q.arm_after(t, 10 * ms);
  s.sim().pass(7 * ms);  // the rest of the turn
  s.turn(never);
  CHECK(t.fired == 1);
  CHECK(t.fired_ns >= start + 17 * ms);
  CHECK(t.fired_ns < start + 17 * ms + tick);
}

TEST_CASE("queue: now_ns is the time of the last wait, fresh_now_ns that of the clock") {
  simulated s;
  const std::uint64_t start = s.q.now_ns();
  s.sim().pass(ms);
  CHECK(s.q.now_ns() == start);
  CHECK(s.q.fresh_now_ns() == start + ms);
  s.turn();
  CHECK(s.q.now_ns() == start + ms);
}

TEST_CASE("queue: next_deadline_ns says when wait wants to be called, and never without a timer") {
  simulated s;
  CHECK(s.q.next_deadline_ns() == never);
  alarm_clock t(s.q);
  s.q.arm_after(t, 5 * ms);
  const std::uint64_t next = s.q.next_deadline_ns();
  CHECK(next >= s.q.now_ns() + 5 * ms);
  CHECK(next < s.q.now_ns() + 5 * ms + tick);
  s.q.disarm(t);
  CHECK(s.q.next_deadline_ns() == never);
}

TEST_CASE("G7: queue: a timer is disarmed in whatever state it is, and does not fire then") {
  simulated s(2);
  alarm_clock a(s.q);
  alarm_clock b(s.q);
  alarm_clock c(s.q);
  CHECK_FALSE(s.q.disarm(c));

  SUBCASE("armed in this turn") {
    s.q.arm_after(c, ms);
    CHECK(s.q.disarm(c));
  }
  SUBCASE("in the wheel") {
    s.q.arm_after(c, ms);
    s.turn();
    CHECK(s.q.timers() == 1);
    CHECK(s.q.disarm(c));
    CHECK(s.q.timers() == 0);
  }
  SUBCASE("armed with a deadline") {
    s.q.arm_at(c, s.q.now_ns() + ms);
    CHECK(s.q.disarm(c));
  }
  SUBCASE("its event is in the ring") {
    s.q.arm_after(c, ms);
    CHECK(s.q.wait(never) == 1);
    CHECK(s.q.disarm(c));
  }
  SUBCASE("the ring is full, and its event waits behind it") {
    for (alarm_clock* t : {&a, &b, &c}) s.q.arm_after(*t, ms);
    CHECK(s.q.wait(never) == 2);
    CHECK(s.q.disarm(c));
    s.q.consume();
    CHECK(a.fired == 1);
    CHECK(b.fired == 1);
  }
  SUBCASE("by an event before it in the same walk") {
    a.then = [&] { CHECK(s.q.disarm(c)); };
    s.q.arm_after(a, ms);
    s.q.arm_after(c, ms);
    CHECK(s.q.wait(never) == 2);
    CHECK(s.q.consume() == 2);
    CHECK(a.fired == 1);
  }
  CHECK_FALSE(c.in_flight());
  CHECK_FALSE(s.q.disarm(c));
  s.turn(s.q.now_ns() + 50 * ms);
  CHECK(c.fired == 0);
  CHECK(s.q.idle());

  // Nothing of it stayed behind: it works as before.
  s.q.arm_after(c, ms);
  s.turn(never);
  CHECK(c.fired == 1);
}

TEST_CASE("G8: queue: a timer without delay that arms itself again fires once per turn") {
  simulated s;
  alarm_clock t(s.q);
  t.then = [&] { s.q.arm_after(t, 0); };
  s.q.arm_after(t, 0);
  recorded other({.code = opcode::nop});
  s.q.submit(other);
  s.turn();
  CHECK(t.fired == 1);
  CHECK(other.ended());
  for (int turn = 2; turn < 10; ++turn) {
    s.turn(never);
    CHECK(t.fired == turn);
  }
}

TEST_CASE("G1: queue: times that no clock will reach are never") {
  simulated s;
  std::deque<alarm_clock> timers;
  for (const std::uint64_t delay : {never, never - 1, never - s.q.now_ns(), never - s.q.now_ns() - 1})
    s.q.arm_after(timers.emplace_back(s.q), delay);
  s.q.arm_at(timers.emplace_back(s.q), never);
  s.turn(s.q.now_ns() + 1'000'000'000 * ms);
  for (const alarm_clock& t : timers) CHECK(t.fired == 0);
  CHECK(s.q.next_deadline_ns() == never);
}

TEST_CASE("queue: a deadline that has passed fires in the next turn") {
  simulated s;
  alarm_clock a(s.q);
  alarm_clock b(s.q);
  s.q.arm_at(a, 0);
  s.q.arm_at(b, s.q.now_ns());
  s.turn();
  CHECK(a.fired == 1);
  CHECK(b.fired == 1);
}

TEST_CASE("queue: consume tells as many as it is allowed to, the oldest first, and leaves the others") {
  simulated s;
  std::deque<recorded> ops;
  for (int i = 0; i < 5; ++i) s.q.submit(ops.emplace_back(keel::kevent_sys::request{.code = opcode::nop}));
  CHECK(s.q.wait(never) == 5);
  CHECK(s.q.consume(2) == 2);
  CHECK(ops[1].ended());
  CHECK_FALSE(ops[2].ended());
  CHECK(s.q.consume(0) == 0);
  CHECK(s.q.wait(never) == 3);
  CHECK(s.q.consume() == 3);
  CHECK(s.q.consume() == 0);
  CHECK(s.q.events() == 5);
}

TEST_CASE("queue: an event that arrives during the walk waits for the next one") {
  by_hand h;
  recorded late({.code = opcode::recv});
  struct first : recorded {
    first(by_hand& its_hand, recorded& its_late)
        : recorded({.code = opcode::nop}), hand(its_hand), late(its_late) {
      // As an engine does it that finds something out inside cancel().
      arm.then = [this] { hand.engine->finish(late, -1); };
    }
    by_hand& hand;
    recorded& late;
    alarm_clock arm{hand.q};
  } trigger(h, late);
  h.q.submit(late);
  h.q.arm_at(trigger.arm, 0);
  CHECK(h.q.wait(0) == 1);
  CHECK(h.q.consume() == 1);
  CHECK(late.answers.empty());
  CHECK(h.q.consume() == 1);
  CHECK(late.value() == -1);
}

TEST_CASE("queue: it is idle when nothing is in flight, armed or waiting to be consumed") {
  simulated s;
  CHECK(s.q.idle());
  alarm_clock t(s.q);
  s.q.arm_after(t, never);
  CHECK_FALSE(s.q.idle());
  s.turn();
  CHECK_FALSE(s.q.idle());
  s.q.disarm(t);
  CHECK(s.q.idle());

  recorded op({.code = opcode::nop});
  s.q.submit(op);
  CHECK_FALSE(s.q.idle());
  CHECK(s.q.in_flight() == 1);
  s.q.wait(0);
  CHECK(s.q.in_flight() == 0);
  CHECK_FALSE(s.q.idle());
  s.q.consume();
  CHECK(s.q.idle());
}

TEST_CASE("queue: an idle timer may be moved, one that is armed may not") {
  simulated s;
  timer a([](operation&, answer) noexcept {});
  timer b(std::move(a));
  s.q.arm_after(b, ms);
  CHECK_DEATH(timer(std::move(b)), "an operation in flight was moved");
  s.q.disarm(b);
}

TEST_CASE("queue: its user's mistakes are told at once") {
  const auto inside = [](auto call) {
    simulated s;
    alarm_clock t(s.q);
    t.then = [&] { call(s.q); };
    s.q.arm_after(t, 0);
    s.turn();
  };
  CHECK_DEATH(inside([](queue& q) { q.consume(); }), "consume() was called from inside itself");
  CHECK_DEATH(inside([](queue& q) { q.wait(0); }), "wait() was called from inside consume()");
  const auto armed_twice = [] {
    simulated s;
    alarm_clock t(s.q);
    s.q.arm_after(t, ms);
    s.q.arm_at(t, 0);
  };
  CHECK_DEATH(armed_twice(), "a timer was armed twice");
  const auto destroyed_in_flight = [] {
    auto* op = new recorded({.code = opcode::recv, .fd = 5});
    simulated s;
    s.q.submit(*op);
  };
  CHECK_DEATH(destroyed_in_flight(), "a queue was destroyed with operations in flight");
  const auto destroyed_armed = [] {
    auto* t = new timer([](operation&, answer) noexcept {});
    simulated s;
    s.q.arm_after(*t, ms);
  };
  CHECK_DEATH(destroyed_armed(), "a queue was destroyed with operations in flight");
  const auto timer_to_the_engine = [] {
    simulated s;
    alarm_clock t(s.q);
    s.q.submit(t);
  };
  CHECK_DEATH(timer_to_the_engine(), "timers belong to the queue");
}
