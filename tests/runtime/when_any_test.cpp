#include <keel/runtime/when_any.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <ostream>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "support/frame_balance.hpp"
#include "support/tracked.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::result;
using keel::sleep_for;
using keel::task;
using keel::when_any;
using keel::test::frame_balance;
using keel::test::now;
using keel::test::run_simulated;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

using two = keel::await_result<keel::when_any_op<task<int>, task<>>>;
static_assert(
    std::is_same_v<decltype(two::values), std::tuple<std::optional<int>, std::optional<std::monostate>>>);

task<result<int>> after(keel::duration d, int n) {
  co_await keel::or_return(sleep_for(d));
  co_return n;
}
task<int> stubborn(keel::duration d, int n) {
  static_cast<void>(co_await sleep_for(d));
  co_return n;
}
task<int> throwing(keel::duration d) {
  static_cast<void>(co_await sleep_for(d));
  throw std::runtime_error("thrown");
}

}  // namespace

TEST_CASE("when_any: the first that ends wins, and the others are stopped") {
  const frame_balance frames;
  run_simulated([]() -> task<> {
    const auto before = now();
    const auto first = co_await when_any(after(1h, 1), after(1s, 2), sleep_for(2h));
    CHECK(first.index == 1);
    REQUIRE(std::get<1>(first.values));
    CHECK(**std::get<1>(first.values) == 2);
    CHECK(std::get<0>(first.values)->error() == errc::operation_canceled);
    CHECK(std::get<2>(first.values)->error() == errc::operation_canceled);
    CHECK(now() - before < 2s);
    CHECK(keel::scheduler::current()->queue().timers() == 0);
  }());
}

TEST_CASE("when_any: what a loser had already done is not lost") {
  run_simulated([]() -> task<> {
    const auto first = co_await when_any(stubborn(1s, 1), stubborn(1h, 2));
    CHECK(first.index == 0);
    CHECK(*std::get<0>(first.values) == 1);
    CHECK(*std::get<1>(first.values) == 2);
  }());
}

TEST_CASE("when_any: of several that end at once the first operand wins, and all have their results") {
  run_simulated([]() -> task<> {
    auto at_once = [](int n) -> task<int> { co_return n; };
    auto nothing = []() -> task<> { co_return; };
    const auto first = co_await when_any(at_once(1), at_once(2), nothing());
    CHECK(first.index == 0);
    CHECK(*std::get<0>(first.values) == 1);
    CHECK(*std::get<1>(first.values) == 2);
    CHECK(std::get<2>(first.values).has_value());
  }());
}

TEST_CASE("when_any: an error result ends first, too") {
  run_simulated([]() -> task<> {
    auto failing = []() -> task<result<int>> { co_return errc::closed; };
    const auto first = co_await when_any(after(1h, 1), failing());
    CHECK(first.index == 1);
    CHECK(std::get<1>(first.values)->error() == errc::closed);
  }());
}

TEST_CASE("when_any: the winner's exception is thrown, after the others have ended") {
  const tracked_balance objects;
  const frame_balance frames;
  run_simulated([]() -> task<> {
    auto holding = [](tracked) -> task<result<int>> { co_return co_await after(1h, 1); };
    bool thrown = false;
    try {
      static_cast<void>(co_await when_any(holding(tracked(1)), throwing(1s)));
    } catch (const std::runtime_error&) {
      thrown = true;
      CHECK(tracked::alive() == 0);
    }
    CHECK(thrown);
  }());
}

TEST_CASE("when_any: a loser that throws has no value, and hurts nobody") {
  run_simulated([]() -> task<> {
    const auto first = co_await when_any(after(1s, 1), throwing(1h));
    CHECK(first.index == 0);
    CHECK(!std::get<1>(first.values).has_value());
  }());
}

TEST_CASE("when_any: losers are joined: their objects have gone when it returns") {
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    auto slow_to_end = [](tracked object) -> task<> {
      static_cast<void>(co_await sleep_for(1h));
      // Ends in its own time: being stopped is no interruption.
      auto unstoppable = []() -> task<> { co_return; };
      co_await unstoppable();
      object.value = 0;
    };
    static_cast<void>(co_await when_any(slow_to_end(tracked(1)), sleep_for(1s), slow_to_end(tracked(2))));
    CHECK(tracked::alive() == 0);
  }());
}

TEST_CASE("when_any: a stop from outside ends all of them") {
  run_simulated([]() -> task<> {
    auto waits = []() -> task<bool> {
      const auto first = co_await when_any(after(1h, 1), after(2h, 2));
      co_return std::get<0>(first.values)->error() == errc::operation_canceled &&
          std::get<1>(first.values)->error() == errc::operation_canceled;
    };
    auto handle = keel::spawn(waits);
    static_cast<void>(co_await sleep_for(1s));
    handle.request_stop();
    const bool canceled = co_await std::move(handle);
    CHECK(canceled);
  }());
}

TEST_CASE("when_any: move-only results, handles and one operand alone") {
  run_simulated([]() -> task<> {
    auto pointer = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(4); };
    auto first = co_await when_any(pointer(), keel::spawn(after, 1h, 5));
    CHECK(**std::get<0>(first.values) == 4);
    CHECK(std::get<1>(first.values)->error() == errc::operation_canceled);
    const auto alone = co_await when_any(after(1s, 1));
    CHECK(alone.index == 0);
    CHECK(**std::get<0>(alone.values) == 1);
  }());
}

TEST_CASE("when_any: it may be moved before it is awaited") {
  run_simulated([]() -> task<> {
    auto idle = when_any(after(1s, 1), after(2s, 2));
    auto moved = std::move(idle);
    const auto first = co_await std::move(moved);
    CHECK(first.index == 0);
  }());
}
