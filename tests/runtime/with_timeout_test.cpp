#include <keel/runtime/with_timeout.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/scope.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/this_task.hpp>
#include <keel/runtime/when_all.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <malloc.h>
#include <ostream>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "support/build.hpp"
#include "support/frame_balance.hpp"
#include "support/tracked.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::result;
using keel::sleep_for;
using keel::task;
using keel::with_deadline;
using keel::with_timeout;
using keel::test::frame_balance;
using keel::test::now;
using keel::test::run_simulated;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

template <class T>
using timed = keel::await_result<decltype(with_timeout(1s, std::declval<T>()))>;

static_assert(std::is_same_v<timed<task<int>>, result<int>>);
static_assert(std::is_same_v<timed<task<result<int>>>, result<int>>);
static_assert(std::is_same_v<timed<task<>>, result<void>>);
static_assert(std::is_same_v<timed<task<result<void>>>, result<void>>);
static_assert(std::is_same_v<timed<keel::sleep_op>, result<void>>);
static_assert(std::is_same_v<timed<keel::join_handle<std::string>>, result<std::string>>);

// Ends after `d` with what its name says; when it is stopped before, with operation_canceled where it can say
// so.
task<> plain(keel::duration d) { static_cast<void>(co_await sleep_for(d)); }
task<int> number(keel::duration d) {
  const auto slept = co_await sleep_for(d);
  co_return slept ? 1 : 2;
}
task<result<int>> answer(keel::duration d) {
  co_await keel::or_return(sleep_for(d));
  co_return 1;
}
task<result<int>> failing(keel::duration d) {
  co_await keel::or_return(sleep_for(d));
  co_return errc::closed;
}
task<int> throwing(keel::duration d) {
  static_cast<void>(co_await sleep_for(d));
  throw std::runtime_error("thrown");
}
// Has its answer in spite of the stop.
task<result<int>> stubborn(keel::duration d) {
  static_cast<void>(co_await sleep_for(d));
  co_return 3;
}

}  // namespace

TEST_CASE("with_timeout: what ends in time gives its result, and no timer stays") {
  const frame_balance frames;
  run_simulated([]() -> task<> {
    const auto before = now();
    const auto nothing = co_await with_timeout(1h, plain(1s));
    CHECK(nothing);
    const auto one = co_await with_timeout(1h, number(1s));
    CHECK(*one == 1);
    const auto got = co_await with_timeout(1h, answer(1s));
    CHECK(*got == 1);
    const auto failed = co_await with_timeout(1h, failing(1s));
    CHECK(failed.error() == errc::closed);
    const auto slept = co_await with_timeout(1h, sleep_for(1s));
    CHECK(slept);
    const auto joined = co_await with_timeout(1h, keel::spawn(answer, 1s));
    CHECK(*joined == 1);
    CHECK(now() - before < 10s);
    CHECK(keel::scheduler::current()->queue().timers() == 0);
  }());
}

TEST_CASE("with_timeout: what does not is stopped, and timed_out") {
  const frame_balance frames;
  run_simulated([]() -> task<> {
    const auto before = now();
    const auto nothing = co_await with_timeout(1s, plain(1h));
    CHECK(nothing.error() == errc::timed_out);
    CHECK(nothing.why().doing == std::string("with_timeout"));
    const auto got = co_await with_timeout(1s, answer(1h));
    CHECK(got.error() == errc::timed_out);
    const auto slept = co_await with_timeout(1s, sleep_for(1h));
    CHECK(slept.error() == errc::timed_out);
    const auto joined = co_await with_timeout(1s, keel::spawn(answer, 1h));
    CHECK(joined.error() == errc::timed_out);
    CHECK(joined.error() == std::errc::timed_out);
    CHECK(now() - before >= 4s);
    CHECK(now() - before < 5s);
  }());
}

TEST_CASE("with_timeout: an answer that is complete beats the deadline") {
  run_simulated([]() -> task<> {
    const auto anyway = co_await with_timeout(1s, stubborn(1h));
    CHECK(*anyway == 3);
    // It saw the stop and had a number all the same.
    const auto number_anyway = co_await with_timeout(1s, number(1h));
    CHECK(*number_anyway == 2);
    const auto own_error = co_await with_timeout(1s, []() -> task<result<int>> {
      static_cast<void>(co_await sleep_for(1h));
      co_return errc::closed;
    }());
    CHECK(own_error.error() == errc::closed);
  }());
}

