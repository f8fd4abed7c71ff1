#include <keel/runtime/resume_on.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/scope.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/spawn_on.hpp>
#include <keel/runtime/this_task.hpp>
#include <keel/runtime/when_all.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>

#include "support/death_test.hpp"
#include "support/in_runtime.hpp"
#include "support/tracked.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::result;
using keel::resume_on;
using keel::scheduler;
using keel::task;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

unsigned here() {
  return scheduler::current()->index();
}
scheduler& at(unsigned index) {
  return scheduler::current()->owner().at(index);
}

// Runs `body` on the first of `cpus` schedulers.
template <class Fn>
void on_several(int cpus, Fn body) {
  keel::runtime_options options;
  options.cpus = cpus;
  keel::runtime rt(options);
  rt.spawn(body);
  rt.run();
}

task<> go_there(unsigned index) {
  co_await resume_on(at(index));
}

}  // namespace

TEST_CASE("resume_on: the task goes on there, with its callers, on the other thread") {
  const tracked_balance objects;
  on_several(3, []() -> task<> {
    const tracked local(1);
    const auto thread = std::this_thread::get_id();
    for (const unsigned index : {1u, 2u, 0u, 0u, 2u, 1u}) {
      co_await go_there(index);
      CHECK(here() == index);
      CHECK((std::this_thread::get_id() == thread) == (index == 0));
      co_await keel::test::pause(1ms);
      CHECK(here() == index);
    }
  });
}

TEST_CASE("resume_on: whoever joins is told at home, with the result") {
  on_several(2, []() -> task<> {
    auto wander = [](int n) -> task<result<int>> {
      co_await resume_on(at(1));
      if (n == 2) throw std::runtime_error("away");
      if (n == 1) co_return errc::closed;
      co_return n;
    };
    auto fine = keel::spawn(wander, 0);
    auto refused = keel::spawn(wander, 1);
    auto thrown = keel::spawn(wander, 2);
    const auto none = co_await std::move(fine);
    CHECK(here() == 0);
    CHECK(*none == 0);
    const auto closed = co_await std::move(refused);
    CHECK(closed.error() == errc::closed);
    std::string what;
    try {
      (void)co_await std::move(thrown);
    } catch (const std::runtime_error& e) {
      what = e.what();
    }
    CHECK(what == "away");
    CHECK(here() == 0);
  });
}

TEST_CASE("resume_on: what runs away from home keeps the runtime running, and is stopped with it") {
  std::atomic<int> ended{0};
  std::atomic<int> stopped{0};
  keel::runtime_options options;
  options.cpus = 2;
  keel::runtime rt(options);
  rt.spawn([&]() -> task<> {
    co_await resume_on(at(1));
    co_await keel::test::pause(5ms);
    ++ended;
    rt.request_stop();
  });
  for (int i = 0; i < 10; ++i) {
    rt.spawn([&]() -> task<> {
      co_await resume_on(at(1));
      const auto slept = co_await keel::sleep_for(1h);
      if (slept.error() == errc::operation_canceled) ++stopped;
    });
  }
  rt.run();
  CHECK(ended == 1);
  CHECK(stopped == 10);
}

TEST_CASE("C2, resume_on: a stop finds the task wherever it is") {
  on_several(3, []() -> task<> {
    for (int round = 0; round < 300; ++round) {
      std::atomic<int> moves{0};
      auto wander = [](std::atomic<int>& count) -> task<> {
        for (unsigned next = 1;; ++next) {
          co_await resume_on(at(next % 3));
          ++count;
          if (co_await keel::this_task::stopping()) co_return;
        }
      };
      auto wanderer = keel::spawn(wander, std::ref(moves));
      while (moves < round % 20) co_await keel::test::some_turns(1);
      if (round % 3 == 0) wanderer.request_stop(keel::stop_level::graceful);
      if (round % 3 != 1) wanderer.request_stop();
      if (round % 3 == 1) wanderer.request_stop(keel::stop_level::graceful);
      co_await std::move(wanderer);
    }
  });
}

TEST_CASE("resume_on: a scope awaits and stops its children wherever they are") {
  on_several(2, []() -> task<> {
    std::atomic<int> stopped{0};
    std::atomic<int> away{0};
    co_await keel::scope([&](keel::scope& children) -> task<> {
      auto wander = [](std::atomic<int>& arrived, std::atomic<int>& count) -> task<> {
        co_await resume_on(at(1));
        ++arrived;
        const auto slept = co_await keel::sleep_for(1h);
        if (slept.error() == errc::operation_canceled) ++count;
      };
      for (int i = 0; i < 5; ++i) children.spawn(wander, std::ref(away), std::ref(stopped));
      while (away < 5) co_await keel::test::some_turns();
      children.request_stop();
    });
    CHECK(stopped == 5);
    CHECK(here() == 0);
  });
}

TEST_CASE("resume_on: a part of a task cannot move") {
  const auto moves_in = [](auto&& inside) { return [inside] { on_several(2, inside); }; };
  CHECK_DEATH(moves_in([]() -> task<> { (void)co_await keel::with_timeout(1h, go_there(1)); })(),
              "resume_on() moves a whole task");
  CHECK_DEATH(moves_in([]() -> task<> { (void)co_await keel::when_all(go_there(1), go_there(0)); })(),
              "resume_on() moves a whole task");
  CHECK_DEATH(on_several(1,
                         []() -> task<> {
                           keel::runtime other;
                           co_await resume_on(other.at(0));
                         }),
              "resume_on() moves a task within its runtime");
}
