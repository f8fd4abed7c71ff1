#include <keel/runtime/spawn_on.hpp>

#include <keel/runtime/graceful.hpp>
#include <keel/runtime/run.hpp>
#include <keel/runtime/scope.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/when_all.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include "support/death_test.hpp"
#include "support/in_runtime.hpp"
#include "support/tracked.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::result;
using keel::scheduler;
using keel::spawn_on;
using keel::stop_level;
using keel::task;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

// Runs `body` on the first of `cpus` schedulers.
template <class Fn>
void on_several(int cpus, Fn body, keel::runtime_options options = {}) {
  options.cpus = cpus;
  keel::runtime rt(options);
  rt.spawn(body);
  rt.run();
}

task<unsigned> where_am_i() {
  co_return scheduler::current()->index();
}
task<> until_stopped(std::atomic<int>& stopped) {
  const auto slept = co_await keel::sleep_for(1h);
  if (slept.error() == errc::operation_canceled) ++stopped;
}
task<int> thrown() {
  throw std::runtime_error("from afar");
  co_return 1;
}

}  // namespace

TEST_CASE("spawn_on: runs there, and its result comes home") {
  on_several(3, []() -> task<> {
    for (unsigned index = 0; index < 3; ++index) {
      const unsigned there = co_await spawn_on(index, where_am_i);
      CHECK(there == index);
      CHECK(scheduler::current()->index() == 0);
    }
  });
}

TEST_CASE("spawn_on: arguments are moved there, std::ref refers, the callable may be named") {
  const tracked_balance objects;
  on_several(2, []() -> task<> {
    int there = 0;
    auto use = [](std::unique_ptr<int> moved, int& referred, tracked) -> task<std::unique_ptr<int>> {
      referred = *moved + 1;
      co_return moved;
    };
    auto handle =
        spawn_on(1, keel::named("afar", use), std::make_unique<int>(7), std::ref(there), tracked(1));
    const auto back = co_await std::move(handle);
    CHECK(*back == 7);
    CHECK(there == 8);
  });
}

TEST_CASE("spawn_on: exceptions and error results come home") {
  on_several(2, []() -> task<> {
    auto far = spawn_on(1, thrown);
    std::string what;
    try {
      co_await std::move(far);
    } catch (const std::runtime_error& e) {
      what = e.what();
    }
    CHECK(what == "from afar");
    auto refused = spawn_on(1, []() -> task<result<int>> { co_return errc::closed; });
    const auto got = co_await std::move(refused);
    CHECK(got.error() == errc::closed);
  });
}

TEST_CASE("spawn_on: many at once, from and to every scheduler") {
  std::atomic<int> runs{0};
  keel::runtime_options options;
  options.cpus = 3;
  keel::runtime rt(options);
  auto visit = [](std::atomic<int>& count) -> task<> {
    ++count;
    co_return;
  };
  auto spread = [](auto to, std::atomic<int>& count) -> task<> {
    for (unsigned i = 0; i < 300; ++i) {
      auto one = spawn_on(i % 3, to, std::ref(count));
      auto dropped = spawn_on((i + 1) % 3, to, std::ref(count));
      co_await std::move(one);
    }
  };
  for (unsigned i = 0; i < 3; ++i) keel::detail::spawn_into(rt.at(i).tasks(), spread, visit, std::ref(runs));
  rt.run();
  CHECK(runs == 3 * 300 * 2);
}

TEST_CASE("spawn_on: a dropped task runs to its end, which the runtime awaits") {
  std::atomic<int> ended{0};
  on_several(2, [&]() -> task<> {
    spawn_on(
        1,
        [](std::atomic<int>& count) -> task<> {
          co_await keel::test::pause(1ms);
          ++count;
        },
        std::ref(ended));
    co_return;
  });
  CHECK(ended == 1);
}

TEST_CASE("spawn_on: the failure of a dropped task goes to the runtime's handlers, with its name") {
  static std::atomic<int> errors;
  static std::atomic<int> exceptions;
  errors = exceptions = 0;
  keel::runtime_options options;
  options.on_error = [](const keel::task_description& task, std::error_code) {
    if (std::string(task.name()) == "refused") ++errors;
  };
  options.on_exception = [](const keel::task_description& task, std::exception_ptr) {
    if (std::string(task.name()) == "thrown") ++exceptions;
  };
  on_several(
      2,
      []() -> task<> {
        auto refuse = []() -> task<result<int>> { co_return errc::closed; };
        spawn_on(1, keel::named("refused", refuse));
        spawn_on(1, keel::named("thrown", thrown));
        auto kept = spawn_on(1, keel::named("thrown", thrown));
        while (!kept.done()) co_await keel::test::some_turns();
      },
      options);
  CHECK(errors == 1);
  CHECK(exceptions == 2);
}

