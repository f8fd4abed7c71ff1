#include <keel/runtime/run.hpp>

#include <keel/runtime/graceful.hpp>
#include <keel/runtime/sleep.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <ostream>
#include <stdexcept>
#include <string>
#include <unistd.h>

#include "support/descriptors.hpp"
#include "support/frame_balance.hpp"
#include "support/stderr_of.hpp"
#include "support/tracked.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::result;
using keel::run;
using keel::run_options;
using keel::sleep_for;
using keel::task;
using keel::test::frame_balance;
using keel::test::stderr_of;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

task<int> one_as_function() { co_return 1; }

struct ended {
  int code = -1;
  std::string said;
};

// Runs a whole program; gives its exit code and what it printed.
template <class Fn>
ended program(const run_options& options, Fn fn) {
  ended end;
  end.said = stderr_of([&] { end.code = run(options, fn); });
  return end;
}

// Sends SIGINT to the process as soon as the tasks run, and once more after a while if asked to.
task<> interrupt(bool twice) {
  static_cast<void>(co_await sleep_for(1ms));
  ::kill(::getpid(), SIGINT);
  if (!twice) co_return;
  static_cast<void>(co_await sleep_for(20ms));
  ::kill(::getpid(), SIGTERM);
}

}  // namespace

TEST_CASE("run(task): gives what the task gives, or throws what it threw") {
  const frame_balance frames;
  CHECK(run([]() -> task<int> { co_return 7; }()) == 7);
  CHECK(run([]() -> task<result<int>> { co_return errc::closed; }()).error() == errc::closed);
  CHECK(*run([]() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(3); }()) == 3);
  CHECK_THROWS_AS(run([]() -> task<> {
                    throw std::runtime_error("thrown");
                    co_return;
                  }()),
                  std::runtime_error);
}

TEST_CASE("run(task): leaves no descriptor, frame or object behind") {
  const tracked_balance objects;
  const frame_balance frames;
  run(one_as_function());
  const auto before = keel::test::open_descriptors();
  run([](tracked) -> task<> { static_cast<void>(co_await sleep_for(1us)); }(tracked(1)));
  CHECK(keel::test::open_descriptors() == before);
}

TEST_CASE("run(task): tasks that are left at its end are stopped and awaited") {
  const tracked_balance objects;
  const frame_balance frames;
  int stopped = 0;
  auto left = [](int& count, tracked) -> task<> {
    const auto slept = co_await sleep_for(1h);
    if (slept.error() == errc::operation_canceled) ++count;
    // The end takes as long as it takes.
    const auto again = co_await sleep_for(1h);
    if (again.error() == errc::operation_canceled) ++count;
  };
  run([](auto child, int& count) -> task<> {
    for (int i = 0; i < 3; ++i) keel::spawn(child, std::ref(count), tracked(i));
    static_cast<void>(co_await sleep_for(1us));
    keel::spawn(child, std::ref(count), tracked(4));
  }(left, stopped));
  CHECK(stopped == 8);
}

TEST_CASE("run(task): ends with its task, whatever others wait for") {
  const auto started = std::chrono::steady_clock::now();
  run([]() -> task<> {
    keel::spawn([]() -> task<> { static_cast<void>(co_await sleep_for(1h)); });
    co_return;
  }());
  CHECK(std::chrono::steady_clock::now() - started < 30min);
}

TEST_CASE("run(task): one inside a task of another is a runtime of its own") {
  CHECK(run([]() -> task<int> {
          keel::scheduler* const outer = keel::scheduler::current();
          const int inner = run([](keel::scheduler* o) -> task<int> {
            static_cast<void>(co_await sleep_for(1us));
            co_return keel::scheduler::current() != o ? 1 : 0;
          }(outer));
          CHECK(keel::scheduler::current() == outer);
          static_cast<void>(co_await sleep_for(1us));
          co_return inner;
        }()) == 1);
}

TEST_CASE("run: the exit code is 0, or what a task<int> gave") {
  CHECK(program({}, []() -> task<> { co_return; }).code == 0);
  CHECK(program({}, []() -> task<int> { co_return 3; }).code == 3);
  CHECK(program({}, []() -> task<result<void>> { co_return {}; }).code == 0);
  CHECK(program({}, []() -> task<result<std::string>> { co_return "text"; }).code == 0);
  CHECK(program({}, one_as_function).code == 1);
  CHECK(run({}, one_as_function) == 1);
}

TEST_CASE("run: the first failure is printed and gives 1") {
  const auto error =
      program({}, []() -> task<result<int>> { co_return keel::failure(errc::closed, "read the map"); });
  CHECK(error.code == 1);
  CHECK(error.said.find("keel: the program stops: read the map: ") != std::string::npos);
  const auto thrown = program({}, []() -> task<> {
    throw std::runtime_error("no more");
    co_return;
  });
  CHECK(thrown.code == 1);
  CHECK(thrown.said == "keel: the program stops: std::runtime_error: no more\n");
  const auto no_task = program({}, []() -> task<int> { throw 5; });
  CHECK(no_task.code == 1);
  CHECK(no_task.said == "keel: the program stops: int\n");
}

