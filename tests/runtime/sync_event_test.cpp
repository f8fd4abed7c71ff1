#include <keel/runtime/sync_event.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "support/death_test.hpp"
#include "support/in_runtime.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::result;
using keel::spawn;
using keel::sync_event;
using keel::task;
using keel::test::in_runtime;
using keel::test::run_simulated;
using keel::test::some_turns;

namespace {

task<result<void>> wait_for(sync_event& on) {
  co_return co_await on.wait();
}

}  // namespace

TEST_CASE("sync_event: wakes all who wait, stays set, and waits again after a reset") {
  run_simulated([]() -> task<> {
    sync_event event;
    std::vector<keel::join_handle<result<void>>> waiting;
    for (int i = 0; i < 5; ++i) waiting.push_back(spawn(wait_for, std::ref(event)));
    co_await some_turns();
    CHECK(!waiting[0].done());
    event.set();
    CHECK(event.is_set());
    event.reset();
    CHECK(!event.is_set());
    for (auto& one : waiting) {
      const auto ended = co_await std::move(one);
      CHECK(ended);
    }
    const auto late = co_await keel::with_timeout(1s, event.wait());
    CHECK(late.error() == errc::timed_out);
    event.set();
    const auto now = co_await event.wait();
    CHECK(now);
  }());
}

TEST_CASE("sync_event: a stop ends a wait at once; a set in the same turn beats it") {
  run_simulated([]() -> task<> {
    sync_event event;
    auto one = spawn(wait_for, std::ref(event));
    auto two = spawn(wait_for, std::ref(event));
    co_await some_turns();
    one.request_stop();
    event.set();
    two.request_stop();
    const auto stopped = co_await std::move(one);
    CHECK(stopped.error() == errc::operation_canceled);
    const auto ended = co_await std::move(two);
    CHECK(ended);
  }());
}

TEST_CASE(
    "sync_event: set by a thread while a task waits, again and again; either may destroy it afterwards") {
  for (int i = 0; i < 200; ++i) {
    auto event = std::make_unique<sync_event>();
    std::thread setter([&at = *event] { at.set(); });
    bool ended = false;
    // The runtime ends as soon as the wait does: the setter is not in it any more.
    keel::run([](sync_event& on, bool& flag) -> task<> {
      const auto got = co_await on.wait();
      flag = got.has_value();
    }(*event, ended));
    event.reset();
    CHECK(ended);
    setter.join();
  }
}

TEST_CASE("sync_event: threads wait for tasks") {
  sync_event asked;
  sync_event answered;
  std::thread asker([&] {
    asked.set();
    answered.wait_blocking();
    answered.wait_blocking();
  });
  keel::run([](sync_event& question, sync_event& answer) -> task<> {
    const auto got = co_await question.wait();
    CHECK(got);
    answer.set();
  }(asked, answered));
  asker.join();
}

TEST_CASE("sync_event: a set whose message is on its way beats a stop") {
  in_runtime([]() -> task<> {
    sync_event event;
    std::vector<keel::join_handle<result<void>>> waiting;
    for (int i = 0; i < 4; ++i) waiting.push_back(spawn(wait_for, std::ref(event)));
    co_await some_turns();
    std::thread([&event] { event.set(); }).join();
    for (auto& one : waiting) one.request_stop();
    for (auto& one : waiting) {
      CHECK(!one.done());
      const auto ended = co_await std::move(one);
      CHECK(ended);
    }
  });
}

TEST_CASE("sync_event: waits that are stopped while a thread sets it end once, one way or the other") {
  in_runtime([]() -> task<> {
    for (int round = 0; round < 300; ++round) {
      sync_event event;
      std::vector<keel::join_handle<result<void>>> waiting;
      for (int i = 0; i < 4; ++i) waiting.push_back(spawn(wait_for, std::ref(event)));
      co_await keel::test::pause(0ns);
      std::atomic<bool> begun{false};
      std::thread setter([&] {
        begun = true;
        event.set();
      });
      while (!begun) std::this_thread::yield();
      for (auto& one : waiting) one.request_stop();
      for (auto& one : waiting) {
        const auto ended = co_await std::move(one);
        CHECK((ended || ended.error() == errc::operation_canceled));
      }
      setter.join();
    }
  });
}

TEST_CASE("sync_event: destroyed while somebody waits, and a scheduler that blocks: bugs of the caller") {
  auto destroyed = []() -> task<> {
    auto event = std::make_unique<sync_event>();
    auto waiting = spawn(wait_for, std::ref(*event));
    co_await some_turns();
    event.reset();
  };
  CHECK_DEATH(run_simulated(destroyed()), "a sync_event was destroyed while somebody waits");
  auto blocking = []() -> task<> {
    sync_event event;
    event.wait_blocking();
    co_return;
  };
  CHECK_DEATH(run_simulated(blocking()), "this would block a scheduler");
}
