#include <keel/runtime/this_task.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <ostream>

#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::stop_level;
using keel::task;
using keel::test::run_simulated;

TEST_CASE("stopping: false until a graceful stop, then true") {
  run_simulated([]() -> task<> {
    auto polite = []() -> task<int> {
      int rounds = 0;
      while (!co_await keel::this_task::stopping()) {
        static_cast<void>(co_await keel::sleep_for(1s));
        ++rounds;
      }
      co_return rounds;
    };
    for (const stop_level level : {stop_level::graceful, stop_level::hard}) {
      auto handle = keel::spawn(polite);
      static_cast<void>(co_await keel::sleep_for(4500ms));
      handle.request_stop(level);
      const int rounds = co_await std::move(handle);
      CHECK(rounds == 5);
    }
  }());
}

TEST_CASE("stopping: is answered without a suspension") {
  run_simulated([]() -> task<> {
    const auto before = keel::scheduler::current()->counters();
    for (int i = 0; i < 1000; ++i) {
      const bool stopping = co_await keel::this_task::stopping();
      CHECK(!stopping);
    }
    CHECK(keel::scheduler::current()->counters().runs == before.runs);
    CHECK(keel::scheduler::current()->counters().events == before.events);
  }());
}

TEST_CASE("current_stop_context: a child has its caller's, what runs under a deadline has one of its own") {
  run_simulated([]() -> task<> {
    auto mine = []() -> task<keel::stop_context*> {
      co_return co_await keel::this_task::current_stop_context();
    };
    keel::stop_context* const here = co_await keel::this_task::current_stop_context();
    keel::stop_context* const of_child = co_await mine();
    CHECK(of_child == here);
    const auto under_deadline = co_await keel::with_timeout(1h, mine());
    CHECK(*under_deadline != here);
    keel::stop_context* const of_spawned = co_await keel::spawn(mine);
    CHECK(of_spawned != here);
    CHECK(&here->home() == keel::scheduler::current());
  }());
}
