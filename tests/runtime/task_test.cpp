#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/this_task.hpp>

#include <doctest/doctest.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/tracked.hpp"

using namespace std::chrono_literals;
using keel::task;
using keel::test::frame_balance;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

task<int> ready(int n) { co_return n; }

task<int> late(int n) {
  const auto slept = co_await keel::sleep_for(1us);
  co_return slept ? n : -1;
}

task<int> throwing(const char* what) {
  throw std::runtime_error(what);
  co_return 0;
}

task<int> throwing_late(const char* what) {
  static_cast<void>(co_await keel::sleep_for(1us));
  throw std::runtime_error(what);
}

// What `action` throws, as text.
template <class Action>
std::string thrown_by(Action&& action) {
  try {
    action();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "nothing";
}

}  // namespace

static_assert(!std::is_copy_constructible_v<task<int>> && std::is_nothrow_move_constructible_v<task<int>>);
static_assert(!std::is_move_assignable_v<task<int>>);
static_assert(keel::awaitable<task<int>> && keel::awaitable<task<>>);

TEST_CASE("task: co_await gives what the coroutine returns, at once or later") {
  const frame_balance frames;
  CHECK(keel::run([]() -> task<int> { co_return co_await ready(3) + co_await late(4); }()) == 7);
}

TEST_CASE("task: a result that can only be moved is moved out") {
  const tracked_balance objects;
  struct only_movable {
    explicit only_movable(int n) : object(n) {}
    only_movable(only_movable&&) = default;
    tracked object;
  };
  const only_movable got = keel::run([]() -> task<only_movable> { co_return only_movable(5); }());
  CHECK(got.object.value == 5);
}

TEST_CASE("task: a result is made from whatever converts to it") {
  CHECK(keel::run([]() -> task<std::string> { co_return "text"; }()) == "text");
  CHECK(*keel::run([]() -> task<std::optional<int>> { co_return 3; }()) == 3);
}

TEST_CASE("task: nothing runs before it is awaited, and an unstarted task lets go of its arguments") {
  const tracked_balance objects;
  const frame_balance frames;
  bool ran = false;
  auto touch = [](bool& flag, tracked) -> task<> {
    flag = true;
    co_return;
  };
  { const task<> never_awaited = touch(ran, tracked(1)); }
  CHECK(!ran);
}

TEST_CASE("task: it may be moved until it starts, and runs where it has come to rest") {
  const tracked_balance objects;
  const frame_balance frames;
  auto value_of = [](tracked object) -> task<int> { co_return object.value; };
  task<int> first = value_of(tracked(6));
  task<int> second = std::move(first);
  CHECK(keel::run(std::move(second)) == 6);
}

TEST_CASE("task: an exception leaves the co_await, and the locals of each coroutine go on its way") {
  const tracked_balance objects;
  const frame_balance frames;
  auto between = []() -> task<int> {
    const tracked local(1);
    co_return local.value + co_await throwing("from below");
  };
  auto between_late = []() -> task<int> {
    const tracked local(1);
    co_return local.value + co_await throwing_late("from below, late");
  };
  CHECK(thrown_by([&] { keel::run(between()); }) == "from below");
  CHECK(thrown_by([&] { keel::run(between_late()); }) == "from below, late");
}

TEST_CASE("task: an exception can be caught around a co_await, which may be followed by others") {
  const frame_balance frames;
  auto recovering = []() -> task<int> {
    int caught = 0;
    for (int i = 0; i < 3; ++i) {
      try {
        static_cast<void>(co_await throwing("again"));
      } catch (const std::runtime_error&) {
        ++caught;
      }
      caught += co_await late(10);
    }
    co_return caught;
  };
  CHECK(keel::run(recovering()) == 33);
}

TEST_CASE("task: locals are destroyed before whoever awaits goes on") {
  const tracked_balance objects;
  auto child = []() -> task<> {
    const tracked local(1);
    static_cast<void>(co_await keel::sleep_for(1us));
  };
  keel::run([](auto make) -> task<> {
    task<> one = make();
    co_await std::move(one);
    CHECK(tracked::alive() == 0);
  }(child));
}

