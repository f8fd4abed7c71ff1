#include <keel/runtime/blocking.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/when_all.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <pthread.h>
#include <sched.h>
#include <atomic>
#include <csignal>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <ostream>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "support/in_runtime.hpp"
#include "support/pool_caller.hpp"
#include "support/skip.hpp"
#include "support/sweep.hpp"
#include "support/tracked.hpp"

using namespace std::chrono_literals;
using keel::blocking;
using keel::errc;
using keel::result;
using keel::task;
using keel::test::gate;
using keel::test::in_runtime;
using keel::test::some_turns;

namespace {

keel::blocking_counters counters_here() {
  return keel::scheduler::current()->owner().blocking_counters();
}

// Occupies a thread until the gate is opened.
task<> stand_at(gate& at) {
  co_await blocking([&at] { gate::pass(&at); });
}

}  // namespace

TEST_CASE("blocking: gives what the function gives, from another thread") {
  in_runtime([]() -> task<> {
    const auto here = std::this_thread::get_id();
    std::thread::id there;
    const int value = co_await blocking([&there] {
      there = std::this_thread::get_id();
      return 42;
    });
    CHECK(value == 42);
    CHECK(there != here);
    CHECK(there != std::thread::id());
    bool ran = false;
    co_await blocking([&ran] { ran = true; });
    CHECK(ran);
  });
}

TEST_CASE("blocking: a result is passed on, value or error") {
  in_runtime([]() -> task<> {
    const auto good = co_await blocking([]() -> result<int> { return 7; });
    CHECK(good.value() == 7);
    const auto bad = co_await blocking([]() -> result<int> { return keel::failure(errc::timed_out, "it"); });
    CHECK(bad.error() == errc::timed_out);
  });
}

TEST_CASE("blocking: what the function throws is thrown by the co_await") {
  in_runtime([]() -> task<> {
    std::string said;
    try {
      co_await blocking([] { throw std::runtime_error("no disk"); });
    } catch (const std::runtime_error& error) {
      said = error.what();
    }
    CHECK(said == "no disk");
    bool thrown = false;
    try {
      static_cast<void>(co_await blocking([]() -> result<int> { throw std::runtime_error("no disk"); }));
    } catch (const std::runtime_error&) {
      thrown = true;
    }
    CHECK(thrown);
  });
}

TEST_CASE("blocking: a result that can only be moved") {
  in_runtime([]() -> task<> {
    auto pointer = co_await blocking([] { return std::make_unique<int>(3); });
    CHECK(*pointer == 3);
  });
}

TEST_CASE("blocking: a closure with a destructor is given by name, and not copied") {
  const keel::test::tracked_balance balance;
  in_runtime([]() -> task<> {
    auto closure = [held = std::make_unique<int>(5), t = keel::test::tracked()]() mutable { return ++*held; };
    const int once = co_await blocking(closure);
    const int twice = co_await blocking(closure);
    CHECK(once == 6);
    CHECK(twice == 7);
  });
}

TEST_CASE("blocking: a function is a callable, too") {
  in_runtime([]() -> task<> {
    const int priority = co_await blocking(::sched_yield);
    CHECK(priority == 0);
  });
}

