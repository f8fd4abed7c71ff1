#include <keel/runtime/scheduler.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <ostream>
#include <thread>
#include <vector>

#include "support/build.hpp"
#include "support/death_test.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::message;
using keel::runnable;
using keel::runtime;
using keel::scheduler;
using keel::sleep_for;
using keel::task;

namespace {

// Notes its number when it runs; again, if it is told to.
struct noting : runnable {
  noting(std::vector<int>& n, int i, int more = 0)
      : runnable([](runnable& self) noexcept {
          auto& me = static_cast<noting&>(self);
          me.notes.push_back(me.number);
          if (me.again-- > 0) scheduler::current()->make_ready(me);
        }),
        notes(n),
        number(i),
        again(more) {}

  std::vector<int>& notes;
  int number;
  int again;
};

// Notes who sent it and which of his messages it is.
struct letter : message {
  letter() noexcept : message([](message& self, scheduler& to) noexcept {
    auto& me = static_cast<letter&>(self);
    CHECK_UNARY(scheduler::current() == &to);
    if (me.box[me.sender] != me.number) *me.out_of_order += 1;
    me.box[me.sender] = me.number + 1;
    ++*me.received;
  }) {}

  std::uint32_t* box = nullptr;  // by sender: the number that is expected
  std::uint32_t* out_of_order = nullptr;
  std::uint32_t* received = nullptr;
  std::uint32_t sender = 0;
  std::uint32_t number = 0;
};

}  // namespace

TEST_CASE("scheduler: what is ready runs once, first come first") {
  std::vector<int> notes;
  runtime rt;
  noting one(notes, 1);
  noting two(notes, 2, 1);
  noting three(notes, 3);
  for (noting* each : {&one, &two, &three}) rt.at(0).make_ready(*each);
  rt.run_ready();
  CHECK(notes == std::vector<int>{1, 2, 3, 2});
  CHECK(rt.at(0).counters().runs == 4);
}

