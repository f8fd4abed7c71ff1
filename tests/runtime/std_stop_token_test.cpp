#include <keel/runtime/std_stop_token.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/this_task.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <ostream>
#include <stop_token>
#include <thread>

#include "support/in_runtime.hpp"
#include "support/sweep.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::result;
using keel::sleep_for;
using keel::std_stop_link;
using keel::task;
using keel::with_stop;
using keel::test::now;
using keel::test::run_simulated;

TEST_CASE("with_stop of a std::stop_token: any thread ends the wait") {
  keel::test::in_runtime([]() -> task<> {
    for (int i = 0; i < 20; ++i) {
      std::stop_source source;
      std::thread thread([&source] { source.request_stop(); });
      const auto ended = co_await with_stop(source.get_token(), sleep_for(1h));
      CHECK(ended.error() == errc::operation_canceled);
      thread.join();
    }
  });
}

TEST_CASE("with_stop of a std::stop_token: what ends first is not disturbed by a stop at the same time") {
  keel::test::in_runtime([]() -> task<> {
    for (int i = 0; i < 200; ++i) {
      std::stop_source source;
      std::thread thread([&source] { source.request_stop(); });
      static_cast<void>(co_await with_stop(source.get_token(), sleep_for(0ns)));
      thread.join();
    }
  });
}

TEST_CASE("with_stop of a std::stop_token: one that was triggered before, one that never is, and none") {
  run_simulated([]() -> task<> {
    std::stop_source source;
    const auto in_time = co_await with_stop(source.get_token(), sleep_for(1s));
    CHECK(in_time);
    source.request_stop();
    const auto before = now();
    const auto at_once = co_await with_stop(source.get_token(), sleep_for(1h));
    CHECK(at_once.error() == errc::operation_canceled);
    CHECK(now() == before);
    const auto without = co_await with_stop(std::stop_token(), sleep_for(1s));
    CHECK(without);
  }());
}

TEST_CASE("with_stop of a std::stop_token: stopped at any point, nothing is left") {
  keel::kevent_sys::sim_world world;
  keel::test::sweep_options options;
  options.runtime.factory = world.factory();
  std::stop_source source;
  auto job = [](std::stop_token token) -> task<> {
    for (int i = 0; i < 3; ++i) {
      const auto slept = co_await with_stop(token, sleep_for(1ms));
      if (!slept) break;
    }
  };
  CHECK(keel::test::sweep([&](keel::runtime& rt) { rt.spawn(job, source.get_token()); }, options) > 3);
}

TEST_CASE("std_stop_link: a task that is asked to stop triggers its std::stop_token") {
  run_simulated([]() -> task<> {
    auto legacy = [](std::stop_token& given, bool& called) -> task<> {
      auto& context = *co_await keel::this_task::current_stop_context();
      const std_stop_link stop(context);
      given = stop.token();
      const std::stop_callback callback(stop.token(), [&called] { called = true; });
      static_cast<void>(co_await sleep_for(1h));
    };
    std::stop_token token;
    bool called = false;
    auto handle = keel::spawn(legacy, std::ref(token), std::ref(called));
    static_cast<void>(co_await sleep_for(1s));
    CHECK(token.stop_possible());
    CHECK(!token.stop_requested());
    handle.request_stop();
    CHECK(called);
    CHECK(token.stop_requested());
    co_await std::move(handle);

    called = false;
    auto stopped_before = keel::spawn(legacy, std::ref(token), std::ref(called));
    stopped_before.request_stop();
    co_await std::move(stopped_before);
    CHECK(called);
    called = false;
    auto in_time = keel::spawn(legacy, std::ref(token), std::ref(called));
    co_await std::move(in_time);
    CHECK(!called);
  }());
}