TEST_CASE("with_timeout: what ends without a wait beats a deadline of nothing") {
  run_simulated([]() -> task<> {
    const auto at_once = co_await with_timeout(0s, []() -> task<int> { co_return 5; }());
    CHECK(*at_once == 5);
    const auto nothing = co_await with_timeout(-1s, []() -> task<> { co_return; }());
    CHECK(nothing);
    const auto slow = co_await with_timeout(0s, answer(1h));
    CHECK(slow.error() == errc::timed_out);
  }());
}

TEST_CASE("with_timeout: an exception leaves the co_await, in time or late") {
  const frame_balance frames;
  run_simulated([]() -> task<> {
    for (const auto limit : {1h, 0h}) {
      bool thrown = false;
      try {
        static_cast<void>(co_await with_timeout(limit, throwing(1s)));
      } catch (const std::runtime_error&) {
        thrown = true;
      }
      CHECK(thrown);
    }
  }());
}

TEST_CASE("with_timeout: a stop from outside is operation_canceled, not timed_out") {
  auto waits = []() -> task<result<int>> { co_return co_await with_timeout(1h, answer(2h)); };
  run_simulated([](auto wait) -> task<> {
    auto handle = keel::spawn(wait);
    static_cast<void>(co_await sleep_for(1s));
    handle.request_stop();
    const auto ended = co_await std::move(handle);
    CHECK(ended.error() == errc::operation_canceled);
  }(waits));
}

TEST_CASE("with_timeout: a graceful stop from outside does not end it") {
  auto waits = []() -> task<result<int>> { co_return co_await with_timeout(2h, answer(1h)); };
  run_simulated([](auto wait) -> task<> {
    auto handle = keel::spawn(wait);
    handle.request_stop(keel::stop_level::graceful);
    const auto ended = co_await std::move(handle);
    CHECK(ended);
  }(waits));
}

TEST_CASE("with_timeout: of nested deadlines the one that passes first says so") {
  run_simulated([]() -> task<> {
    const auto before = now();
    const auto inner_first = co_await with_timeout(1h, with_timeout(1s, answer(2h)));
    CHECK(inner_first.error() == errc::timed_out);
    CHECK(now() - before < 2s);
    const auto outer_first = co_await with_timeout(1s, with_timeout(1h, answer(2h)));
    CHECK(outer_first.error() == errc::timed_out);
    CHECK(now() - before < 3s);

    // The inner one hears of a stop from outside, and says so inside.
    errc seen = {};
    auto observed = [](errc& inside) -> task<result<int>> {
      const auto got = co_await with_timeout(1h, answer(2h));
      if (got.error() == errc::operation_canceled) inside = errc::operation_canceled;
      co_return got;
    };
    const auto outer = co_await with_timeout(1s, observed(seen));
    CHECK(outer.error() == errc::timed_out);
    CHECK(seen == errc::operation_canceled);
  }());
}

TEST_CASE("with_timeout: around several") {
  run_simulated([]() -> task<> {
    const auto both = co_await with_timeout(1s, keel::when_all(answer(1h), stubborn(1h), answer(1ms)));
    // A tuple is an answer, whatever is in it.
    REQUIRE(both);
    CHECK(std::get<0>(*both).error() == errc::operation_canceled);
    CHECK(*std::get<1>(*both) == 3);
    CHECK(*std::get<2>(*both) == 1);
  }());
}

TEST_CASE("with_timeout: the locals of what was stopped have gone when it returns") {
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    auto holding = [](tracked) -> task<result<void>> {
      const tracked local(1);
      co_return co_await sleep_for(1h);
    };
    {
      const auto ended = co_await with_timeout(1s, holding(tracked(2)));
      CHECK(ended.error() == errc::timed_out);
    }
    CHECK(tracked::alive() == 0);
  }());
}