TEST_CASE("scheduler: what makes itself ready again and again starves nobody") {
  std::vector<int> notes;
  keel::kevent_sys::sim_world world;
  runtime rt({.factory = world.factory()});
  noting forever(notes, 1, 100'000);
  bool slept = false;
  auto sleeper = [](bool& done) -> task<> {
    const auto got = co_await sleep_for(0s);
    done = got.has_value();
  };
  rt.at(0).make_ready(forever);
  rt.spawn(sleeper, std::ref(slept));
  for (int i = 0; i < 10; ++i) rt.run_ready();
  CHECK(slept);
  CHECK(notes.size() < 5'000);
  CHECK(rt.at(0).counters().exhausted >= 9);
  forever.again = 0;
  rt.run_ready();
}

TEST_CASE("scheduler: events beyond those of one turn are told in the next, without a sleep between them") {
  std::vector<int> notes;
  auto sleeper = [](std::vector<int>& n, int i) -> task<> {
    static_cast<void>(co_await sleep_for(1s));
    n.push_back(i);
  };
  keel::kevent_sys::sim_world world;
  runtime rt({.turn_events = 1, .factory = world.factory()});
  for (int i = 0; i < 5; ++i) rt.spawn(sleeper, std::ref(notes), i);
  const auto start = rt.at(0).now();
  for (int i = 0; i < 20 && notes.size() < 5; ++i) rt.run_once(rt.at(0).now() + 1h);
  CHECK(notes == std::vector<int>{0, 1, 2, 3, 4});
  CHECK(rt.at(0).now() - start < 2s);
}

TEST_CASE("scheduler: current is the one whose loop is on the stack") {
  CHECK(scheduler::current() == nullptr);
  runtime one;
  one.spawn([](runtime& outer) -> task<> {
    CHECK(scheduler::current() == &outer.at(0));
    co_return;
  }, std::ref(one));
  one.run();
  CHECK(scheduler::current() == nullptr);
}

TEST_CASE("scheduler: counts turns, events, messages and tasks") {
  keel::test::run_simulated([]() -> task<> {
    auto nothing = []() -> task<> { co_return; };
    const auto before = scheduler::current()->counters();
    for (int i = 0; i < 5; ++i) keel::spawn(nothing);
    // The events of a turn are counted at its end.
    static_cast<void>(co_await sleep_for(1s));
    static_cast<void>(co_await sleep_for(1s));
    const auto after = scheduler::current()->counters();
    CHECK(after.tasks == before.tasks + 5);
    CHECK(after.runs == before.runs + 5);
    CHECK(after.events == before.events + 1);
    CHECK(scheduler::current()->live_tasks() == 1);
  }());
}

TEST_CASE("scheduler: messages that were posted before it runs are delivered in its first turn") {
  std::uint32_t box[1] = {};
  std::uint32_t out_of_order = 0;
  std::uint32_t received = 0;
  std::vector<letter> letters(10);
  runtime rt;
  for (std::uint32_t i = 0; i < 10; ++i) {
    letters[i].box = box;
    letters[i].out_of_order = &out_of_order;
    letters[i].received = &received;
    letters[i].number = i;
    rt.at(0).post(letters[i]);
  }
  rt.run_ready();
  CHECK(received == 10);
  CHECK(out_of_order == 0);
  CHECK(rt.at(0).counters().messages == 10);
}

TEST_CASE("scheduler: a message that was posted after the end is delivered when the runtime goes") {
  std::uint32_t box[1] = {};
  std::uint32_t out_of_order = 0;
  std::uint32_t received = 0;
  letter late;
  late.box = box;
  late.out_of_order = &out_of_order;
  late.received = &received;
  {
    runtime rt;
    rt.run();
    rt.at(0).post(late);
    CHECK(received == 0);
  }
  CHECK(received == 1);
}

TEST_CASE("scheduler: four threads flood it: no message is lost, those of one thread stay in order") {
  constexpr std::uint32_t threads = 4;
  const std::uint32_t each = keel::test::sanitized ? 20'000 : 100'000;
  std::uint32_t box[threads] = {};
  std::uint32_t out_of_order = 0;
  std::uint32_t received = 0;
  std::vector<letter> letters(std::size_t{threads} * each);
  runtime rt;
  std::atomic<std::uint32_t> finished{0};
  std::atomic<bool> counted{false};
  std::vector<std::thread> senders;
  for (std::uint32_t t = 0; t < threads; ++t) {
    senders.emplace_back([&, t] {
      for (std::uint32_t i = 0; i < each; ++i) {
        letter& one = letters[std::size_t{t} * each + i];
        one.box = box;
        one.out_of_order = &out_of_order;
        one.received = &received;
        one.sender = t;
        one.number = i;
        rt.at(0).post(one);
      }
      // The turn that takes the last ones sleeps afterwards: nothing else would end it before its deadline.
      if (finished.fetch_add(1) + 1 != threads) return;
      while (!counted) {
        rt.at(0).queue().wake();
        std::this_thread::yield();
      }
    });
  }
  unsigned slept_in_vain = 0;
  while (received < threads * each && slept_in_vain == 0) {
    const std::uint32_t before = received;
    const auto deadline = rt.at(0).now() + 30s;
    rt.run_once(deadline);
    if (received == before && rt.at(0).now() >= deadline) ++slept_in_vain;
  }
  counted = true;
  for (std::thread& t : senders) t.join();
  CHECK(slept_in_vain == 0);
  CHECK(received == threads * each);
  CHECK(out_of_order == 0);
}

TEST_CASE("scheduler: no wake-up is lost, however it falls asleep") {
  // Each thread posts its next message when the last one was delivered: the scheduler falls asleep all the
  // time, and the post meets every moment of it.
  constexpr unsigned threads = 2;
  const std::uint32_t each = keel::test::sanitized ? 3'000 : 20'000;
  struct echo : message {
    echo() noexcept : message([](message& self, scheduler&) noexcept {
      auto& me = static_cast<echo&>(self);
      me.delivered.fetch_add(1);
      me.delivered.notify_one();
    }) {}
    std::atomic<std::uint32_t> delivered{0};
  };
  echo echoes[threads];
  std::atomic<unsigned> finished{0};
  runtime rt;
  std::vector<std::thread> senders;
  for (unsigned t = 0; t < threads; ++t) {
    senders.emplace_back([&, t] {
      for (std::uint32_t i = 0; i < each; ++i) {
        rt.at(0).post(echoes[t]);
        echoes[t].delivered.wait(i);
      }
      ++finished;
      rt.request_stop(keel::stop_level::graceful);
    });
  }
  unsigned slept_in_vain = 0;
  while (finished < threads) {
    const auto deadline = rt.at(0).now() + 30s;
    rt.run_once(deadline);
    if (rt.at(0).now() >= deadline) ++slept_in_vain;
  }
  for (std::thread& t : senders) t.join();
  CHECK(slept_in_vain == 0);
  CHECK(rt.at(0).counters().messages >= std::uint64_t{threads} * each);
}

namespace {

struct descriptor_listener : keel::descriptor_waiter {
  explicit descriptor_listener(bool wait_again = false)
      : descriptor_waiter([](keel::descriptor_waiter& self) noexcept {
          auto& me = static_cast<descriptor_listener&>(self);
          ++me.told;
          if (me.again) scheduler::current()->wait_for_descriptor(me);
        }),
        again(wait_again) {}
  int told = 0;
  bool again;
};

}  // namespace

TEST_CASE("scheduler: who waits for a descriptor is told once, and may wait again") {
  keel::test::run_simulated([]() -> task<> {
    scheduler& here = *scheduler::current();
    descriptor_listener once;
    descriptor_listener always(true);
    descriptor_listener never;
    here.wait_for_descriptor(once);
    here.wait_for_descriptor(always);
    here.wait_for_descriptor(never);
    never.unlink();
    here.note_descriptor_freed();
    here.note_descriptor_freed();
    CHECK(once.told == 1);
    CHECK(always.told == 2);
    CHECK(never.told == 0);
    always.unlink();
    here.note_descriptor_freed();
    CHECK(always.told == 2);
    co_return;
  }());
}

TEST_CASE("scheduler: a turn from inside one of its tasks is a bug") {
  auto turns = []() -> task<> {
    scheduler::current()->turn(keel::time_point());
    co_return;
  };
  CHECK_DEATH(keel::run(turns()), "a scheduler's loop was called from one of its own tasks");
}