TEST_CASE("blocking: 10,000 calls, on few threads") {
  in_runtime([]() -> task<> {
    std::atomic<int> sum{0};
    auto calls = [](std::atomic<int>& s) -> task<> {
      for (int i = 0; i < 100; ++i) {
        const int one = co_await blocking([&s] {
          ++s;
          return 1;
        });
        CHECK(one == 1);
      }
    };
    std::vector<keel::join_handle<void>> all;
    for (int i = 0; i < 100; ++i) all.push_back(keel::spawn(calls, std::ref(sum)));
    for (auto& each : all) co_await std::move(each);
    CHECK(sum == 10'000);
    const auto now = counters_here();
    CHECK(now.done == 10'000);
    CHECK(now.threads <= 16);
    CHECK(now.waiting == 0);
    CHECK(now.refused == 0);
  });
}

TEST_CASE("blocking: the counters tell what the pool does, and the limit of threads is kept") {
  gate closed;
  in_runtime(
      [&closed]() -> task<> {
        CHECK(counters_here().threads == 0);
        std::vector<keel::join_handle<void>> all;
        for (int i = 0; i < 5; ++i) all.push_back(keel::spawn(stand_at, std::ref(closed)));
        co_await some_turns();
        closed.wait_for(2);
        const auto busy = counters_here();
        CHECK(busy.threads == 2);
        CHECK(busy.idle == 0);
        CHECK(busy.running == 2);
        CHECK(busy.waiting == 3);
        CHECK(busy.done == 0);
        closed.open();
        for (auto& each : all) co_await std::move(each);
        const auto after = counters_here();
        CHECK(after.waiting == 0);
        CHECK(after.done == 5);
        CHECK(after.threads == 2);
      },
      {.blocking_threads_max = 2});
}

TEST_CASE("blocking: a call that finds the line full is refused, as an error or as an exception") {
  gate closed;
  in_runtime(
      [&closed]() -> task<> {
        auto running = keel::spawn(stand_at, std::ref(closed));
        co_await some_turns();
        closed.wait_for(1);
        auto waiting = keel::spawn(stand_at, std::ref(closed));
        co_await some_turns();
        int ran = 0;
        const auto refused = co_await blocking([&ran]() -> result<int> { return ++ran; });
        CHECK(refused.error() == std::errc::resource_unavailable_try_again);
        std::error_code thrown;
        try {
          static_cast<void>(co_await blocking([&ran] { return ++ran; }));
        } catch (const std::system_error& error) {
          thrown = error.code();
        }
        CHECK(thrown == std::errc::resource_unavailable_try_again);
        CHECK(ran == 0);
        CHECK(counters_here().refused == 2);
        closed.open();
        co_await std::move(running);
        co_await std::move(waiting);
      },
      {.blocking_threads_max = 1, .blocking_calls_max = 1});
}

TEST_CASE("blocking: a stop takes a call back that has not begun, if it can say so") {
  gate closed;
  in_runtime(
      [&closed]() -> task<> {
        auto running = keel::spawn(stand_at, std::ref(closed));
        co_await some_turns();
        closed.wait_for(1);
        int ran = 0;
        auto gives_result = [](int& r) -> task<result<int>> {
          co_return co_await blocking([&r]() -> result<int> { return ++r; });
        };
        auto gives_value = [](int& r) -> task<int> { co_return co_await blocking([&r] { return r += 10; }); };
        auto one = keel::spawn(gives_result, std::ref(ran));
        auto other = keel::spawn(gives_value, std::ref(ran));
        co_await some_turns();
        one.request_stop();
        other.request_stop();
        const auto taken_back = co_await std::move(one);
        CHECK(taken_back.error() == errc::operation_canceled);
        CHECK(!other.done());
        closed.open();
        const int run = co_await std::move(other);
        CHECK(run == 10);
        co_await std::move(running);
      },
      {.blocking_threads_max = 1});
}

TEST_CASE("blocking: a stop waits for a call that has begun, and its result counts") {
  gate closed;
  in_runtime([&closed]() -> task<> {
    auto calls = [](gate& at) -> task<result<int>> {
      co_return co_await blocking([&at]() -> result<int> { return gate::pass(&at); });
    };
    auto running = keel::spawn(calls, std::ref(closed));
    co_await some_turns();
    closed.wait_for(1);
    running.request_stop();
    co_await some_turns();
    CHECK(!running.done());
    closed.open();
    const auto ended = co_await std::move(running);
    CHECK(ended.value() == 1);
  });
}

TEST_CASE("blocking: in a task that was stopped before, a call that can say so is not made") {
  in_runtime([]() -> task<> {
    int ran = 0;
    auto both = [](int& r) -> task<result<int>> {
      co_await blocking([&r] { ++r; });
      co_return co_await blocking([&r]() -> result<int> { return r += 10; });
    };
    auto handle = keel::spawn(both, std::ref(ran));
    handle.request_stop();
    const auto ended = co_await std::move(handle);
    CHECK(ended.error() == errc::operation_canceled);
    CHECK(ran == 1);
  });
}

TEST_CASE("blocking: goes with combinators") {
  in_runtime([]() -> task<> {
    const auto both = co_await keel::when_all(blocking([] { return 1; }), blocking([] { return 2; }));
    CHECK(std::get<0>(both) == 1);
    CHECK(std::get<1>(both) == 2);
    const auto in_time = co_await keel::with_timeout(100s, blocking([]() -> result<int> { return 3; }));
    CHECK(in_time.value() == 3);
  });
}

TEST_CASE("blocking: its threads take no signals, and run where the program may, not where we are pinned") {
  cpu_set_t program;
  REQUIRE(::sched_getaffinity(0, sizeof program, &program) == 0);
  in_runtime([&program]() -> task<> {
    sigset_t blocked;
    cpu_set_t cpus;
    co_await blocking([&blocked, &cpus] {
      ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
      ::sched_getaffinity(0, sizeof cpus, &cpus);
    });
    for (const int signal : {SIGINT, SIGTERM, SIGCHLD, SIGUSR1, SIGPIPE, SIGALRM})
      CHECK(::sigismember(&blocked, signal) == 1);
    CHECK(::sigismember(&blocked, SIGSEGV) == 0);
    CHECK(CPU_EQUAL(&cpus, &program));
  });
}

TEST_CASE("blocking: several schedulers share one pool") {
  std::atomic<int> done{0};
  std::mutex mutex;
  std::set<std::thread::id> threads;
  auto calls = [&]() -> task<> {
    for (int i = 0; i < 200; ++i) {
      co_await blocking([&] {
        const std::lock_guard lock(mutex);
        threads.insert(std::this_thread::get_id());
        ++done;
      });
    }
  };
  keel::run({.cpus = 2, .more = {.blocking_threads_max = 2}}, calls);
  CHECK(done == 400);
  CHECK(threads.size() <= 2);
}

TEST_CASE("blocking: a runtime that ends awaits the calls of the tasks that are left") {
  std::atomic<bool> ended{false};
  gate closed;
  auto left = [](gate& at, std::atomic<bool>& done) -> task<> {
    co_await blocking([&at, &done] {
      gate::pass(&at);
      done = true;
    });
  };
  std::thread opener;
  in_runtime([&]() -> task<> {
    keel::spawn(left, std::ref(closed), std::ref(ended));
    co_await some_turns();
    closed.wait_for(1);
    opener = std::thread([&closed] { closed.open(); });
  });
  CHECK(ended);
  opener.join();
}

TEST_CASE("blocking: stopped at every point it leaves nothing behind") {
  auto calls = []() -> task<> {
    for (int i = 0; i < 4; ++i) {
      const auto one = co_await blocking([]() -> result<int> { return 1; });
      if (!one) co_return;
    }
  };
  // The pool keeps a thread, but no descriptor.
  const unsigned runs = keel::test::sweep([&](keel::runtime& rt) {
    rt.spawn(calls);
    rt.spawn(calls);
  });
  CHECK(runs > 3);
}
