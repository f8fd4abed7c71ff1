#include <keel/runtime/timer.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/when_all.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "support/build.hpp"
#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/seed.hpp"
#include "support/sweep.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::result;
using keel::sleep_for;
using keel::task;
using keel::timer;
using keel::test::frame_balance;
using keel::test::now;
using keel::test::run_simulated;

namespace {

// What a timer may be late: its wheel counts in ticks.
constexpr auto tick = 17us;

task<result<void>> wait_for(timer& t) {
  co_return co_await t.wait();
}

}  // namespace

TEST_CASE("timer: expires at its time and never earlier") {
  const frame_balance frames;
  run_simulated([]() -> task<> {
    timer t;
    for (const keel::duration d : {1ns, 999'999ns, 1'000'000'000ns, 3'600'000'000'000ns}) {
      const auto before = now();
      t.arm_after(d);
      CHECK(t.armed());
      const auto expired = co_await t.wait();
      CHECK(expired);
      CHECK(!t.armed());
      CHECK(now() - before >= d);
      CHECK(now() - before <= d + tick);
    }
    const auto at = now() + 5s;
    t.arm_at(at);
    CHECK(t.deadline() == at);
    const auto expired = co_await t.wait();
    CHECK(expired);
    CHECK(now() >= at);
    t.arm_at(at);
    const auto passed = co_await t.wait();
    CHECK(passed);
    CHECK(now() - at <= 2 * tick);
  }());
}

TEST_CASE("timer: on the real clock, too") {
  keel::run([]() -> task<> {
    timer t;
    const auto before = std::chrono::steady_clock::now();
    t.arm_after(1ms);
    t.arm_after(3ms);
    const auto expired = co_await t.wait();
    CHECK(expired);
    CHECK(std::chrono::steady_clock::now() - before >= 3ms);
  }());
}

TEST_CASE("timer: armed anew while somebody waits, it expires at the last time that was said") {
  run_simulated([]() -> task<> {
    timer t;
    t.arm_after(10s);
    auto waits = keel::spawn(wait_for, std::ref(t));
    for (int i = 0; i < 100; ++i) {
      static_cast<void>(co_await sleep_for(9s));
      CHECK(!waits.done());
      t.arm_after(10s);
    }
    const auto last = now();
    const auto later = co_await std::move(waits);
    CHECK(later);
    CHECK(now() - last >= 10s);
    CHECK(now() - last <= 10s + tick);

    t.arm_after(1h);
    auto waits_again = keel::spawn(wait_for, std::ref(t));
    static_cast<void>(co_await sleep_for(1s));
    const auto before = now();
    t.arm_after(1s);
    const auto sooner = co_await std::move(waits_again);
    CHECK(sooner);
    CHECK(now() - before <= 1s + tick);
    CHECK(keel::scheduler::current()->queue().timers() == 0);
  }());
}

TEST_CASE("timer: cancel ends the wait, and nothing is armed any more") {
  run_simulated([]() -> task<> {
    timer t;
    CHECK(!t.cancel());
    t.arm_after(1h);
    auto waits = keel::spawn(wait_for, std::ref(t));
    static_cast<void>(co_await sleep_for(1s));
    const auto before = now();
    CHECK(t.cancel());
    CHECK(!t.cancel());
    CHECK(keel::scheduler::current()->queue().timers() == 0);
    const auto ended = co_await std::move(waits);
    CHECK(ended.error() == errc::operation_canceled);
    CHECK(ended.why().doing == std::string("wait for a timer"));
    CHECK(now() == before);
  }());
}

TEST_CASE("timer: not armed, it is waited for until somebody arms it") {
  run_simulated([]() -> task<> {
    timer t;
    auto waits = keel::spawn(wait_for, std::ref(t));
    static_cast<void>(co_await sleep_for(1h));
    CHECK(!waits.done());
    t.arm_after(1s);
    const auto ended = co_await std::move(waits);
    CHECK(ended);
  }());
}

TEST_CASE("timer: an expiry for which nobody waited is kept, once, and forgotten when it is armed anew") {
  run_simulated([]() -> task<> {
    timer t;
    t.arm_after(1s);
    static_cast<void>(co_await sleep_for(1min));
    CHECK(!t.armed());
    const auto before = now();
    const auto kept = co_await t.wait();
    CHECK(kept);
    CHECK(now() == before);
    t.arm_after(1s);
    static_cast<void>(co_await sleep_for(1min));
    t.arm_after(1min);
    const auto again = co_await t.wait();
    CHECK(again);
    CHECK(now() - before >= 2min);
  }());
}

