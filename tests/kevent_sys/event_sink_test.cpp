#include <doctest/doctest.h>
#include <keel/kevent_sys/event_sink.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <random>
#include <vector>

#include "support/death_test.hpp"
#include "support/hand_engine.hpp"
#include "support/seed.hpp"

using keel::kevent_sys::answer;
using keel::kevent_sys::event_sink;
using keel::kevent_sys::opcode;
using keel::kevent_sys::operation;
using keel::kevent_sys::request;
using keel::test::hand_engine;

namespace {

// Notes its answers in a log that several share.
struct logged : operation {
  logged(int its_number, std::vector<int>& its_log, const request& what = {})
      : operation(what, &note), number(its_number), log(its_log) {}

  static void note(operation& self, answer a) noexcept {
    auto& me = static_cast<logged&>(self);
    me.log.push_back(me.number);
    me.last = a;
  }

  int number;
  std::vector<int>& log;
  answer last;
};

struct ring {
  explicit ring(std::uint32_t events, std::uint32_t start = 0) : sink(events, start), engine(sink) {}

  logged& submitted(const request& what = {}) {
    logged& op = ops.emplace_back(int(ops.size()), log, what);
    engine.submit(op);
    return op;
  }
  // Publishes one more answer of `op`, which goes on.
  void publish_more(operation& op, int value) { engine.publish(op, {value, answer::more_flag}); }
  void consume_all() {
    while (sink.waiting() > 0) sink.consume_one();
  }
  const ukevent& event(std::uint32_t index) const {
    const auto* first = reinterpret_cast<const ukevent*>(&sink.shared() + 1);
    return first[index];
  }

  event_sink sink;
  hand_engine engine;
  std::vector<int> log;
  std::deque<logged> ops;
};

// What the ring's two published numbers mean, in the words of 2006: indices below the size, and a flag for
// full.
struct model {
  explicit model(std::uint32_t size) : n(size) {}

  std::uint32_t used() const { return full ? n : (k + n - u) % n; }
  void put() {
    k = (k + 1) % n;
    full = k == u;
  }
  void commit_one() {
    const std::uint32_t next = (u + 1) % n;
    if (next < u) ++over;
    u = next;
    full = false;
  }

  std::uint32_t n;
  std::uint32_t k = 0;
  std::uint32_t u = 0;
  std::uint32_t over = 0;
  bool full = false;
};

}  // namespace

TEST_CASE("event_sink: an event has the documented layout and says what it is") {
  ring r(4);
  logged& op = r.submitted({.code = opcode::recv, .fd = 17});
  r.engine.publish(op, {42, 0});

  const ukevent& e = r.event(0);
  CHECK(reinterpret_cast<const char*>(&e) - reinterpret_cast<const char*>(&r.sink.shared()) == 8);
  CHECK(e.id.raw[0] == 17);
  CHECK(e.id.raw[1] == op.generation());
  CHECK(e.type == KEVENT_NAIO);
  CHECK(e.event == KEVENT_SOCKET_RECV);
  CHECK(e.req_flags == KEVENT_REQ_ONESHOT);
  CHECK(e.ret_flags == KEVENT_RET_DONE);
  CHECK(e.ret_data[0] == 42);
  CHECK(e.ret_data[1] == 0);
  CHECK(e.ptr == &op);
  r.consume_all();
  CHECK(op.last.value == 42);
}

TEST_CASE(
    "event_sink: an error is a broken event, a multishot is not one-shot, a buffer stands in the flags") {
  ring r(4);
  r.engine.finish(r.submitted({.code = opcode::open}), -2);
  logged& receive = r.submitted({.code = opcode::receive, .multishot = true});
  r.engine.publish(receive, {5, answer::more_flag | answer::buffer_flag | 0x0abc0000u});
  r.engine.finish(receive, 0);

  CHECK(r.event(0).ret_flags == (KEVENT_RET_DONE | KEVENT_RET_BROKEN));
  CHECK(r.event(0).ret_data[0] == 0xfffffffeu);
  CHECK(r.event(0).type == KEVENT_AIO);
  CHECK(r.event(1).req_flags == 0);
  r.sink.consume_one();
  r.sink.consume_one();
  CHECK(receive.last.more());
  CHECK(receive.last.has_buffer());
  CHECK(receive.last.buffer() == 0xabc);
  CHECK(receive.in_flight());
  r.consume_all();
  CHECK_FALSE(receive.in_flight());
}

TEST_CASE("event_sink: sizes are rounded up to a power of two; absurd ones are refused") {
  CHECK(event_sink(2).size() == 2);
  CHECK(event_sink(5).size() == 8);
  CHECK(event_sink(1024).size() == 1024);
  CHECK_DEATH(event_sink(1), "a ring holds 2 to 1,048,576 events");
  CHECK_DEATH(event_sink((1u << 20) + 1), "a ring holds 2 to 1,048,576 events");
}

