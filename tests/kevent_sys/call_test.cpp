// opcode::call on each engine: functions that block, and a queue that does not.

#include <doctest/doctest.h>
#include <keel/kevent_sys/blocking_pool.hpp>
#include <keel/kevent_sys/queue.hpp>

#include <cerrno>
#include <cstdint>
#include <deque>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "support/descriptors.hpp"
#include "support/engines.hpp"
#include "support/pool_caller.hpp"
#include "support/recorded_operation.hpp"
#include "support/seed.hpp"

using keel::kevent_sys::blocking_call;
using keel::kevent_sys::blocking_pool;
using keel::kevent_sys::engine;
using keel::kevent_sys::event_sink;
using keel::kevent_sys::never;
using keel::kevent_sys::opcode;
using keel::kevent_sys::operation;
using keel::kevent_sys::queue;
using keel::kevent_sys::queue_options;
using keel::kevent_sys::timer;
using keel::test::gate;
using keel::test::missing;
using keel::test::on_epoll;
using keel::test::on_uring;
using keel::test::recorded;
using keel::test::turn_until;

namespace {

template <class Engine>
queue_options sharing(blocking_pool& pool) {
  return Engine::options({.pool = &pool});
}

struct recorded_call : blocking_call, recorded {
  explicit recorded_call(const blocking_call& what)
      : blocking_call(what), recorded({.code = opcode::call, .data = static_cast<blocking_call*>(this)}) {}
};

blocking_call at(gate& g) {
  return {.function = &gate::pass, .context = &g};
}

blocking_call count_in(std::atomic<int>& counter) {
  return {.function = [](void* c) noexcept { return static_cast<std::atomic<int>*>(c)->fetch_add(1) + 1; },
          .context = &counter};
}

}  // namespace

TEST_CASE_TEMPLATE("call: it answers what the function returned, and ends the sleep of its queue", Engine,
                   on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  std::atomic<int> counter{0};
  for (int round = 1; round <= 100; ++round) {
    recorded_call call(count_in(counter));
    q.submit(call);
    CHECK(call.answers.empty());
    // No time limit: nothing but the end of the call may end this.
    while (call.in_flight()) {
      q.wait(never);
      q.consume();
    }
    CHECK(call.value() == round);
    CHECK(call.answers.size() == 1);
  }
  CHECK(q.idle());
}

TEST_CASE_TEMPLATE("call: while one blocks, timers fire and other operations are answered", Engine, on_uring,
                   on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  gate closed_gate;
  recorded_call call(at(closed_gate));
  q.submit(call);
  bool fired = false;
  struct alarm : timer {
    explicit alarm(bool& f)
        : timer([](operation& self, auto) noexcept { static_cast<alarm&>(self).flag = true; }), flag(f) {}
    bool& flag;
  } clock(fired);
  q.arm_after(clock, 1'000'000);
  CHECK(turn_until(q, [&] { return fired; }));
  CHECK(keel::test::answer_of(q, {.code = opcode::nop}) == 0);
  CHECK(call.in_flight());
  closed_gate.open();
  CHECK(turn_until(q, [&] { return call.ended(); }));
}

TEST_CASE_TEMPLATE("C: call: a cancel takes back what has not begun, and waits for what runs", Engine,
                   on_uring, on_epoll) {
  if (missing<Engine>()) return;
  blocking_pool pool({.threads_max = 1});
  queue q(sharing<Engine>(pool));
  gate closed_gate;
  recorded_call runs(at(closed_gate));
  recorded_call waits(at(closed_gate));
  q.submit(runs);
  q.submit(waits);
  REQUIRE(closed_gate.wait_for(1));

  q.cancel(runs);
  q.cancel(waits);
  q.cancel(waits);

  CHECK(turn_until(q, [&] { return waits.ended(); }));
  CHECK(waits.value() == -ECANCELED);
  CHECK(runs.in_flight());
  closed_gate.open();
  CHECK(turn_until(q, [&] { return runs.ended(); }));
  CHECK(runs.value() == 1);
  CHECK(waits.answers.size() == 1);
}