TEST_CASE("timer: G7, of an expiry and a cancel exactly one happens, in either order of one turn") {
  run_simulated([]() -> task<> {
    timer t;
    auto cancels_at = [](timer& other, keel::time_point at, bool& canceled) -> task<> {
      static_cast<void>(co_await keel::sleep_until(at));
      canceled = other.cancel();
    };
    for (const bool cancel_first : {false, true}) {
      CAPTURE(cancel_first);
      bool canceled = false;
      const auto at = now() + 1s;
      if (!cancel_first) t.arm_at(at);
      auto cancels = keel::spawn(cancels_at, std::ref(t), at, std::ref(canceled));
      static_cast<void>(co_await sleep_for(1ms));
      if (cancel_first) t.arm_at(at);
      const auto ended = co_await t.wait();
      co_await std::move(cancels);
      CHECK(ended.has_value() != canceled);
      CHECK(canceled == cancel_first);
    }
  }());
}

TEST_CASE("timer: a stop ends the wait, and the timer stays as it was") {
  run_simulated([]() -> task<> {
    timer t;
    t.arm_after(1h);
    auto waits = keel::spawn(wait_for, std::ref(t));
    static_cast<void>(co_await sleep_for(1s));
    waits.request_stop();
    const auto ended = co_await std::move(waits);
    CHECK(ended.error() == errc::operation_canceled);
    CHECK(t.armed());
    auto stopped_before = keel::spawn(wait_for, std::ref(t));
    stopped_before.request_stop();
    const auto not_begun = co_await std::move(stopped_before);
    CHECK(not_begun.error() == errc::operation_canceled);
    const auto in_time = co_await t.wait();
    CHECK(in_time);
  }());
}

TEST_CASE("timer: G1, times of any length") {
  run_simulated([]() -> task<> {
    timer t;
    t.arm_after(keel::duration::max());
    CHECK(t.deadline() == keel::time_point::never());
    static_cast<void>(co_await sleep_for(24h * 365 * 200));
    CHECK(t.armed());
    for (const keel::duration d : {keel::duration::min(), -1ns, 0ns}) {
      const auto before = now();
      t.arm_after(d);
      const auto at_once = co_await t.wait();
      CHECK(at_once);
      CHECK(now() - before <= tick);
    }
  }());
}

TEST_CASE("timer: G4, a hundred thousand at random times, put off at random: none is early") {
  const auto seed = keel::test::chosen_seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  run_simulated([](std::mt19937_64& generate) -> task<> {
    const std::size_t count = keel::test::sanitized ? 10'000 : 100'000;
    const auto timers = std::make_unique<timer[]>(count);
    std::vector<keel::time_point> due(count);
    for (std::size_t i = 0; i < 3 * count; ++i) {
      const std::size_t which = generate() % count;
      if (i % 1000 == 0) static_cast<void>(co_await sleep_for(1us));
      due[which] = now() + keel::duration(generate() % 1'000'000'000);
      timers[which].arm_at(due[which]);
    }
    for (std::size_t i = 0; i < count; ++i) {
      if (due[i] == keel::time_point()) continue;
      const auto expired = co_await timers[i].wait();
      if (!expired || now() < due[i]) FAIL("early: ", i);
    }
    CHECK(keel::scheduler::current()->queue().timers() == 0);
  }(random));
}

TEST_CASE("timer: G6, ten million times armed anew and cancelled leave nothing behind") {
  run_simulated([]() -> task<> {
    timer t;
    const auto before = keel::this_thread_frames();
    for (int i = 0; i < (keel::test::sanitized ? 100'000 : 10'000'000); ++i) {
      t.arm_after(1h);
      if (i % 3 == 0) t.cancel();
    }
    CHECK(keel::scheduler::current()->queue().timers() <= 1);
    t.cancel();
    CHECK(keel::scheduler::current()->queue().timers() == 0);
    CHECK(keel::this_thread_frames().fresh == before.fresh);
    co_return;
  }());
}

TEST_CASE("timer: stopped at any point, nothing is left") {
  keel::kevent_sys::sim_world world;
  keel::test::sweep_options options;
  options.runtime.factory = world.factory();
  auto connection = []() -> task<> {
    timer idle;
    auto activity = [](timer& t) -> task<> {
      for (int i = 0; i < 5; ++i) {
        t.arm_after(10ms);
        static_cast<void>(co_await sleep_for(5ms));
      }
    };
    static_cast<void>(co_await keel::when_all(activity(idle), wait_for(idle)));
  };
  CHECK(keel::test::sweep([&](keel::runtime& rt) { rt.spawn(connection); }, options) > 5);
}

TEST_CASE("timer: one waits, and it outlives whoever waits") {
  auto two_wait = []() -> task<> {
    timer t;
    static_cast<void>(co_await keel::when_all(wait_for(t), wait_for(t)));
  };
  CHECK_DEATH(run_simulated(two_wait()), "a timer wakes one: somebody else waits for it");
  auto destroyed = []() -> task<> {
    auto t = std::make_unique<timer>();
    auto waits = keel::spawn(wait_for, std::ref(*t));
    static_cast<void>(co_await sleep_for(1s));
    t.reset();
  };
  CHECK_DEATH(run_simulated(destroyed()), "a timer was destroyed while somebody waits for it");
  CHECK_DEATH(timer().arm_after(1s), "this needs a scheduler");
}
