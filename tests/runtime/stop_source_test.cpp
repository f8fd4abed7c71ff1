#include <keel/runtime/stop_source.hpp>

#include <keel/runtime/graceful.hpp>
#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <ostream>
#include <thread>
#include <type_traits>
#include <vector>

#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/in_runtime.hpp"
#include "support/sweep.hpp"
#include "support/tracked.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::remote_stop_source;
using keel::result;
using keel::sleep_for;
using keel::stop_level;
using keel::stop_source;
using keel::task;
using keel::with_stop;
using keel::test::frame_balance;
using keel::test::now;
using keel::test::run_simulated;
using keel::test::tracked_balance;

namespace {

static_assert(!std::is_copy_constructible_v<stop_source>);
static_assert(std::is_copy_constructible_v<remote_stop_source>);

task<result<void>> sleeps_under(stop_source& source, keel::duration d) {
  co_return co_await with_stop(source, sleep_for(d));
}

}  // namespace

TEST_CASE("with_stop: the source stops all that runs under it, and what begins afterwards") {
  const frame_balance frames;
  run_simulated([]() -> task<> {
    stop_source source;
    auto one = keel::spawn(sleeps_under, std::ref(source), 1h);
    auto two = keel::spawn(sleeps_under, std::ref(source), 2h);
    auto in_time = keel::spawn(sleeps_under, std::ref(source), 1ms);
    static_cast<void>(co_await sleep_for(1s));
    CHECK(!source.stopped());
    const auto before = now();
    source.request_stop();
    CHECK(source.stopped());
    CHECK(source.token().stopped());
    const auto ended_1 = co_await std::move(one);
    CHECK(ended_1.error() == errc::operation_canceled);
    const auto ended_2 = co_await std::move(two);
    CHECK(ended_2.error() == errc::operation_canceled);
    const auto ended_3 = co_await std::move(in_time);
    CHECK(ended_3);
    const auto late = co_await with_stop(source, sleep_for(1h));
    CHECK(late.error() == errc::operation_canceled);
    CHECK(now() == before);
  }());
}

TEST_CASE("with_stop: whoever awaits is not stopped, and his own stop ends it, too") {
  run_simulated([]() -> task<> {
    stop_source source;
    auto handle = keel::spawn(sleeps_under, std::ref(source), 1h);
    static_cast<void>(co_await sleep_for(1s));
    handle.request_stop();
    const auto ended = co_await std::move(handle);
    CHECK(ended.error() == errc::operation_canceled);
    CHECK(!source.stopped());
    source.request_stop();
    static_cast<void>(co_await with_stop(source, sleep_for(1s)));
    const auto slept = co_await sleep_for(1s);
    CHECK(slept);
  }());
}

TEST_CASE("with_stop: levels are passed on one after the other, from before and meanwhile") {
  run_simulated([]() -> task<> {
    stop_source source;
    auto polite = [](stop_source& of, int& waits, result<void>& work) -> task<> {
      auto inside = [](int& count, result<void>& last) -> task<> {
        static_cast<void>(co_await keel::graceful(sleep_for(1h)));
        ++count;
        last = co_await sleep_for(1h);
      };
      co_await with_stop(of, inside(waits, work));
    };
    int waits = 0;
    result<void> work;
    auto handle = keel::spawn(polite, std::ref(source), std::ref(waits), std::ref(work));
    static_cast<void>(co_await sleep_for(1s));
    source.request_stop(stop_level::graceful);
    static_cast<void>(co_await sleep_for(1s));
    CHECK(waits == 1);
    CHECK(!handle.done());
    auto later = keel::spawn(polite, std::ref(source), std::ref(waits), std::ref(work));
    static_cast<void>(co_await sleep_for(1s));
    CHECK(waits == 2);
    source.request_stop();
    co_await std::move(handle);
    co_await std::move(later);
    CHECK(work.error() == errc::operation_canceled);
  }());
}

TEST_CASE("remote_stop_source: any thread stops what runs under it, and wakes the scheduler") {
  keel::test::in_runtime([]() -> task<> {
    for (int i = 0; i < 20; ++i) {
      remote_stop_source source;
      std::vector<std::thread> threads;
      for (int n = 0; n < 4; ++n) threads.emplace_back([copy = source] { copy.request_stop(); });
      const auto ended = co_await with_stop(source, sleep_for(1h));
      CHECK(ended.error() == errc::operation_canceled);
      CHECK(source.stop_requested());
      for (auto& thread : threads) thread.join();
    }
  });
}

TEST_CASE("remote_stop_source: both levels arrive, and it outlives what ran under it") {
  keel::test::in_runtime([]() -> task<> {
    remote_stop_source source;
    std::thread thread([copy = source] {
      copy.request_stop(stop_level::graceful);
      copy.request_stop();
      copy.request_stop();
    });
    const auto ended = co_await with_stop(source, sleep_for(1h));
    CHECK(ended.error() == errc::operation_canceled);
    thread.join();
    const auto late = co_await with_stop(source, sleep_for(1h));
    CHECK(late.error() == errc::operation_canceled);
    const remote_stop_source dropped = source;
    dropped.request_stop();
  });
}

TEST_CASE("with_stop: stopped at any point, nothing is left") {
  keel::kevent_sys::sim_world world;
  keel::test::sweep_options options;
  options.runtime.factory = world.factory();
  const tracked_balance objects;
  auto job = []() -> task<> {
    stop_source source;
    static_cast<void>(co_await with_stop(source, sleep_for(1ms)));
    auto stops = [](stop_source& of) -> task<> {
      static_cast<void>(co_await sleep_for(1ms));
      of.request_stop();
    };
    auto beside = keel::spawn(stops, std::ref(source));
    static_cast<void>(co_await with_stop(source, sleep_for(1s)));
    co_await std::move(beside);
  };
  CHECK(keel::test::sweep([&](keel::runtime& rt) { rt.spawn(job); }, options) > 3);
}

TEST_CASE("with_stop: the source outlives what runs under it, which is awaited once") {
  auto destroyed = []() -> task<> {
    auto source = std::make_unique<stop_source>();
    keel::spawn(sleeps_under, std::ref(*source), 1h);
    static_cast<void>(co_await sleep_for(1s));
    source.reset();
  };
  CHECK_DEATH(run_simulated(destroyed()), "a stop_source was destroyed while something runs under it");
  auto twice = []() -> task<> {
    stop_source source;
    auto once = with_stop(source, sleep_for(1ns));
    static_cast<void>(co_await std::move(once));
    static_cast<void>(co_await std::move(once));
  };
  CHECK_DEATH(run_simulated(twice()), "with_stop is awaited once");
  CHECK_DEATH(remote_stop_source(), "this needs a scheduler");
}
