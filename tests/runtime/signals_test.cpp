#include <keel/runtime/signals.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/when_all.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <csignal>
#include <functional>
#include <ostream>
#include <system_error>
#include <type_traits>
#include <unistd.h>

#include "support/death_test.hpp"
#include "support/descriptors.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::result;
using keel::signals;
using keel::sleep_for;
using keel::task;

static_assert(std::is_move_constructible_v<signals> && !std::is_copy_constructible_v<signals>);

namespace {

void send(int signal) { REQUIRE(::kill(::getpid(), signal) == 0); }

task<> send_later(int signal) {
  static_cast<void>(co_await sleep_for(1ms));
  send(signal);
}

}  // namespace

TEST_CASE("signals: next gives the number of the signal that comes") {
  keel::run([]() -> task<> {
    signals both(SIGUSR1, SIGUSR2);
    keel::spawn(send_later, SIGUSR2);
    const auto second = co_await both.next();
    CHECK(*second == SIGUSR2);
    keel::spawn(send_later, SIGUSR1);
    const auto first = co_await both.next();
    CHECK(*first == SIGUSR1);
  }());
}

TEST_CASE("signals: those that came while nobody waited are handed out one by one") {
  keel::run([]() -> task<> {
    signals usr1(SIGUSR1);
    send(SIGUSR1);
    send(SIGUSR1);
    for (int i = 0; i < 2; ++i) {
      const auto got = co_await usr1.next();
      CHECK(*got == SIGUSR1);
    }
    const auto none = co_await keel::with_timeout(1ms, usr1.next());
    CHECK(none.error() == errc::timed_out);
    send(SIGUSR1);
    const auto third = co_await usr1.next();
    CHECK(*third == SIGUSR1);
  }());
}

TEST_CASE("signals: each of several subscriptions sees a signal") {
  keel::run([]() -> task<> {
    signals one(SIGUSR1);
    signals other(SIGUSR1, SIGUSR2);
    keel::spawn(send_later, SIGUSR1);
    const auto both = co_await keel::when_all(one.next(), other.next());
    CHECK(*std::get<0>(both) == SIGUSR1);
    CHECK(*std::get<1>(both) == SIGUSR1);
  }());
}

TEST_CASE("signals: a temporary waits for one signal") {
  keel::run([]() -> task<> {
    keel::spawn(send_later, SIGUSR1);
    const auto got = co_await signals(SIGUSR1, SIGUSR2).next();
    CHECK(*got == SIGUSR1);
  }());
}

TEST_CASE("signals: a graceful stop or a hard one ends the wait, and no signal is lost by it") {
  keel::run([]() -> task<> {
    auto waits = [](signals& on) -> task<result<int>> { co_return co_await on.next(); };
    for (const auto level : {keel::stop_level::graceful, keel::stop_level::hard}) {
      signals usr1(SIGUSR1);
      auto handle = keel::spawn(waits, std::ref(usr1));
      static_cast<void>(co_await sleep_for(1ms));
      handle.request_stop(level);
      const auto stopped = co_await std::move(handle);
      CHECK(stopped.error() == errc::operation_canceled);

      // Both at once: the wait ends with the signal, or leaves it to the next.
      auto racing = keel::spawn(waits, std::ref(usr1));
      static_cast<void>(co_await sleep_for(1ms));
      send(SIGUSR1);
      racing.request_stop(level);
      auto got = co_await std::move(racing);
      if (!got) got = co_await usr1.next();
      CHECK(*got == SIGUSR1);
    }
  }());
}

TEST_CASE("signals: one that has come is handed out also in a task that was stopped") {
  keel::run([]() -> task<> {
    signals usr1(SIGUSR1);
    send(SIGUSR1);
    auto waits = [](signals& on) -> task<result<int>> { co_return co_await on.next(); };
    auto handle = keel::spawn(waits, std::ref(usr1));
    handle.request_stop();
    const auto got = co_await std::move(handle);
    CHECK(*got == SIGUSR1);
    auto again = keel::spawn(waits, std::ref(usr1));
    again.request_stop();
    const auto none = co_await std::move(again);
    CHECK(none.error() == errc::operation_canceled);
  }());
}

TEST_CASE("signals: may be moved while nobody waits, and give their descriptor back") {
  const auto before = keel::test::open_descriptors();
  keel::run([]() -> task<> {
    signals first(SIGUSR1);
    send(SIGUSR1);
    signals second = std::move(first);
    const auto got = co_await second.next();
    CHECK(*got == SIGUSR1);
  }());
  CHECK(keel::test::open_descriptors() == before);
}

TEST_CASE("signals: what cannot be caught, or is no signal, is refused") {
  CHECK_THROWS_AS(signals(SIGKILL), std::system_error);
  CHECK_THROWS_AS(signals(SIGUSR1, 0), std::system_error);
  CHECK_THROWS_AS(signals(4711), std::system_error);
  // None of the good ones is left subscribed.
  struct sigaction now = {};
  ::sigaction(SIGUSR1, nullptr, &now);
  CHECK((now.sa_handler == SIG_DFL));
}

TEST_CASE("signals: a number that comes at run time") {
  keel::run([]() -> task<> {
    const int numbers[] = {SIGUSR1, SIGUSR2};
    signals listed{std::span<const int>(numbers)};
    send(SIGUSR2);
    const auto got = co_await listed.next();
    CHECK(*got == SIGUSR2);
  }());
}

TEST_CASE("signals: two who wait for one subscription are a bug") {
  auto two = []() -> task<> {
    signals usr1(SIGUSR1);
    static_cast<void>(co_await keel::when_all(usr1.next(), usr1.next()));
  };
  CHECK_DEATH(keel::run(two()), "one reader and one writer at a time");
}
