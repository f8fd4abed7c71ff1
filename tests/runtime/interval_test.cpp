#include <keel/runtime/interval.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "support/build.hpp"
#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/sweep.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::interval;
using keel::missed_tick;
using keel::result;
using keel::sleep_for;
using keel::task;
using keel::test::frame_balance;
using keel::test::now;
using keel::test::run_simulated;

namespace {

// What a tick may be late: the scheduler's wheel counts in ticks of its own.
constexpr auto granule = 17us;

// When ticks came, and what they missed, in whole periods after `start`.
struct ticks {
  std::vector<int> came;
  std::vector<int> due;
  std::vector<int> missed;
};

// Ticks each 100 ms. After the second one, 250 ms pass in which nobody takes any: two more are due by then,
// and the one after is due in 50 ms.
task<ticks> stalled_once(missed_tick policy) {
  interval each{100ms, policy};
  ticks seen;
  const auto start = now();
  for (int i = 0; i < 6; ++i) {
    const auto got = co_await each.next();
    REQUIRE(got);
    seen.came.push_back(static_cast<int>((now() - start) / 1ms));
    seen.due.push_back(static_cast<int>((got->due - start) / 1ms));
    seen.missed.push_back(static_cast<int>(got->missed));
    if (i == 1) static_cast<void>(co_await sleep_for(250ms));
  }
  co_return seen;
}

}  // namespace

TEST_CASE("interval: the first tick comes after one period, each of them when the schedule says so") {
  const frame_balance frames;
  run_simulated([]() -> task<> {
    interval each{1s};
    const auto start = now();
    for (int i = 1; i <= 10; ++i) {
      const auto got = co_await each.next();
      REQUIRE(got);
      CHECK(got->due == start + i * 1s);
      CHECK(got->missed == 0);
      CHECK(now() >= got->due);
      CHECK(now() - got->due <= granule);
      // A job that takes most of the period puts nothing off.
      static_cast<void>(co_await sleep_for(900ms));
    }
    CHECK(keel::scheduler::current()->queue().timers() == 0);
  }());
}

TEST_CASE("interval: G5, a million ticks do not drift") {
  run_simulated([]() -> task<> {
    const int count = keel::test::sanitized ? 50'000 : 1'000'000;
    // Odd, so that rounding would show.
    interval each{1'000'003ns, missed_tick::skip};
    const auto start = now();
    for (int i = 1; i <= count; ++i) {
      const auto got = co_await each.next();
      if (!got || got->due != start + i * 1'000'003ns || got->missed != 0 || now() < got->due) FAIL(i);
    }
    CHECK(now() - start >= count * 1'000'003ns);
    CHECK(now() - start <= count * 1'000'003ns + granule);
  }());
}

TEST_CASE("interval: G5, burst makes up for what was missed") {
  const ticks seen = run_simulated(stalled_once(missed_tick::burst));
  CHECK(seen.came == std::vector<int>{100, 200, 450, 450, 500, 600});
  CHECK(seen.due == std::vector<int>{100, 200, 300, 400, 500, 600});
  CHECK(seen.missed == std::vector<int>{0, 0, 0, 0, 0, 0});
}

TEST_CASE("interval: G5, skip leaves out what was missed, and keeps the schedule") {
  const ticks seen = run_simulated(stalled_once(missed_tick::skip));
  CHECK(seen.came == std::vector<int>{100, 200, 450, 500, 600, 700});
  CHECK(seen.due == std::vector<int>{100, 200, 300, 500, 600, 700});
  CHECK(seen.missed == std::vector<int>{0, 0, 1, 0, 0, 0});
}

TEST_CASE("interval: G5, delay leaves out what was missed, and moves the schedule") {
  const ticks seen = run_simulated(stalled_once(missed_tick::delay));
  CHECK(seen.came == std::vector<int>{100, 200, 450, 550, 650, 750});
  CHECK(seen.missed == std::vector<int>{0, 0, 1, 0, 0, 0});
}

TEST_CASE("interval: with a time of its own the first tick comes then; one that has passed, at once") {
  run_simulated([]() -> task<> {
    const auto at = now() + 250ms;
    interval later(at, 1s);
    const auto first = co_await later.next();
    CHECK(first->due == at);
    const auto second = co_await later.next();
    CHECK(second->due == at + 1s);

    const auto before = now();
    interval at_once(now(), 1s);
    const auto immediate = co_await at_once.next();
    CHECK(immediate->due == before);
    CHECK(now() - before <= granule);
    static_cast<void>(co_await sleep_for(1h));
    interval long_ago(now() + -10500ms, 1s, missed_tick::skip);
    const auto missed = co_await long_ago.next();
    CHECK(missed->missed == 10);
    const auto on_schedule = co_await long_ago.next();
    CHECK(on_schedule->due == missed->due + 11s);
  }());
}

