// or_return inside tasks: a coroutine that ends although it never wakes up again.
#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/when_all.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <ostream>
#include <stdexcept>
#include <string>

#include "support/frame_balance.hpp"
#include "support/tracked.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::or_return;
using keel::result;
using keel::task;
using keel::test::frame_balance;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

struct how {
  bool late = false;
  errc error = {};
  bool throws = false;
};

task<result<int>> child(how h) {
  const tracked local(1);
  if (h.late) static_cast<void>(co_await keel::sleep_for(1us));
  if (h.throws) throw std::runtime_error("thrown");
  if (h.error != errc{}) co_return keel::failure(h.error, "child");
  co_return 20;
}

task<result<int>> parent(how h) {
  const tracked local(2);
  const int n = co_await or_return(child(h));
  co_return n + local.value;
}

task<result<std::string>> grandparent(how h) {
  const tracked local(3);
  const int n = co_await or_return(parent(h));
  co_return std::to_string(n + local.value);
}

template <bool Late>
void check_all_ways() {
  const tracked_balance objects;
  const frame_balance frames;
  CHECK(*keel::run(grandparent({.late = Late})) == "25");

  const auto failed = keel::run(grandparent({.late = Late, .error = errc::closed}));
  REQUIRE(!failed);
  CHECK(failed.error() == errc::closed);
  CHECK(failed.why().doing == std::string("child"));

  bool thrown = false;
  try {
    static_cast<void>(keel::run(grandparent({.late = Late, .throws = true})));
  } catch (const std::runtime_error&) {
    thrown = true;
  }
  CHECK(thrown);
}

}  // namespace

TEST_CASE("or_return: a value, an error and an exception pass through coroutines, at once") {
  check_all_ways<false>();
}

TEST_CASE("or_return: a value, an error and an exception pass through coroutines, later") {
  check_all_ways<true>();
}

TEST_CASE("or_return: an error destroys the locals before whoever awaits goes on") {
  const tracked_balance objects;
  const frame_balance frames;
  auto outer = [](how h) -> task<int> {
    const tracked local(1);
    task<result<int>> inner = parent(h);
    const auto got = co_await std::move(inner);
    CHECK(tracked::alive() == 1);
    co_return got ? 0 : 1;
  };
  CHECK(keel::run(outer({.error = errc::closed})) == 1);
  CHECK(keel::run(outer({.late = true, .error = errc::closed})) == 1);
}

TEST_CASE("or_return: it takes every awaitable that gives a result") {
  const frame_balance frames;
  auto all = []() -> task<result<int>> {
    co_await or_return(keel::sleep_for(1us));
    int n = co_await or_return(keel::with_timeout(1h, child({})));
    n += co_await or_return(child({.late = true}));
    auto handle = keel::spawn(child, how{});
    n += co_await or_return(std::move(handle));
    task<result<int>> named = child({});
    n += co_await or_return(std::move(named));
    co_return n;
  };
  CHECK(*keel::run(all()) == 80);
}

TEST_CASE("or_return: a deadline's error ends the coroutine, too") {
  const tracked_balance objects;
  const frame_balance frames;
  auto impatient = []() -> task<result<int>> {
    const tracked local(1);
    co_await or_return(keel::with_timeout(1ms, keel::sleep_for(1h)));
    co_return 1;
  };
  CHECK(keel::run(impatient()).error() == errc::timed_out);
}

TEST_CASE("or_return: a coroutine that ends early is joined by a handle and by combinators as any other") {
  const tracked_balance objects;
  const frame_balance frames;
  auto main = []() -> task<> {
    auto handle = keel::spawn(parent, how{.late = true, .error = errc::closed});
    const auto joined = co_await std::move(handle);
    CHECK(joined.error() == errc::closed);
    const auto both = co_await keel::when_all(parent({.error = errc::closed}), parent({.late = true}));
    CHECK(std::get<0>(both).error() == errc::closed);
    CHECK(*std::get<1>(both) == 22);
    const auto in_time = co_await keel::with_timeout(1h, parent({.late = true, .error = errc::closed}));
    CHECK(in_time.error() == errc::closed);
  };
  keel::run(main());
}

TEST_CASE("or_return: a move-only value moves through") {
  const tracked_balance objects;
  auto make = []() -> task<result<tracked>> { co_return tracked(9); };
  auto outer = [](auto maker) -> task<result<int>> {
    tracked object = co_await or_return(maker());
    co_return object.value;
  };
  CHECK(*keel::run(outer(make)) == 9);
}

TEST_CASE("or_return: a loop may end a million coroutines early") {
  const frame_balance frames;
  auto passing_on = []() -> task<result<int>> {
    co_await or_return([]() -> task<result<void>> { co_return errc::closed; }());
    co_return 1;
  };
  auto loop = [](auto make) -> task<int> {
    int errors = 0;
    for (int i = 0; i < 1'000'000; ++i) {
      const auto got = co_await make();
      if (!got) ++errors;
    }
    co_return errors;
  };
  CHECK(keel::run(loop(passing_on)) == 1'000'000);
}

namespace {

task<result<int>> failing_depth(int n, bool late) {
  if (n == 0 && late) static_cast<void>(co_await keel::sleep_for(1us));
  if (n == 0) co_return errc::closed;
  co_return 1 + co_await or_return(failing_depth(n - 1, late));
}

}  // namespace

TEST_CASE("or_return: an error comes up from a deep recursion") {
  const frame_balance frames;
  CHECK(keel::run(failing_depth(100'000, false)).error() == errc::closed);
  CHECK(keel::run(failing_depth(100'000, true)).error() == errc::closed);
}
