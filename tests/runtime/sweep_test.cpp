// Everything in runtime/ that waits, stopped at every point.
#include "support/sweep.hpp"

#include <keel/runtime/graceful.hpp>
#include <keel/runtime/scope.hpp>
#include <keel/runtime/signals.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/when_all.hpp>
#include <keel/runtime/when_any.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <csignal>
#include <functional>
#include <memory>
#include <unistd.h>

#include "support/tracked.hpp"

using namespace std::chrono_literals;
using keel::result;
using keel::runtime;
using keel::scope;
using keel::task;
using keel::test::sweep;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

task<result<int>> nap(int n) {
  const tracked local(n);
  const auto slept = co_await keel::sleep_for(std::chrono::microseconds(n));
  if (!slept) co_return slept.why();
  co_return n;
}

task<result<int>> naps(int count) {
  int sum = 0;
  for (int i = 1; i <= count; ++i) sum += co_await keel::or_return(nap(i));
  co_return sum;
}

task<> forget(task<result<int>> what) { static_cast<void>(co_await std::move(what)); }

}  // namespace

TEST_CASE("sweep: sleeps, one after the other and beside one another") {
  const tracked_balance objects;
  CHECK(sweep([](runtime& rt) {
          for (int i = 1; i <= 3; ++i) rt.spawn(forget, naps(i));
        }) > 5);
}

TEST_CASE("sweep: with_timeout, around what is quicker and what is slower, nested") {
  const tracked_balance objects;
  auto impatient = []() -> task<> {
    static_cast<void>(co_await keel::with_timeout(1h, naps(2)));
    static_cast<void>(co_await keel::with_timeout(50us, keel::sleep_for(1h)));
    static_cast<void>(co_await keel::with_timeout(1h, keel::with_timeout(50us, nap(3'600'000))));
    static_cast<void>(co_await keel::with_timeout(0s, naps(3)));
  };
  CHECK(sweep([&](runtime& rt) { rt.spawn(impatient); }) > 4);
}

TEST_CASE("sweep: when_any and when_all, with winners, losers and failures") {
  const tracked_balance objects;
  auto racing = []() -> task<> {
    static_cast<void>(co_await keel::when_any(nap(10), nap(20), keel::sleep_for(1h)));
    static_cast<void>(co_await keel::when_all(nap(10), naps(2), keel::sleep_for(10us)));
    auto fails = []() -> task<result<void>> {
      static_cast<void>(co_await keel::sleep_for(10us));
      co_return keel::errc::closed;
    };
    static_cast<void>(co_await keel::when_all(keel::cancel_on_failure, fails(), keel::sleep_for(1h), nap(3)));
  };
  CHECK(sweep([&](runtime& rt) { rt.spawn(racing); }) > 4);
}

TEST_CASE("sweep: scopes with children, grandchildren and a failing child") {
  const tracked_balance objects;
  auto family = []() -> task<> {
    auto body = [](scope& children) -> task<> {
      const tracked local(1);
      children.spawn(forget, naps(3));
      auto inner = [](scope& grandchildren) -> task<> {
        grandchildren.spawn(forget, naps(2));
        static_cast<void>(co_await nap(5));
      };
      co_await scope(inner);
      auto handle = children.spawn(naps, 2);
      static_cast<void>(co_await std::move(handle));
    };
    co_await scope(body);
    auto failing = [](scope& children) -> task<> {
      children.spawn([]() -> task<> {
        static_cast<void>(co_await nap(5));
        throw 1;
      });
      static_cast<void>(co_await keel::sleep_for(1h));
    };
    try {
      co_await scope(failing);
    } catch (int) {
    }
  };
  CHECK(sweep([&](runtime& rt) { rt.spawn(family); }) > 5);
}

TEST_CASE("sweep: a scope with a grace, stopped from inside and at every point from outside") {
  const tracked_balance objects;
  auto graceful = []() -> task<> {
    auto body = [](scope& children) -> task<> {
      children.spawn(forget, naps(3));
      children.spawn([]() -> task<> {
        static_cast<void>(co_await keel::graceful(keel::sleep_for(1h)));
      });
      children.spawn([]() -> task<> {
        static_cast<void>(co_await keel::sleep_for(1h));
      });
      static_cast<void>(co_await nap(5));
      children.request_stop({.grace = 1ms});
    };
    co_await scope(body);
  };
  CHECK(sweep([&](runtime& rt) { rt.spawn(graceful); }) > 5);
  CHECK(sweep([&](runtime& rt) { rt.spawn(graceful); }, {.level = keel::stop_level::graceful}) > 5);
}

TEST_CASE("sweep: handles that are joined, stopped and dropped") {
  const tracked_balance objects;
  auto parent = []() -> task<> {
    auto joined = keel::spawn(naps, 3);
    auto stopped = keel::spawn(nap, 3'600'000);
    keel::spawn(naps, 2);
    static_cast<void>(co_await std::move(joined));
    stopped.request_stop();
    static_cast<void>(co_await std::move(stopped));
    auto late = keel::spawn(nap, 1);
    static_cast<void>(co_await keel::sleep_for(100us));
    static_cast<void>(co_await keel::with_timeout(1h, std::move(late)));
    auto slow = keel::spawn(nap, 3'600'000);
    static_cast<void>(co_await keel::with_timeout(10us, std::move(slow)));
  };
  CHECK(sweep([&](runtime& rt) { rt.spawn(parent); }) > 5);
}

TEST_CASE("sweep: signals") {
  auto receiver = []() -> task<> {
    keel::signals usr1(SIGUSR1);
    ::kill(::getpid(), SIGUSR1);
    ::kill(::getpid(), SIGUSR1);
    if (!co_await usr1.next()) co_return;
    if (!co_await keel::sleep_for(10us)) co_return;
    ::kill(::getpid(), SIGUSR1);
    static_cast<void>(co_await keel::with_timeout(10us, usr1.next()));
    const auto none = co_await keel::with_timeout(10us, keel::when_any(usr1.next(), keel::sleep_for(1h)));
    static_cast<void>(none);
  };
  CHECK(sweep([&](runtime& rt) { rt.spawn(receiver); }) > 2);
  CHECK(sweep([&](runtime& rt) { rt.spawn(receiver); }, {.level = keel::stop_level::graceful}) > 2);
}

TEST_CASE("sweep: an object that the scenario returns goes before the runtime") {
  const tracked_balance objects;
  auto use = [](tracked& object) -> task<> {
    static_cast<void>(co_await keel::sleep_for(1us));
    ++object.value;
  };
  CHECK(sweep([&](runtime& rt) {
          struct world {
            tracked object{1};
          };
          auto own = std::make_unique<world>();
          rt.spawn(use, std::ref(own->object));
          return own;
        }) >= 2);
}