TEST_CASE("interval: reset begins anew, also while somebody waits") {
  run_simulated([]() -> task<> {
    interval each{1s};
    static_cast<void>(co_await each.next());
    static_cast<void>(co_await sleep_for(500ms));
    const auto at = now();
    each.reset();
    const auto got = co_await each.next();
    CHECK(got->due == at + 1s);

    auto waits = [](interval& of) -> task<keel::time_point> {
      const auto tick = co_await of.next();
      co_return tick->due;
    };
    for (const auto d : {500ms, 5000ms}) {
      auto waiting = keel::spawn(waits, std::ref(each));
      static_cast<void>(co_await sleep_for(100ms));
      const auto wanted = now() + d;
      each.reset_at(wanted);
      const auto due = co_await std::move(waiting);
      CHECK(due == wanted);
      CHECK(now() - wanted <= granule);
    }
  }());
}

TEST_CASE("interval: it is the condition of a loop that ends when stopped, and loses no tick") {
  run_simulated([]() -> task<> {
    interval each{1s};
    auto counts = [](interval& of, int& count) -> task<> {
      while (co_await of.next()) ++count;
    };
    int count = 0;
    auto loop = keel::spawn(counts, std::ref(each), std::ref(count));
    static_cast<void>(co_await sleep_for(3500ms));
    loop.request_stop();
    co_await std::move(loop);
    CHECK(count == 3);
    CHECK(keel::scheduler::current()->queue().timers() == 0);
    const auto start = now();
    const auto fourth = co_await each.next();
    CHECK(fourth);
    CHECK(now() - start <= 500ms + granule);

    auto stopped = keel::spawn(counts, std::ref(each), std::ref(count));
    stopped.request_stop();
    co_await std::move(stopped);
    CHECK(count == 3);
    auto one = [](interval& of) -> task<result<keel::interval_tick>> { co_return co_await of.next(); };
    auto canceled = keel::spawn(one, std::ref(each));
    canceled.request_stop();
    const auto why = co_await std::move(canceled);
    CHECK(why.error() == errc::operation_canceled);
    CHECK(why.why().doing == std::string("wait for a tick"));
  }());
}

TEST_CASE("interval: a graceful stop does not end it") {
  run_simulated([]() -> task<> {
    auto one = []() -> task<bool> {
      interval each{1s};
      const auto got = co_await each.next();
      co_return got.has_value();
    };
    auto handle = keel::spawn(one);
    handle.request_stop(keel::stop_level::graceful);
    const bool ticked = co_await std::move(handle);
    CHECK(ticked);
  }());
}

TEST_CASE("interval: G8, a burst that lags behind by a lot lets the others run") {
  run_simulated([]() -> task<> {
    static_cast<void>(co_await sleep_for(2h));
    interval each(now() + -1h, 1s);
    bool others_ran = false;
    auto other = [](bool& ran) -> task<> {
      ran = true;
      co_return;
    };
    keel::spawn(other, std::ref(others_ran));
    int count = 0;
    while (!others_ran) {
      static_cast<void>(co_await each.next());
      ++count;
    }
    CHECK(count < 10);
  }());
}

TEST_CASE("interval: G1, periods of any length") {
  run_simulated([]() -> task<> {
    interval shortest{1ns, missed_tick::skip};
    for (int i = 0; i < 100; ++i) {
      const auto got = co_await shortest.next();
      CHECK(now() >= got->due);
    }
    interval endless{keel::duration::max()};
    const auto never = co_await keel::with_timeout(24h * 365 * 200, endless.next());
    CHECK(never.error() == errc::timed_out);
  }());
}

TEST_CASE("interval: stopped at any point, nothing is left") {
  keel::kevent_sys::sim_world world;
  keel::test::sweep_options options;
  options.runtime.factory = world.factory();
  auto job = []() -> task<> {
    interval each{1ms, missed_tick::skip};
    for (int i = 0; i < 5; ++i) {
      const auto got = co_await each.next();
      if (!got) co_return;
    }
  };
  CHECK(keel::test::sweep([&](keel::runtime& rt) { rt.spawn(job); }, options) > 5);
}

TEST_CASE("interval: a period is longer than nothing") {
  CHECK_DEATH(interval(0s), "an interval has a period that is longer than nothing");
  CHECK_DEATH(interval(-1s), "an interval has a period that is longer than nothing");
}
