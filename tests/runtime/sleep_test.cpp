#include <keel/runtime/sleep.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/when_all.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "support/death_test.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::sleep_for;
using keel::sleep_until;
using keel::task;
using keel::test::now;
using keel::test::run_simulated;

namespace {

// What a timer may be late: its wheel counts in ticks.
constexpr auto tick = 17us;

task<> check_sleep(keel::duration d) {
  const auto before = now();
  const auto slept = co_await sleep_for(d);
  CHECK(slept);
  CHECK(now() - before >= d);
  CHECK(now() - before <= d + tick);
}

}  // namespace

TEST_CASE("sleep_for: waits for its time and never less") {
  run_simulated([]() -> task<> {
    for (const keel::duration d : {1ns, 999ns, 1'000'000ns, 1'000'000'000ns}) co_await check_sleep(d);
    co_await check_sleep(24h);
    co_await check_sleep(24h * 365 * 100);
  }());
}

TEST_CASE("sleep_for: on the real clock, too") {
  keel::run([]() -> task<> {
    const auto before = std::chrono::steady_clock::now();
    const auto slept = co_await sleep_for(2ms);
    CHECK(slept);
    CHECK(std::chrono::steady_clock::now() - before >= 2ms);
  }());
}

TEST_CASE("sleep_for: nothing, or less, lets the others run first") {
  run_simulated([]() -> task<> {
    auto set = [](bool& flag) -> task<> {
      flag = true;
      co_return;
    };
    const auto before = now();
    for (const keel::duration d : {0ns, -1ns, keel::duration::min()}) {
      bool others_ran = false;
      keel::spawn(set, std::ref(others_ran));
      const auto slept = co_await sleep_for(d);
      CHECK(slept);
      CHECK(others_ran);
    }
    CHECK(now() - before <= 3 * tick);
  }());
}

TEST_CASE("sleep_until: waits until the clock is there; the past waits for the next turn") {
  run_simulated([]() -> task<> {
    const auto at = now() + 1h;
    const auto slept = co_await sleep_until(at);
    CHECK(slept);
    CHECK(now() >= at);
    CHECK(now() - at <= tick);
    const auto again = co_await sleep_until(at + -30min);
    CHECK(again);
    CHECK(now() - at <= tick);
  }());
}

TEST_CASE("sleep: those that are due wake in the order of their times") {
  std::vector<int> order;
  auto sleeper = [](std::vector<int>& notes, int n) -> task<> {
    static_cast<void>(co_await sleep_for(std::chrono::milliseconds(n)));
    notes.push_back(n);
  };
  run_simulated([](auto wait, std::vector<int>& notes) -> task<> {
    co_await keel::when_all(wait(notes, 30), wait(notes, 10), wait(notes, 20), wait(notes, 10));
  }(sleeper, order));
  CHECK(order == std::vector<int>{10, 10, 20, 30});
}

TEST_CASE("sleep: a stop ends it at once, with operation_canceled") {
  auto sleeper = []() -> task<keel::result<void>> { co_return co_await sleep_for(1h); };
  run_simulated([](auto sleep) -> task<> {
    const auto before = now();
    auto handle = keel::spawn(sleep);
    static_cast<void>(co_await sleep_for(1ms));
    handle.request_stop();
    const auto ended = co_await std::move(handle);
    CHECK(ended.error() == errc::operation_canceled);
    CHECK(ended.why().doing == std::string("sleep"));
    CHECK(now() - before < 1s);
  }(sleeper));
}

TEST_CASE("sleep: a graceful stop does not end it") {
  auto sleeper = []() -> task<keel::result<void>> { co_return co_await sleep_for(1h); };
  run_simulated([](auto sleep) -> task<> {
    const auto before = now();
    auto handle = keel::spawn(sleep);
    handle.request_stop(keel::stop_level::graceful);
    const auto ended = co_await std::move(handle);
    CHECK(ended);
    CHECK(now() - before >= 1h);
  }(sleeper));
}

TEST_CASE("sleep: in a task that was stopped it does not begin") {
  auto sleeper = []() -> task<> {
    const auto before = now();
    for (int i = 0; i < 3; ++i) {
      const auto slept = co_await sleep_for(1h);
      CHECK(slept.error() == errc::operation_canceled);
    }
    CHECK(now() == before);
  };
  run_simulated([](auto sleep) -> task<> {
    auto handle = keel::spawn(sleep);
    handle.request_stop();
    co_await std::move(handle);
  }(sleeper));
}

TEST_CASE("sleep: a hundred thousand at once all wake, and the timers are gone") {
  int woken = 0;
  auto sleeper = [](int n, int& count) -> task<> {
    const auto slept = co_await sleep_for(std::chrono::microseconds(n % 1000));
    if (slept) ++count;
  };
  keel::kevent_sys::sim_world world;
  keel::runtime rt({.factory = world.factory()});
  for (int i = 0; i < 100'000; ++i) rt.spawn(sleeper, i, std::ref(woken));
  rt.run();
  CHECK(woken == 100'000);
  CHECK(rt.at(0).queue().timers() == 0);
}

TEST_CASE("sleep: it may be moved while it is idle, and is awaited once") {
  run_simulated([]() -> task<> {
    keel::sleep_op idle = sleep_for(1ms);
    keel::sleep_op moved = std::move(idle);
    const auto slept = co_await std::move(moved);
    CHECK(slept);
  }());
  auto twice = []() -> task<> {
    keel::sleep_op once = sleep_for(1ns);
    static_cast<void>(co_await std::move(once));
    static_cast<void>(co_await std::move(once));
  };
  CHECK_DEATH(keel::run(twice()), "a sleep is awaited once");
}