TEST_CASE("G6, with_timeout: ten million of them leave nothing behind, and memory flat") {
  // Each takes two timers; virtual time makes them quick.
  keel::test::run_simulated([]() -> task<> {
    auto one = []() -> task<result<void>> { co_return co_await sleep_for(1ns); };
    static_cast<void>(co_await with_timeout(1h, one()));
    const auto before = keel::this_thread_frames();
    const std::size_t heap_bytes = ::mallinfo2().uordblks;
    for (int i = 0; i < (keel::test::sanitized ? 100'000 : 10'000'000); ++i) {
      const auto ended = co_await with_timeout(1h, one());
      if (!ended) throw std::runtime_error("a sleep failed");
    }
    CHECK(keel::this_thread_frames().fresh == before.fresh);
    CHECK(::mallinfo2().uordblks < heap_bytes + 65'536);
    CHECK(keel::scheduler::current()->queue().timers() == 0);
  }());
}

TEST_CASE("with_deadline: ends at its time, and an hour that has passed ends at the next turn") {
  run_simulated([]() -> task<> {
    const auto at = now() + 10s;
    const auto late = co_await with_deadline(at, answer(1h));
    CHECK(late.error() == errc::timed_out);
    CHECK(late.why().doing == std::string("with_deadline"));
    CHECK(now() >= at);
    CHECK(now() - at < 1ms);
    const auto passed = co_await with_deadline(at, answer(1h));
    CHECK(passed.error() == errc::timed_out);
    CHECK(now() - at < 1ms);
    const auto in_time = co_await with_deadline(now() + 10s, answer(1s));
    CHECK(*in_time == 1);
    const auto never = co_await with_deadline(keel::time_point::never(), answer(24h * 365));
    CHECK(*never == 1);
    CHECK(keel::scheduler::current()->queue().timers() == 0);
  }());
}

TEST_CASE("with_deadline: the nearest one wins, and only that one says timed_out") {
  struct seen {
    errc inner = {};
    errc outer = {};
  };
  auto nested = [](seen& what, keel::time_point outer_at, keel::time_point inner_at) -> task<> {
    auto inside = [](seen& notes, keel::time_point at) -> task<result<int>> {
      const auto got = co_await with_deadline(at, answer(1h));
      notes.inner = got.error() == errc::timed_out ? errc::timed_out : errc::operation_canceled;
      if (got.error() == errc::timed_out) co_return 7;
      co_return got;
    };
    const auto got = co_await with_deadline(outer_at, inside(what, inner_at));
    if (!got) what.outer = got.error() == errc::timed_out ? errc::timed_out : errc::operation_canceled;
  };
  run_simulated([](auto run) -> task<> {
    seen what;
    co_await run(what, now() + 1min, now() + 1s);
    CHECK(what.inner == errc::timed_out);
    CHECK(what.outer == errc());
    what = {};
    co_await run(what, now() + 1s, now() + 1min);
    CHECK(what.inner == errc::operation_canceled);
    CHECK(what.outer == errc::timed_out);
    // Of two that pass at once the outer one was first.
    what = {};
    const auto at = now() + 1s;
    co_await run(what, at, at);
    CHECK(what.inner == errc::operation_canceled);
    CHECK(what.outer == errc::timed_out);
  }(nested));
}

TEST_CASE("this_task::deadline: the nearest around it, through tasks, branches and children") {
  run_simulated([]() -> task<> {
    auto ask = []() -> task<keel::time_point> { co_return co_await keel::this_task::deadline(); };
    const auto none = co_await ask();
    CHECK(none == keel::time_point::never());

    const auto at = now() + 10s;
    const auto outer = co_await with_deadline(at, ask());
    CHECK(*outer == at);
    const auto nearer = co_await with_deadline(at, with_timeout(1s, ask()));
    CHECK(*nearer == now() + 1s);
    const auto further = co_await with_deadline(at, with_timeout(1h, ask()));
    CHECK(*further == at);
    const auto endless = co_await with_timeout(keel::duration::max(), ask());
    CHECK(*endless - now() > 24h * 365 * 200);

    const auto branches = co_await with_deadline(at, keel::when_all(ask(), with_timeout(2s, ask())));
    CHECK(std::get<0>(*branches) == at);
    CHECK(*std::get<1>(*branches) == now() + 2s);

    keel::time_point child;
    auto note = [](keel::time_point& seen) -> task<> { seen = co_await keel::this_task::deadline(); };
    static_cast<void>(co_await with_deadline(at, keel::scope([&](keel::scope& children) -> task<> {
      children.spawn(note, std::ref(child));
      co_return;
    })));
    CHECK(child == at);
    const auto after = co_await ask();
    CHECK(after == keel::time_point::never());
  }());
}

TEST_CASE("with_timeout: G1, limits of any size: none is early, and the longest never come") {
  run_simulated([]() -> task<> {
    for (const keel::duration d : {keel::duration::min(), -1ns, 0ns}) {
      const auto at_once = co_await with_timeout(d, answer(1h));
      CHECK(at_once.error() == errc::timed_out);
    }
    const auto never_1 = co_await with_timeout(keel::duration::max(), answer(24h * 365 * 100));
    CHECK(never_1);
    const auto never_2 = co_await with_timeout(std::chrono::hours::max(), answer(24h));
    CHECK(never_2);
  }());
}
