#include <keel/runtime/graceful.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/this_task.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <ostream>
#include <stdexcept>
#include <string>

#include "support/frame_balance.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::graceful;
using keel::result;
using keel::sleep_for;
using keel::stop_level;
using keel::task;
using keel::test::frame_balance;
using keel::test::now;
using keel::test::run_simulated;

namespace {

task<result<void>> waits() { co_return co_await graceful(sleep_for(1h)); }

// Stops `waits` at `level` after a second; gives how it ended.
task<result<void>> stopped_at(stop_level level) {
  auto handle = keel::spawn(waits);
  static_cast<void>(co_await sleep_for(1s));
  handle.request_stop(level);
  co_return co_await std::move(handle);
}

}  // namespace

TEST_CASE("graceful: a graceful stop, or a hard one, ends the wait at once") {
  const frame_balance frames;
  for (const stop_level level : {stop_level::graceful, stop_level::hard}) {
    const auto ended = run_simulated([](stop_level l) -> task<result<void>> {
      const auto before = now();
      const auto got = co_await stopped_at(l);
      CHECK(now() - before < 2s);
      co_return got;
    }(level));
    CHECK(ended.error() == errc::operation_canceled);
  }
}

TEST_CASE("graceful: without a stop it changes nothing") {
  const frame_balance frames;
  run_simulated([]() -> task<> {
    const auto slept = co_await graceful(sleep_for(1s));
    CHECK(slept);
    auto value = []() -> task<std::string> { co_return "value"; };
    const std::string got = co_await graceful(value());
    CHECK(got == "value");
    auto throwing = []() -> task<> {
      throw std::runtime_error("thrown");
      co_return;
    };
    bool thrown = false;
    try {
      co_await graceful(throwing());
    } catch (const std::runtime_error&) {
      thrown = true;
    }
    CHECK(thrown);
  }());
}

TEST_CASE("graceful: in a task that was asked to stop gracefully it does not begin to wait") {
  run_simulated([]() -> task<> {
    auto stopping = []() -> task<> {
      const auto before = now();
      const auto new_work = co_await graceful(sleep_for(1h));
      CHECK(new_work.error() == errc::operation_canceled);
      CHECK(now() == before);
      // What is under way is finished.
      const auto old_work = co_await sleep_for(1s);
      CHECK(old_work);
    };
    auto handle = keel::spawn(stopping);
    handle.request_stop(stop_level::graceful);
    co_await std::move(handle);
  }());
}

TEST_CASE("graceful: what runs inside sees a hard stop, what runs outside a graceful one") {
  run_simulated([]() -> task<> {
    stop_level inside = stop_level::none;
    stop_level outside = stop_level::none;
    auto look = [](stop_level& seen) -> task<> {
      static_cast<void>(co_await sleep_for(1h));
      seen = (co_await keel::this_task::current_stop_context())->level();
    };
    auto both = [](auto looks, stop_level& in, stop_level& out) -> task<> {
      co_await graceful(looks(in));
      out = (co_await keel::this_task::current_stop_context())->level();
    };
    auto handle = keel::spawn(both, look, std::ref(inside), std::ref(outside));
    static_cast<void>(co_await sleep_for(1s));
    handle.request_stop(stop_level::graceful);
    co_await std::move(handle);
    CHECK(inside == stop_level::hard);
    CHECK(outside == stop_level::graceful);
  }());
}

TEST_CASE("graceful: with a deadline inside or outside") {
  run_simulated([]() -> task<> {
    const auto outside = co_await keel::with_timeout(1s, graceful(sleep_for(1h)));
    CHECK(outside.error() == errc::timed_out);
    const auto inside = co_await graceful(keel::with_timeout(1s, sleep_for(1h)));
    CHECK(inside.error() == errc::timed_out);
    auto stopped = []() -> task<result<void>> {
      co_return co_await keel::with_timeout(1h, graceful(sleep_for(2h)));
    };
    auto handle = keel::spawn(stopped);
    static_cast<void>(co_await sleep_for(1s));
    handle.request_stop(stop_level::graceful);
    const auto ended = co_await std::move(handle);
    CHECK(ended.error() == errc::operation_canceled);
  }());
}

TEST_CASE("graceful: may be moved before it is awaited") {
  run_simulated([]() -> task<> {
    auto idle = graceful(sleep_for(1s));
    auto moved = std::move(idle);
    const auto slept = co_await std::move(moved);
    CHECK(slept);
  }());
}