TEST_CASE("task: a loop may await a ready child a million times") {
  const frame_balance frames;
  auto loop = []() -> task<long> {
    long sum = 0;
    for (int i = 0; i < 1'000'000; ++i) sum += co_await ready(1);
    co_return sum;
  };
  CHECK(keel::run(loop()) == 1'000'000);
}

TEST_CASE("task: a loop may await a child that throws, tens of thousands of times") {
  auto loop = []() -> task<int> {
    int caught = 0;
    for (int i = 0; i < 20'000; ++i) {
      try {
        caught += co_await throwing("again");
      } catch (const std::runtime_error&) {
        ++caught;
      }
    }
    co_return caught;
  };
  CHECK(keel::run(loop()) == 20'000);
}

namespace {

task<int> depth(int n) {
  if (n == 0) co_return 0;
  co_return 1 + co_await depth(n - 1);
}

task<int> depth_late(int n) {
  if (n == 0) co_return co_await late(0);
  co_return 1 + co_await depth_late(n - 1);
}

task<> depth_throwing(int n) {
  if (n == 0) throw std::runtime_error("at the bottom");
  co_await depth_throwing(n - 1);
}

}  // namespace

TEST_CASE("task: a recursion costs frames, and no stack") {
  const frame_balance frames;
  CHECK(keel::run(depth(100'000)) == 100'000);
  CHECK(keel::run(depth_late(100'000)) == 100'000);
}

TEST_CASE("task: an exception comes up from a deep recursion") {
  // Each level rethrows: the price of one level is some microseconds, ten times that under sanitizers.
  const frame_balance frames;
  CHECK(thrown_by([] { keel::run(depth_throwing(10'000)); }) == "at the bottom");
}

TEST_CASE("task: on a warm path frames are recycled, none is new") {
  auto warm = []() -> task<std::uint64_t> {
    static_cast<void>(co_await ready(1));
    static_cast<void>(co_await late(1));
    const auto before = keel::this_thread_frames();
    for (int i = 0; i < 100; ++i) {
      static_cast<void>(co_await ready(1));
      static_cast<void>(co_await late(1));
    }
    CHECK(keel::this_thread_frames().recycled == before.recycled + 200);
    co_return keel::this_thread_frames().fresh - before.fresh;
  };
  CHECK(keel::run(warm()) == 0);
}

TEST_CASE("task: awaiting twice, or what was moved from, is the caller's bug") {
  auto await_twice = []() -> task<> {
    task<int> once = ready(1);
    static_cast<void>(co_await std::move(once));
    static_cast<void>(co_await std::move(once));
  };
  CHECK_DEATH(keel::run(await_twice()), "awaited a second time");

  auto await_moved_from = []() -> task<> {
    task<int> gone = ready(1);
    task<int> here = std::move(gone);
    static_cast<void>(co_await std::move(gone));
    static_cast<void>(co_await std::move(here));
  };
  CHECK_DEATH(keel::run(await_moved_from()), "moved from");
}

TEST_CASE("task: one that has ended does not move any more") {
  auto move_ended = []() -> task<> {
    task<int> ended = ready(1);
    static_cast<void>(co_await std::move(ended));
    const task<int> elsewhere = std::move(ended);
  };
  CHECK_DEATH(keel::run(move_ended()), "a task that has started was moved");
}

namespace {

// Starts a task and lets it be destroyed at its first wait, which no coroutine of a user can do.
void destroy_in_flight() {
  keel::runtime rt;
  keel::waiter nobody(
      [](keel::waiter*) noexcept -> std::coroutine_handle<> { return std::noop_coroutine(); });
  task<int> waiting = late(1);
  waiting.start(nobody, rt.at(0).tasks().context()).resume();
}

}  // namespace

TEST_CASE("task: a frame is not destroyed while it waits for something") {
  // The assertion of whichever member of the operation goes first.
  CHECK_DEATH(destroy_in_flight(), "destroyed while");
}

TEST_CASE("this_task: a task knows its stop context without a suspension") {
  auto asks = []() -> task<int> {
    const bool before = co_await keel::this_task::stopping();
    keel::stop_context* context = co_await keel::this_task::current_stop_context();
    context->request_stop(keel::stop_level::graceful);
    const bool after = co_await keel::this_task::stopping();
    co_return (before ? 1 : 0) + (after ? 2 : 0);
  };
  CHECK(keel::run(asks()) == 2);
}
