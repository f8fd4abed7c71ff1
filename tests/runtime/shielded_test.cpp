#include <keel/runtime/shielded.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/this_task.hpp>
#include <keel/runtime/when_any.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <ostream>
#include <stdexcept>
#include <string>

#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/sweep.hpp"
#include "support/tracked.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::result;
using keel::shielded;
using keel::sleep_for;
using keel::stop_level;
using keel::task;
using keel::test::frame_balance;
using keel::test::now;
using keel::test::run_simulated;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

// Takes two hours, whatever anybody says; then is stopped if anybody said so.
task<result<void>> says_goodbye(int& done) {
  const auto first = co_await shielded(sleep_for(1h));
  const auto second = co_await shielded(sleep_for(1h));
  done = (first ? 1 : 0) + (second ? 1 : 0);
  co_return co_await sleep_for(1h);
}

}  // namespace

TEST_CASE("shielded: a stop, of either level, waits until the section has ended") {
  const frame_balance frames;
  for (const stop_level level : {stop_level::graceful, stop_level::hard}) {
    run_simulated([](stop_level how) -> task<> {
      int done = 0;
      const auto before = now();
      auto handle = keel::spawn(says_goodbye, std::ref(done));
      static_cast<void>(co_await sleep_for(1s));
      handle.request_stop(how);
      const auto ended = co_await std::move(handle);
      CHECK(done == 2);
      if (how == stop_level::hard) {
        CHECK(ended.error() == errc::operation_canceled);
        CHECK(now() - before < 2h + 1s);
      } else {
        CHECK(ended);
      }
    }(level));
  }
}

TEST_CASE("shielded: it begins in a task that was stopped") {
  run_simulated([]() -> task<> {
    int done = 0;
    auto handle = keel::spawn(says_goodbye, std::ref(done));
    handle.request_stop();
    const auto ended = co_await std::move(handle);
    CHECK(done == 2);
    CHECK(ended.error() == errc::operation_canceled);
  }());
}

TEST_CASE("shielded: the task knows inside that it is not stopped, and outside that it is") {
  run_simulated([]() -> task<> {
    auto asks = [](bool& inside) -> task<> { inside = co_await keel::this_task::stopping(); };
    auto stopped = [](auto ask, bool& inside, bool& outside) -> task<> {
      co_await shielded(ask(inside));
      outside = co_await keel::this_task::stopping();
    };
    bool inside = true;
    bool outside = false;
    auto handle = keel::spawn(stopped, asks, std::ref(inside), std::ref(outside));
    handle.request_stop();
    co_await std::move(handle);
    CHECK(!inside);
    CHECK(outside);
  }());
}

TEST_CASE("shielded: a time of its own ends it, with timed_out") {
  run_simulated([]() -> task<> {
    auto cleans = []() -> task<result<void>> { co_return co_await shielded(2s, sleep_for(1h)); };
    const auto before = now();
    auto handle = keel::spawn(cleans);
    handle.request_stop();
    const auto ended = co_await std::move(handle);
    CHECK(ended.error() == errc::timed_out);
    CHECK(now() - before >= 2s);
    CHECK(now() - before < 3s);
    const auto in_time = co_await shielded(2h, sleep_for(1s));
    CHECK(in_time);
    CHECK(keel::scheduler::current()->queue().timers() == 0);
  }());
}

TEST_CASE("shielded: a deadline outside waits for it, and is not known inside") {
  run_simulated([]() -> task<> {
    auto asks = [](keel::time_point& seen) -> task<result<int>> {
      seen = co_await keel::this_task::deadline();
      const auto slept = co_await sleep_for(1h);
      co_return slept ? 1 : 2;
    };
    keel::time_point seen;
    const auto before = now();
    const auto got = co_await keel::with_timeout(1s, shielded(asks(seen)));
    // It is complete, so it beats the deadline.
    CHECK(*got == 1);
    CHECK(seen == keel::time_point::never());
    CHECK(now() - before >= 1h);
    auto knows_its_own = [](keel::time_point& at) -> task<> { at = co_await keel::this_task::deadline(); };
    static_cast<void>(co_await shielded(5s, knows_its_own(seen)));
    CHECK(seen == now() + 5s);
  }());
}

TEST_CASE("shielded: an exception goes through it") {
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    auto throwing = []() -> task<> {
      const tracked local(1);
      static_cast<void>(co_await sleep_for(1s));
      throw std::runtime_error("thrown");
    };
    std::string said;
    try {
      co_await shielded(throwing());
    } catch (const std::runtime_error& e) {
      said = e.what();
    }
    CHECK(said == "thrown");
  }());
}

TEST_CASE("shielded: a loser of when_any is joined when its section has ended") {
  run_simulated([]() -> task<> {
    int done = 0;
    const auto before = now();
    static_cast<void>(co_await keel::when_any(sleep_for(1s), says_goodbye(done)));
    CHECK(done == 2);
    CHECK(now() - before >= 2h);
  }());
}

TEST_CASE("shielded: C13, stopped at any point it ends, and has cleaned up") {
  keel::kevent_sys::sim_world world;
  keel::test::sweep_options options;
  options.runtime.factory = world.factory();
  int cleaned = 0;
  int begun = 0;
  auto session = [](int& started, int& ended) -> task<> {
    const tracked local(1);
    ++started;
    static_cast<void>(co_await sleep_for(1ms));
    static_cast<void>(co_await shielded(1s, sleep_for(1ms)));
    const auto last = co_await shielded(sleep_for(1ms));
    if (last) ++ended;
  };
  const tracked_balance objects;
  const unsigned runs = keel::test::sweep(
      [&](keel::runtime& rt) { rt.spawn(session, std::ref(begun), std::ref(cleaned)); }, options);
  CHECK(runs > 3);
  CHECK(cleaned == begun);
}

TEST_CASE("shielded: it may be moved before it is awaited, and is awaited once") {
  run_simulated([]() -> task<> {
    auto idle = shielded(sleep_for(1s));
    auto moved = std::move(idle);
    const auto slept = co_await std::move(moved);
    CHECK(slept);
  }());
  auto twice = []() -> task<> {
    auto once = shielded(sleep_for(1ns));
    static_cast<void>(co_await std::move(once));
    static_cast<void>(co_await std::move(once));
  };
  CHECK_DEATH(keel::run(twice()), "a shielded section is awaited once");
}