TEST_CASE("run: a main task that was stopped has not failed") {
  const auto stopped = program({}, []() -> task<result<void>> {
    keel::scheduler::current()->owner().request_stop();
    co_return co_await sleep_for(1h);
  });
  CHECK(stopped.code == 0);
  CHECK(stopped.said.empty());
}

TEST_CASE("run: calls the function on each scheduler, whose threads run at once") {
  // Each waits for the other one: on one thread that would never end.
  std::atomic<unsigned> here{0};
  std::array<std::atomic<int>, 2> calls{};
  const int code = run({.cpus = 2}, [&]() {
    return [](auto& counts, auto& present) -> task<int> {
      ++counts[keel::scheduler::current()->index()];
      ++present;
      for (;;) {
        const auto slept = co_await sleep_for(1ms);
        if (!slept || present == 2) break;
      }
      co_return static_cast<int>(keel::scheduler::current()->index()) + 4;
    }(calls, here);
  });
  CHECK(calls[0] == 1);
  CHECK(calls[1] == 1);
  CHECK(code == 5);
}

TEST_CASE("run: a failure on one scheduler stops the others, and is printed once") {
  std::atomic<int> canceled{0};
  const auto end = program({.cpus = 3}, [&]() {
    return [](std::atomic<int>& count) -> task<result<void>> {
      if (keel::scheduler::current()->index() == 1) co_return errc::closed;
      const auto slept = co_await sleep_for(1h);
      if (slept.error() == errc::operation_canceled) ++count;
      co_return slept;
    }(canceled);
  });
  CHECK(end.code == 1);
  CHECK(canceled == 2);
  CHECK(end.said.find("keel: the program stops: ") == 0);
  CHECK(end.said.find('\n') == end.said.size() - 1);
}

TEST_CASE("run: when the main tasks have ended, whatever else runs is stopped and awaited") {
  std::atomic<int> canceled{0};
  const int code = run({.cpus = 2}, [&]() {
    return [](std::atomic<int>& count) -> task<> {
      auto left = [](std::atomic<int>& c) -> task<> {
        const auto slept = co_await sleep_for(1h);
        if (slept.error() == errc::operation_canceled) ++c;
      };
      keel::spawn(left, std::ref(count));
      static_cast<void>(co_await sleep_for(1us));
    }(canceled);
  });
  CHECK(code == 0);
  CHECK(canceled == 2);
}

TEST_CASE("run: with stop_on_signals a signal stops all schedulers at once, and the exit code is 0") {
  for (const int signal : {SIGINT, SIGTERM}) {
    std::atomic<int> canceled{0};
    const auto end = program({.cpus = 2, .stop_on_signals = true}, [&]() {
      return [](int number, std::atomic<int>& count) -> task<result<void>> {
        if (keel::scheduler::current()->index() == 1) ::kill(::getpid(), number);
        const auto slept = co_await sleep_for(1h);
        if (slept.error() == errc::operation_canceled) ++count;
        co_return slept;
      }(signal, canceled);
    });
    CHECK(end.code == 0);
    CHECK(end.said.empty());
    CHECK(canceled == 2);
  }
}

TEST_CASE("run: with a grace a signal stops new work, and lets what is under way finish") {
  const int code = run({.stop_on_signals = true, .grace = 1h}, []() -> task<int> {
    keel::spawn(interrupt, false);
    const auto new_work = co_await keel::graceful(sleep_for(1h));
    const auto old_work = co_await sleep_for(1ms);
    co_return new_work.error() == errc::operation_canceled && old_work ? 42 : 1;
  });
  CHECK(code == 42);
}

TEST_CASE("run: when the grace is over, or with a second signal, what is left is stopped") {
  struct how {
    keel::duration grace;
    bool second_signal;
  };
  for (const how& h : {how{5ms, false}, how{1h, true}}) {
    auto main = [&h]() {
      return [](bool twice) -> task<int> {
        keel::spawn(interrupt, twice);
        const auto new_work = co_await keel::graceful(sleep_for(1h));
        const auto old_work = co_await sleep_for(1h);
        co_return new_work.error() == errc::operation_canceled &&
            old_work.error() == errc::operation_canceled ? 42 : 1;
      }(h.second_signal);
    };
    CHECK(run({.stop_on_signals = true, .grace = h.grace}, main) == 42);
  }
}

TEST_CASE("run: afterwards the signals do again what they did before") {
  struct sigaction before = {};
  struct sigaction after = {};
  ::sigaction(SIGINT, nullptr, &before);
  run({.stop_on_signals = true}, []() -> task<> { co_return; });
  ::sigaction(SIGINT, nullptr, &after);
  CHECK((before.sa_handler == after.sa_handler));
}
