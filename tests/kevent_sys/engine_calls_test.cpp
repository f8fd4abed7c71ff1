#include <keel/kevent_sys/engine_calls.hpp>

#include <doctest/doctest.h>

#include <cerrno>
#include <cstdint>
#include <deque>

#include "support/death_test.hpp"
#include "support/pool_caller.hpp"

using keel::kevent_sys::blocking_call;
using keel::kevent_sys::blocking_pool;
using keel::kevent_sys::engine_calls;
using keel::kevent_sys::opcode;
using keel::kevent_sys::operation;
using keel::test::gate;
using keel::test::pool_call;
using keel::test::pool_caller;

namespace {

std::int32_t negative_of(void* number) noexcept {
  return -*static_cast<int*>(number);
}

blocking_call at(gate& g) {
  return {.function = &gate::pass, .context = &g};
}

}  // namespace

TEST_CASE("engine_calls: a call answers what its function returned, and is out until then") {
  int number = 7;
  pool_caller caller;
  pool_call call({.function = &negative_of, .context = &number});
  caller.submit(call);
  CHECK(caller.calls.out() == 1);
  REQUIRE(caller.finish(call));
  CHECK(call.value == -7);
  CHECK(call.answers == 1);
  CHECK(caller.calls.out() == 0);
}

TEST_CASE("engine_calls: each finished call comes out once, and wakes an engine that sleeps") {
  gate open_gate;
  open_gate.open();
  pool_caller caller;
  for (int round = 0; round < 200; ++round) {
    std::deque<pool_call> calls;
    for (int i = 0; i < 5; ++i) caller.submit(calls.emplace_back(at(open_gate)));
    REQUIRE(caller.turn_until([&] { return caller.calls.out() == 0; }));
    for (const pool_call& call : calls) CHECK(call.answers == 1);
  }
}

TEST_CASE("C: engine_calls: a call that has not begun is taken back; one that runs says what it did") {
  blocking_pool pool({.threads_max = 1});
  gate closed_gate;
  {
    pool_caller caller(&pool);
    pool_call runs(at(closed_gate));
    pool_call waits(at(closed_gate));
    pool_call waits_too(at(closed_gate));
    for (pool_call* call : {&runs, &waits, &waits_too}) caller.submit(*call);
    REQUIRE(closed_gate.wait_for(1));

    CHECK(!caller.calls.take_back(runs));
    CHECK(caller.calls.take_back(waits));
    CHECK(caller.calls.out() == 2);
    CHECK(pool.counters().queued == 1);

    closed_gate.open();
    REQUIRE(caller.turn_until([&] { return caller.calls.out() == 0; }));
    CHECK(runs.value == 1);
    CHECK(waits_too.answers == 1);
    CHECK(waits.answers == 0);
    CHECK(!caller.calls.take_back(runs));
  }
  CHECK(closed_gate.count() == 2);
}

TEST_CASE("engine_calls: taking the only waiting call back leaves the pool in order") {
  blocking_pool pool({.threads_max = 1});
  gate closed_gate;
  pool_caller caller(&pool);
  pool_call runs(at(closed_gate));
  pool_call waits(at(closed_gate));
  caller.submit(runs);
  REQUIRE(closed_gate.wait_for(1));
  caller.submit(waits);
  CHECK(caller.calls.take_back(waits));
  caller.submit(waits);
  closed_gate.open();
  REQUIRE(caller.turn_until([&] { return caller.calls.out() == 0; }));
  CHECK(waits.answers == 1);
}

TEST_CASE("engine_calls: an engine may have operations of other kinds done, which no limit refuses") {
  blocking_pool pool({.threads_max = 1, .queue_max = 1});
  const auto perform = [](operation& op) noexcept { return op.asked.fd; };
  engine_calls calls(
      &pool, [](void*) noexcept {}, nullptr, perform);
  std::deque<operation> reads;
  for (int fd = 0; fd < 100; ++fd)
    calls.submit(reads.emplace_back(keel::kevent_sys::request{.code = opcode::read, .fd = fd}, nullptr));
  int expected = 0;
  while (calls.out() != 0) {
    calls.collect([&](operation& op, int value) {
      CHECK(value == op.asked.fd);
      CHECK(value == expected++);
    });
  }
  CHECK(pool.counters().refused == 0);
}

TEST_CASE("engine_calls: an engine must not go while its calls are out") {
  const auto leave_early = [] {
    gate closed_gate;
    pool_call call(at(closed_gate));
    pool_caller caller;
    caller.submit(call);
  };
  CHECK_DEATH(leave_early(), "an engine was destroyed with calls in flight");
}