TEST_CASE("event_sink: a full ring loses nothing: the rest waits in order and moves in as there is room") {
  ring r(4);
  for (int i = 0; i < 10; ++i) r.submitted();
  for (logged& op : r.ops) r.engine.finish(op, op.number);
  CHECK(r.sink.waiting() == 4);
  CHECK(r.sink.room() == 0);
  CHECK(r.sink.published() == 4);

  r.sink.consume_one();
  r.sink.consume_one();
  // There is room, but others were first.
  logged& last = r.submitted();
  r.engine.finish(last, 10);
  CHECK(r.sink.waiting() == 2);
  while (!r.sink.empty()) {
    r.sink.settle();
    r.sink.consume_one();
  }

  CHECK(r.log == std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  for (const logged& op : r.ops) CHECK(op.last.value == op.number);
  CHECK(r.sink.published() == 11);
}

TEST_CASE("event_sink: an event that was withdrawn is passed over, wherever it waits") {
  ring r(2);
  for (int i = 0; i < 4; ++i) r.submitted();
  for (logged& op : r.ops) r.engine.finish(op, op.number);

  r.sink.withdraw(r.ops[0]);  // in the ring
  r.sink.withdraw(r.ops[2]);  // in the late list
  CHECK_FALSE(r.ops[0].in_flight());
  CHECK_FALSE(r.ops[2].in_flight());
  CHECK(r.ops[1].in_flight());
  CHECK(r.sink.waiting() == 2);

  // Idle again, and submitted anew while its old slot is still in the ring.
  r.engine.submit(r.ops[0]);
  r.engine.finish(r.ops[0], 100);
  while (!r.sink.empty()) {
    r.sink.settle();
    r.sink.consume_one();
  }
  CHECK(r.log == std::vector<int>{1, 3, 0});
  CHECK(r.ops[0].last.value == 100);
}

TEST_CASE("event_sink: the last event of a multishot is withdrawn after the others were told") {
  ring r(4);
  logged& op = r.submitted({.code = opcode::poll, .multishot = true});
  r.publish_more(op, 1);
  r.engine.finish(op, 2);
  r.sink.consume_one();
  CHECK(op.last.value == 1);
  r.sink.withdraw(op);
  CHECK_FALSE(op.in_flight());
  r.consume_all();
  CHECK(r.log == std::vector<int>{0});
}

TEST_CASE(
    "event_sink: an operation may be submitted again, and destroyed, when it is told of its last event") {
  struct once_more : operation {
    explicit once_more(hand_engine& e) : operation({}, &note), engine(e) {}
    static void note(operation& self, answer a) noexcept {
      auto& me = static_cast<once_more&>(self);
      CHECK_FALSE(me.in_flight());
      if (a.value == 2) {
        delete &me;
        return;
      }
      me.engine.submit(me);
      me.engine.finish(me, a.value + 1);
    }
    hand_engine& engine;
  };
  ring r(2);
  auto* op = new once_more(r.engine);
  r.engine.submit(*op);
  r.engine.finish(*op, 0);
  r.consume_all();
  CHECK(r.sink.published() == 3);
  CHECK(r.engine.in_flight() == 0);
}

TEST_CASE(
    "B20: event_sink: the published index and overflow count follow the model, across the wrap at 2^32") {
  const std::uint64_t seed = keel::test::chosen_seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (const std::uint32_t start : {0u, 0xffffffe0u, 0xfffffff0u}) {
    ring r(16, start);
    model m(16);
    logged& op = r.submitted({.code = opcode::poll, .multishot = true});
    for (int i = 0; i < 2'000; ++i) {
      if (random() % 2 == 0 && r.sink.room() > 0) {
        r.publish_more(op, i);
        m.put();
      } else if (r.sink.waiting() > 0) {
        r.sink.consume_one();
        m.commit_one();
      }
      REQUIRE(r.sink.shared().ring_kidx == m.k);
      REQUIRE(r.sink.shared().ring_over == m.over);
      REQUIRE(r.sink.waiting() == m.used());
      REQUIRE(r.sink.room() == 16 - m.used());
    }
    r.consume_all();
    r.engine.finish(op, 0);
    r.consume_all();
    CHECK(r.sink.empty());
  }
}

TEST_CASE("event_sink: a producer's mistakes are told at once") {
  const auto twice = [] {
    ring r(4);
    logged& op = r.submitted();
    r.engine.finish(op, 0);
    r.engine.finish(op, 0);
  };
  CHECK_DEATH(twice(), "an answer for an operation that is not in flight");
  const auto more_without_room = [] {
    ring r(2);
    logged& op = r.submitted({.code = opcode::poll, .multishot = true});
    for (int i = 0; i < 3; ++i) r.publish_more(op, i);
  };
  CHECK_DEATH(more_without_room(), "engines look at room() before they publish what repeats");
  const auto left_over = [] {
    ring r(2);
    r.engine.finish(r.submitted(), 0);
  };
  CHECK_DEATH(left_over(), "while the kernel still works on it");
  const auto submitted_twice = [] {
    ring r(2);
    r.engine.submit(r.submitted());
  };
  CHECK_DEATH(submitted_twice(), "an operation was submitted twice");
}