TEST_CASE_TEMPLATE("call: what the pool refuses answers EAGAIN, in the next turn and not inside submit",
                   Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  blocking_pool pool({.threads_max = 1, .queue_max = 1});
  queue q(sharing<Engine>(pool));
  gate closed_gate;
  std::deque<recorded_call> calls;
  q.submit(calls.emplace_back(at(closed_gate)));
  REQUIRE(closed_gate.wait_for(1));
  q.submit(calls.emplace_back(at(closed_gate)));
  recorded_call refused(at(closed_gate));
  q.submit(refused);
  CHECK(refused.answers.empty());
  while (refused.in_flight()) {
    q.wait(never);
    q.consume();
  }
  CHECK(refused.value() == -EAGAIN);
  closed_gate.open();
  CHECK(turn_until(q, [&] { return calls[0].ended() && calls[1].ended(); }));
}

TEST_CASE_TEMPLATE("call: queues on several threads share a pool, and each gets the answers of its own calls",
                   Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  blocking_pool pool({.threads_max = 3});
  constexpr int queues = 3;
  constexpr int calls_each = 500;
  std::atomic<int> performed{0};
  std::atomic<int> taken_back{0};
  const std::uint64_t seed = keel::test::chosen_seed();
  CAPTURE(seed);
  const auto work = [&](unsigned number) {
    std::mt19937_64 random(seed + number);
    queue q(sharing<Engine>(pool));
    std::deque<recorded_call> calls;
    for (int i = 0; i < calls_each; ++i) {
      q.submit(calls.emplace_back(count_in(performed)));
      if (random() % 4 == 0) q.cancel(calls[random() % calls.size()]);
      if (random() % 16 == 0) {
        q.wait(0);
        q.consume();
      }
    }
    const bool all = turn_until(q, [&] { return q.idle(); });
    for (const recorded_call& call : calls) {
      if (!all || call.answers.size() != 1) std::abort();
      if (call.answers[0].value == -ECANCELED) ++taken_back;
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < queues; ++i) threads.emplace_back(work, i);
  for (std::thread& t : threads) t.join();
  CHECK(performed + taken_back == queues * calls_each);
}

TEST_CASE_TEMPLATE(
    "call: a queue of several threads gets the answer, though the thread that asked has exited", Engine,
    on_uring, on_epoll) {
  if (missing<Engine>()) return;
  event_sink sink(64);
  auto made = keel::kevent_sys::make_engine(sink, {.choice = Engine::choice, .buffers = 0, .shared = true});
  REQUIRE(made);
  engine* used = *made;
  std::mutex mutex;
  for (int round = 0; round < 3; ++round) {
    gate closed_gate;
    recorded_call call(at(closed_gate));
    std::thread([&] {
      const std::lock_guard lock(mutex);
      used->submit(call);
      used->poll(0);
    }).join();
    std::thread([&] { closed_gate.open(); }).join();
    const std::uint64_t limit_ns = used->now_ns() + 20'000'000'000;
    while (call.in_flight() && used->now_ns() < limit_ns) {
      used->block(limit_ns);
      const std::lock_guard lock(mutex);
      used->poll(0);
      while (sink.waiting() > 0) sink.consume_one();
    }
    CHECK(call.value() == 1);
  }
  delete used;
}

TEST_CASE("D8: uring: a call that finds no descriptor left answers EMFILE") {
  if (missing<on_uring>()) return;
  queue q(on_uring::options());
  std::atomic<int> counter{0};
  recorded_call call(count_in(counter));
  {
    const keel::test::descriptor_limit none(0);
    q.submit(call);
  }
  CHECK(turn_until(q, [&] { return call.ended(); }));
  CHECK(call.value() == -EMFILE);
  recorded_call again(count_in(counter));
  CHECK(keel::test::answer_of(q, again) == 1);
}