TEST_CASE("spawn_on: a stop travels, and the end is awaited") {
  for (const bool at_once : {false, true}) {
    CAPTURE(at_once);
    std::atomic<int> stopped{0};
    on_several(2, [&]() -> task<> {
      co_await keel::scope([&](keel::scope& children) -> task<> {
        auto body = [&stopped]() -> task<> { co_await spawn_on(1, until_stopped, std::ref(stopped)); };
        auto awaiting = children.spawn(std::ref(body));
        if (!at_once) co_await keel::test::pause(1ms);
        awaiting.request_stop();
        co_await std::move(awaiting);
        CHECK(stopped == 1);
      });
    });
  }
}

TEST_CASE("spawn_on: the graceful level arrives as such, the hard one may follow") {
  on_several(2, []() -> task<> {
    static std::atomic<int> levels;
    levels = 0;
    auto body = []() -> task<> {
      const auto slept = co_await keel::graceful(keel::sleep_for(1h));
      levels = slept.error() == errc::operation_canceled ? 1 : 100;
      (void)co_await keel::sleep_for(1h);
      ++levels;
    };
    auto far = spawn_on(1, body);
    far.request_stop(stop_level::graceful);
    far.request_stop(stop_level::graceful);
    while (levels == 0) co_await keel::test::some_turns();
    far.request_stop();
    co_await std::move(far);
    CHECK(levels == 2);
  });
}

TEST_CASE("C2, spawn_on: stops and ends that race lose nothing") {
  on_several(2, []() -> task<> {
    for (int round = 0; round < 2000; ++round) {
      auto far = spawn_on(
          1,
          [](int turns) -> task<int> {
            for (int i = 0; i < turns; ++i) (void)co_await keel::sleep_for(0s);
            co_return turns;
          },
          round % 4);
      for (int i = 0; i < round % 3; ++i) co_await keel::test::some_turns(1);
      far.request_stop(round % 2 == 0 ? stop_level::hard : stop_level::graceful);
      if (round % 5 == 0) continue;
      const int turns = co_await std::move(far);
      CHECK(turns == round % 4);
    }
  });
}

TEST_CASE("spawn_on: a hard stop of the runtime ends what is far away, and what is on its way") {
  std::atomic<int> stopped{0};
  keel::runtime_options options;
  options.cpus = 2;
  keel::runtime rt(options);
  rt.spawn([&]() -> task<> {
    for (int i = 0; i < 20; ++i) spawn_on(1, until_stopped, std::ref(stopped));
    auto awaited = spawn_on(1, until_stopped, std::ref(stopped));
    rt.request_stop();
    co_await std::move(awaited);
  });
  rt.run();
  CHECK(stopped == 21);
}

TEST_CASE("spawn_on: to a runtime beside ours") {
  keel::runtime other;
  std::atomic<bool> ready{false};
  std::atomic<bool> over{false};
  other.spawn([&]() -> task<> {
    ready = true;
    while (!over) co_await keel::test::pause(1ms);
  });
  std::thread thread([&] { other.run(); });
  on_several(1, [&]() -> task<> {
    while (!ready) co_await keel::test::pause(1ms);
    const bool there = co_await spawn_on(
        other.at(0), [](keel::runtime* rt) -> task<bool> { co_return &scheduler::current()->owner() == rt; },
        &other);
    CHECK(there);
  });
  over = true;
  thread.join();
}

TEST_CASE("least_loaded: new work goes where the fewest tasks are") {
  on_several(3, []() -> task<> {
    std::atomic<int> stopped{0};
    co_await keel::scope([&](keel::scope& children) -> task<> {
      std::array<int, 3> placed{};
      for (int i = 0; i < 30; ++i) {
        scheduler& where = keel::least_loaded();
        ++placed[where.index()];
        auto body = [](scheduler& to, std::atomic<int>& count) -> task<> {
          co_await spawn_on(to, until_stopped, std::ref(count));
        };
        children.spawn(body, std::ref(where), std::ref(stopped));
        // Its task here begins, and sends the other one off.
        co_await keel::test::some_turns(2);
      }
      // The first scheduler has this task, and one for each that was sent away.
      CHECK(placed[1] >= 8);
      CHECK(placed[2] >= 8);
      children.request_stop();
    });
    CHECK(stopped == 30);
  });
}

TEST_CASE("spawn_on: a number that no scheduler has, or no scheduler here, is asserted") {
  CHECK_DEATH(on_several(2,
                         []() -> task<> {
                           spawn_on(2, where_am_i);
                           co_return;
                         }),
              "a number that no scheduler of this runtime has");
  CHECK_DEATH(spawn_on(0, where_am_i), "needs a scheduler");
}
