#include <keel/runtime/when_all.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <ostream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <variant>

#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/tracked.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::cancel_on_failure;
using keel::errc;
using keel::result;
using keel::sleep_for;
using keel::task;
using keel::when_all;
using keel::test::frame_balance;
using keel::test::now;
using keel::test::run_simulated;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

using three = keel::await_result<keel::when_all_op<task<int>, task<>, task<result<std::string>>>>;
static_assert(std::is_same_v<three, std::tuple<int, std::monostate, result<std::string>>>);

task<result<int>> after(keel::duration d, int n) {
  co_await keel::or_return(sleep_for(d));
  co_return n;
}
task<result<int>> failing(keel::duration d) {
  co_await keel::or_return(sleep_for(d));
  co_return errc::closed;
}
task<int> throwing(keel::duration d, const char* what) {
  static_cast<void>(co_await sleep_for(d));
  throw std::runtime_error(what);
}

// What the co_await of `both` throws.
template <class Awaitable>
task<std::string> thrown_by(Awaitable both) {
  try {
    static_cast<void>(co_await std::move(both));
  } catch (const std::runtime_error& e) {
    co_return e.what();
  }
  co_return "nothing";
}

}  // namespace

TEST_CASE("when_all: runs all at once and gives all results in their places") {
  const frame_balance frames;
  run_simulated([]() -> task<> {
    const auto before = now();
    const auto all = co_await when_all(after(3s, 1), after(1s, 2), after(2s, 3));
    CHECK(*std::get<0>(all) == 1);
    CHECK(*std::get<1>(all) == 2);
    CHECK(*std::get<2>(all) == 3);
    CHECK(now() - before >= 3s);
    CHECK(now() - before < 4s);
  }());
}

TEST_CASE("when_all: takes every kind of awaitable, void included, and moves results out") {
  run_simulated([]() -> task<> {
    auto pointer = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(4); };
    auto [owned, nothing, slept, joined, nested] =
        co_await when_all(pointer(), []() -> task<> { co_return; }(), sleep_for(1s),
                          keel::spawn(after, 1s, 5), when_all(after(1s, 6)));
    CHECK(*owned == 4);
    CHECK(nothing == std::monostate());
    CHECK(slept);
    CHECK(*joined == 5);
    CHECK(*std::get<0>(nested) == 6);
  }());
}

TEST_CASE("when_all: one operand is enough") {
  run_simulated([]() -> task<> {
    const auto one = co_await when_all(after(1s, 1));
    CHECK(*std::get<0>(one) == 1);
  }());
}

TEST_CASE("when_all: an exception is thrown after all have ended, the first in the order of the operands") {
  const tracked_balance objects;
  const frame_balance frames;
  run_simulated([]() -> task<> {
    auto holding = [](tracked) -> task<result<int>> { co_return co_await after(3s, 1); };
    const auto before = now();
    const auto said = co_await thrown_by(
        when_all(holding(tracked(1)), throwing(2s, "the later one"), throwing(1s, "the earlier one")));
    CHECK(said == "the later one");
    CHECK(now() - before >= 3s);
  }());
}

TEST_CASE("when_all: an error result is no reason to stop the others") {
  run_simulated([]() -> task<> {
    const auto all = co_await when_all(failing(1s), after(2s, 2));
    CHECK(std::get<0>(all).error() == errc::closed);
    CHECK(*std::get<1>(all) == 2);
  }());
}

TEST_CASE("when_all: with cancel_on_failure the first failure stops the others, whose ends are awaited") {
  const tracked_balance objects;
  const frame_balance frames;
  run_simulated([]() -> task<> {
    auto holding = [](tracked) -> task<result<int>> { co_return co_await after(1h, 1); };
    const auto before = now();
    {
      const auto all = co_await when_all(cancel_on_failure, holding(tracked(1)), failing(1s), after(1ms, 3));
      CHECK(std::get<0>(all).error() == errc::operation_canceled);
      CHECK(std::get<1>(all).error() == errc::closed);
      CHECK(*std::get<2>(all) == 3);
    }
    CHECK(tracked::alive() == 0);
    const auto said = co_await thrown_by(when_all(cancel_on_failure, after(1h, 1), throwing(1s, "thrown")));
    CHECK(said == "thrown");
    CHECK(now() - before < 3s);
  }());
}

TEST_CASE("when_all: with cancel_on_failure successes stop nobody") {
  run_simulated([]() -> task<> {
    const auto all = co_await when_all(cancel_on_failure, after(1s, 1), after(2s, 2));
    CHECK(*std::get<0>(all) == 1);
    CHECK(*std::get<1>(all) == 2);
  }());
}

TEST_CASE("when_all: a failure before others have started stops them at their first wait") {
  run_simulated([]() -> task<> {
    auto at_once = []() -> task<result<int>> { co_return errc::closed; };
    const auto before = now();
    const auto all = co_await when_all(cancel_on_failure, at_once(), after(1h, 2));
    CHECK(std::get<1>(all).error() == errc::operation_canceled);
    CHECK(now() - before < 1s);
  }());
}

TEST_CASE("when_all: a stop from outside is passed on to every operand") {
  run_simulated([]() -> task<> {
    auto waits = []() -> task<int> {
      const auto both = co_await when_all(after(1h, 1), sleep_for(2h));
      const bool stopped = std::get<0>(both).error() == errc::operation_canceled &&
                           std::get<1>(both).error() == errc::operation_canceled;
      co_return stopped ? 1 : 0;
    };
    auto handle = keel::spawn(waits);
    static_cast<void>(co_await sleep_for(1s));
    handle.request_stop();
    const int stopped = co_await std::move(handle);
    CHECK(stopped == 1);
  }());
}

TEST_CASE("when_all: a thousand of them, one inside the other") {
  const frame_balance frames;
  struct nest {
    static task<int> depth(int n) {
      if (n == 0) co_return 0;
      const auto both = co_await when_all(depth(n - 1), sleep_for(1ns));
      co_return 1 + std::get<0>(both);
    }
  };
  CHECK(run_simulated(nest::depth(1'000)) == 1'000);
}

TEST_CASE("when_all: it may be moved before it is awaited, and is awaited once") {
  run_simulated([]() -> task<> {
    auto idle = when_all(after(1s, 1), after(1s, 2));
    auto moved = std::move(idle);
    const auto all = co_await std::move(moved);
    CHECK(*std::get<1>(all) == 2);
  }());
  auto twice = []() -> task<> {
    auto once = when_all(sleep_for(1ns));
    static_cast<void>(co_await std::move(once));
    static_cast<void>(co_await std::move(once));
  };
  CHECK_DEATH(keel::run(twice()), "a combinator is awaited once");
}
