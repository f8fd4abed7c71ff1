#include <keel/runtime/wait_point.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <ostream>
#include <string_view>
#include <vector>

#include "support/death_test.hpp"
#include "support/in_runtime.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::scheduler;
using keel::spawn;
using keel::stop_context;
using keel::task;
using keel::wait_point;
using keel::waiter;
using keel::test::pause;
using keel::test::run_simulated;

namespace {

// A door: waits until it is opened, unless it is open.
struct door {
  struct wait : wait_point {
    explicit wait(door& d) noexcept : from(d) {}
    std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
      if (context.stopped()) return give_up(up, context);
      if (from.open) return go_on(up, context);
      begin(up, context, "a door");
      from.inside = this;
      return std::noop_coroutine();
    }
    void take() const noexcept {}
    door& from;
  };
  [[nodiscard]] wait pass() noexcept { return wait(*this); }

  bool open = false;
  wait* inside = nullptr;
};

task<> passes(door& d, std::vector<int>& order, int number) {
  co_await d.pass();
  order.push_back(number);
}

}  // namespace

TEST_CASE("wait_point: wake() runs the waiter in its turn, not inside the call") {
  run_simulated([]() -> task<> {
    door d;
    std::vector<int> order;
    auto handle = spawn(passes, std::ref(d), std::ref(order), 1);
    co_await pause(0s);
    REQUIRE(d.inside != nullptr);
    CHECK(std::string_view(d.inside->context().node().waits_for) == "a door");
    d.inside->wake();
    CHECK(order.empty());
    CHECK(d.inside->context().node().ready);
    co_await std::move(handle);
    CHECK(order == std::vector<int>{1});
  }());
}

TEST_CASE("wait_point: those who are woken run in the order of the wakes") {
  run_simulated([]() -> task<> {
    door doors[3];
    std::vector<int> order;
    for (int i = 0; i < 3; ++i) spawn(passes, std::ref(doors[i]), std::ref(order), i);
    co_await pause(0s);
    for (const int i : {2, 0, 1}) doors[i].inside->wake();
    co_await pause(0s);
    CHECK(order == std::vector<int>{2, 0, 1});
  }());
}

TEST_CASE("wait_point: a task for which there never is anything to wait for lets the others run") {
  run_simulated([]() -> task<> {
    door d;
    d.open = true;
    std::uint64_t rounds = 0;
    bool enough = false;
    auto loops = [](door& from, std::uint64_t& n, const bool& end) -> task<> {
      while (!end) {
        co_await from.pass();
        ++n;
      }
    };
    auto handle = spawn(loops, std::ref(d), std::ref(rounds), std::cref(enough));
    co_await pause(0s);
    const auto before = rounds;
    CHECK(before > 0);
    co_await pause(0s);
    CHECK(rounds > before);
    CHECK(rounds - before < 256 * 128 + 1);
    enough = true;
    co_await std::move(handle);
  }());
}

TEST_CASE("wait_point: a task that goes on though it was stopped lets the others run, and is counted") {
  run_simulated([]() -> task<> {
    door d;
    std::uint64_t rounds = 0;
    bool enough = false;
    auto loops = [](door& from, std::uint64_t& n, const bool& end) -> task<> {
      while (!end) {
        co_await from.pass();
        ++n;
      }
    };
    auto handle = spawn(keel::named("deaf", loops), std::ref(d), std::ref(rounds), std::cref(enough));
    co_await pause(0s);
    auto& node = d.inside->context().node();
    handle.request_stop();
    d.inside->wake();
    co_await pause(0s);
    CHECK(rounds > 1);
    CHECK(node.canceled_waits > 0);
    const auto before = rounds;
    co_await pause(0s);
    CHECK(rounds > before);
    enough = true;
    co_await std::move(handle);
  }());
}

TEST_CASE("wait_point: it may be used again after its end, and copied only before it begins") {
  run_simulated([]() -> task<> {
    struct nobody : waiter {
      nobody() noexcept
          : waiter([](waiter*) noexcept { return std::coroutine_handle<>(std::noop_coroutine()); }) {}
    };
    stop_context context;
    context.attach(*scheduler::current());
    nobody up;
    wait_point point;
    const wait_point copy = point;
    CHECK(!copy.begun());
    point.begin(up, context, "nothing");
    CHECK(point.begun());
    CHECK(&point.home() == scheduler::current());
    point.wake();
    co_await pause(0s);
    point.reuse();
    CHECK(!point.begun());
    point.begin(up, context, "nothing");
    point.wake();
    co_await pause(0s);
  }());
}

TEST_CASE("wait_point: to begin twice, and to move what has begun, are bugs") {
  struct nobody : waiter {
    nobody() noexcept
        : waiter([](waiter*) noexcept { return std::coroutine_handle<>(std::noop_coroutine()); }) {}
  };
  auto twice = []() -> task<> {
    stop_context context;
    context.attach(*scheduler::current());
    nobody up;
    wait_point point;
    point.begin(up, context, "nothing");
    point.begin(up, context, "nothing");
    co_return;
  };
  CHECK_DEATH(run_simulated(twice()), "it is awaited once");
  auto moved = []() -> task<> {
    stop_context context;
    context.attach(*scheduler::current());
    nobody up;
    wait_point point;
    point.begin(up, context, "nothing");
    const wait_point other = point;
    CHECK(!other.begun());
    co_return;
  };
  CHECK_DEATH(run_simulated(moved()), "was moved after it had started");
}
