#include <keel/runtime/fiber.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/scope.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/this_task.hpp>
#include <keel/runtime/when_all.hpp>
#include <keel/runtime/when_any.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <ostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/build.hpp"
#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/in_runtime.hpp"
#include "support/tracked.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::await;
using keel::errc;
using keel::fiber;
using keel::on_fiber;
using keel::result;
using keel::scope;
using keel::sleep_for;
using keel::spawn_fiber;
using keel::task;
using keel::test::frame_balance;
using keel::test::in_runtime;
using keel::test::run_simulated;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

task<int> ready(int value) {
  co_return value;
}

task<int> slow(int value) {
  co_await keel::test::pause(1ms);
  co_return value;
}

task<int> throws_later(const char* what) {
  co_await keel::test::pause(1ms);
  throw std::runtime_error(what);
}

// Uses some stack in each call, and what awaits does so at the deepest point.
int deep(int depth) {
  volatile char frame[512] = {};
  frame[0] = 1;
  if (depth == 0) return await(slow(0));
  return deep(depth - 1) + frame[0];
}

}  // namespace

TEST_CASE("fiber: gives its value to the task that awaits it") {
  const frame_balance frames;
  in_runtime([]() -> task<> {
    const int sum = co_await fiber([] { return await(slow(1)) + await(ready(2)); });
    CHECK(sum == 3);
    int seen = 0;
    co_await fiber([&] { seen = 4; });
    CHECK(seen == 4);
    auto text = [made = std::make_unique<std::string>("moved")]() mutable { return std::move(made); };
    const auto moved = co_await fiber([&] { return text(); });
    CHECK(*moved == "moved");
  });
}

TEST_CASE("fiber: awaits from the bottom of a recursion") {
  in_runtime([]() -> task<> {
    const int depth = co_await fiber([] { return deep(50); });
    CHECK(depth == 50);
  });
}

TEST_CASE("fiber: a stack of the size that was asked for") {
  run_simulated([]() -> task<> {
    const int depth = co_await fiber([] { return deep(4'000); }, {.stack_bytes = 8 << 20});
    CHECK(depth == 4'000);
  }());
}

TEST_CASE("fiber: an awaited task runs on the scheduler's stack") {
  run_simulated([]() -> task<> {
    auto where = []() -> task<std::uintptr_t> {
      int local = 0;
      co_await keel::test::pause(0s);
      co_return reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)) + 0 * unsigned(local);
    };
    const auto outside = co_await where();
    std::uintptr_t inside = 0;
    std::uintptr_t of_fiber = 0;
    co_await fiber([&] {
      of_fiber = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
      inside = await(where());
    });
    auto apart = [](std::uintptr_t a, std::uintptr_t b) { return a > b ? a - b : b - a; };
    CHECK(apart(inside, outside) < (64u << 10));
    CHECK(apart(of_fiber, outside) > (64u << 10));
  }());
}

TEST_CASE("H9 fiber: an exception leaves the co_await, one of a task leaves the await") {
  const frame_balance frames;
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    auto thrower = []() -> int {
      const tracked local;
      throw std::out_of_range("from the fiber");
    };
    CHECK_THROWS_AS(co_await fiber(thrower), std::out_of_range);

    auto passes_on = [] {
      const tracked local;
      return await(throws_later("from the task"));
    };
    CHECK_THROWS_WITH(co_await fiber(passes_on), "from the task");

    auto catches = [] {
      try {
        await(throws_later("caught"));
      } catch (const std::runtime_error& e) {
        return std::string(e.what());
      }
      return std::string();
    };
    const std::string caught = co_await fiber(catches);
    CHECK(caught == "caught");

    auto handle = spawn_fiber(thrower);
    CHECK_THROWS_AS(co_await std::move(handle), std::out_of_range);
  }());
}

TEST_CASE("H9 fiber: waits in a catch block, while others throw and catch") {
  run_simulated([]() -> task<> {
    auto stubborn = [](int number) {
      try {
        throw number;
      } catch (const int& first) {
        for (int i = 0; i < 3; ++i) {
          try {
            await(throws_later("inner"));
          } catch (const std::runtime_error&) {
            await(sleep_for(1us * number)).value();
            CHECK(std::uncaught_exceptions() == 0);
          }
          CHECK(first == number);
          CHECK(std::current_exception() != nullptr);
        }
        try {
          await(sleep_for(1us)).value();
          throw;
        } catch (const int& again) {
          CHECK(again == number);
          return again;
        }
      }
      return -1;
    };
    std::vector<keel::join_handle<int>> fibers;
    for (int i = 0; i < 20; ++i) fibers.push_back(spawn_fiber(stubborn, i));
    int sum = 0;
    for (auto& each : fibers) sum += co_await std::move(each);
    CHECK(sum == 190);
    CHECK(std::current_exception() == nullptr);
  }());
}

TEST_CASE("H9 fiber: waits in a destructor that an exception runs") {
  struct says_goodbye {
    ~says_goodbye() {
      CHECK(std::uncaught_exceptions() == 1);
      static_cast<void>(await(sleep_for(1ms)));
      CHECK(std::uncaught_exceptions() == 1);
    }
  };
  run_simulated([]() -> task<> {
    auto leaves = [] {
      const says_goodbye last;
      throw 7;
    };
    auto one = spawn_fiber(leaves);
    auto other = spawn_fiber(leaves);
    co_await keel::test::some_turns();
    CHECK(std::uncaught_exceptions() == 0);
    CHECK_THROWS_AS(co_await std::move(one), int);
    CHECK_THROWS_AS(co_await std::move(other), int);
  }());
}

TEST_CASE("fiber: fibers in tasks in fibers") {
  const frame_balance frames;
  in_runtime([]() -> task<> {
    auto outer = [] {
      auto middle = []() -> task<int> {
        const int inner = co_await fiber([] { return await(slow(1)) + await(fiber([] { return 10; })); });
        co_return inner + 100;
      };
      return await(middle()) + await(fiber([] { return await(slow(1'000)); }));
    };
    const int sum = co_await fiber(outer);
    CHECK(sum == 1'111);
  });
}

TEST_CASE("H4 fiber: hundreds of thousands of awaits that are ready use no stack") {
  run_simulated([]() -> task<> {
    constexpr int times = 300'000;
    const int sum = co_await fiber([] {
      int all = 0;
      for (int i = 0; i < times; ++i) all += await(ready(1));
      return all;
    });
    CHECK(sum == times);
    const int fibers = co_await fiber([] {
      int all = 0;
      for (int i = 0; i < times / 10; ++i) all += await(fiber([] { return await(ready(1)); }));
      return all;
    });
    CHECK(fibers == times / 10);
  }());
}

TEST_CASE("H1 fiber: one that never has to wait lets the others run") {
  run_simulated([]() -> task<> {
    bool other_ran = false;
    auto other = [](bool& flag) -> task<> {
      flag = true;
      co_return;
    };
    keel::spawn(other, std::ref(other_ran));
    auto busy = [&] {
      int yields = 0;
      while (!other_ran && yields < 10) {
        keel::this_fiber::yield();
        ++yields;
      }
      return yields;
    };
    const int yields = co_await fiber(busy);
    CHECK(yields == 1);
  }());
}

TEST_CASE("spawn_fiber: arguments are stored with the fiber, std::ref refers") {
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    int out = 0;
    auto add = [](const tracked& a, std::unique_ptr<int> b, int& into) {
      await(sleep_for(1ms)).value();
      into = a.value + *b;
      return std::string(keel::this_fiber::name());
    };
    auto handle = spawn_fiber(keel::named("adder", add), tracked(1), std::make_unique<int>(2), std::ref(out));
    const std::string name = co_await std::move(handle);
    CHECK(out == 3);
    CHECK(name == "adder");
  }());
}

TEST_CASE("fiber: in scopes, when_all, when_any and with_timeout") {
  const frame_balance frames;
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    int ended = 0;
    auto child = [](int& count) {
      const tracked local;
      await(sleep_for(1ms)).value();
      ++count;
    };
    auto body = [&](scope& s) -> task<> {
      for (int i = 0; i < 5; ++i) s.spawn(on_fiber(child), std::ref(ended));
      s.spawn(keel::on_fiber(keel::named("child", child)), std::ref(ended));
      co_return;
    };
    co_await scope(body);
    CHECK(ended == 6);

    auto naps = [](keel::duration d) {
      return [d] {
        const tracked local;
        return await(sleep_for(d)).error() == errc::operation_canceled;
      };
    };
    const auto [a, b] = co_await keel::when_all(fiber(naps(1ms)), fiber(naps(2ms)));
    CHECK(!a);
    CHECK(!b);
    const auto first = co_await keel::when_any(fiber(naps(1h)), fiber(naps(1ms)));
    CHECK(first.index == 1);
    CHECK(std::get<0>(first.values) == true);
    const auto late = co_await keel::with_timeout(1ms, fiber([] { return await(sleep_for(1h)); }));
    CHECK(late.error() == errc::timed_out);
    // And the other way round: a fiber awaits all of them.
    const bool timed_out = co_await fiber([] {
      const auto inner = await(keel::with_timeout(1ms, fiber([] { return await(sleep_for(1h)); })));
      const auto any = await(keel::when_any(slow(1), sleep_for(1h)));
      return inner.error() == errc::timed_out && any.index == 0;
    });
    CHECK(timed_out);
  }());
}

TEST_CASE("fiber: a stop ends what it awaits, and it may clean up") {
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    int cleaned = 0;
    auto obstinate = [](int& steps) {
      const tracked local;
      CHECK(!keel::this_fiber::stopping());
      CHECK(await(sleep_for(1h)).error() == errc::operation_canceled);
      CHECK(keel::this_fiber::stopping());
      CHECK(await(sleep_for(1h)).error() == errc::operation_canceled);
      keel::this_fiber::yield();
      steps += await(ready(1));
    };
    auto handle = spawn_fiber(obstinate, std::ref(cleaned));
    co_await keel::test::pause(1ms);
    handle.request_stop();
    co_await std::move(handle);
    CHECK(cleaned == 1);
  }());
}

TEST_CASE("fiber: the end of a runtime stops fibers and awaits them") {
  const frame_balance frames;
  const tracked_balance objects;
  int canceled = 0;
  run_simulated([](int& count) -> task<> {
    auto waits = [](int& into) {
      const tracked local;
      if (!await(sleep_for(1h))) ++into;
    };
    for (int i = 0; i < 10; ++i) spawn_fiber(waits, std::ref(count));
    co_await keel::test::pause(1ms);
    // Stopped before it has begun.
    spawn_fiber(waits, std::ref(count));
  }(canceled));
  CHECK(canceled == 11);
  CHECK(keel::this_thread_fibers().in_use == 0);
}

TEST_CASE("fiber: the node of its task knows what it waits for, and where") {
  run_simulated([]() -> task<> {
    keel::task_node* node = nullptr;
    auto waits = [&] {
      node = &keel::scheduler::current()->running();
      static_cast<void>(await(sleep_for(1h)));
    };
    auto handle = spawn_fiber(keel::named("sleeper", waits));
    co_await keel::test::pause(1ms);
    REQUIRE(node != nullptr);
    CHECK(node->name == std::string("sleeper"));
    CHECK(node->waits_for == std::string("a time"));
    REQUIRE(node->innermost != nullptr);
    CHECK(std::string(node->innermost->awaits.file_name()).ends_with("fiber_test.cpp"));
    REQUIRE(node->innermost->caller != nullptr);
    CHECK(node->innermost->caller->caller == nullptr);
    handle.request_stop();
    co_await std::move(handle);
  }());
}

TEST_CASE("fiber: knows whether it is one, and how much stack is left") {
  CHECK(!keel::in_fiber());
  run_simulated([]() -> task<> {
    CHECK(!keel::in_fiber());
    auto look = [] {
      CHECK(keel::in_fiber());
      const keel::fiber_stack_use use = keel::this_fiber::stack_use();
      CHECK(use.stack_bytes == (keel::test::sanitized ? 4u : 1u) * (64u << 10) - 128);
      CHECK(use.free_bytes < use.stack_bytes);
      CHECK(use.free_bytes > use.stack_bytes - (16u << 10));
      CHECK(use.high_water_bytes >= use.stack_bytes - use.free_bytes - 256);
    };
    co_await fiber(look);
  }());
}

TEST_CASE("fiber: awaiting outside of one is the caller's bug") {
  CHECK_DEATH(await(sleep_for(1ms)), "co_await");
  auto in_a_task = [] {
    keel::run([]() -> task<> {
      auto confused = []() -> task<> {
        await(sleep_for(1ms)).value();
        co_return;
      };
      // A task that a fiber awaits is not in the fiber.
      co_await fiber([&] { await(confused()); });
    }());
  };
  CHECK_DEATH(in_a_task(), "a task says co_await");
  CHECK_DEATH(keel::this_fiber::stopping(), "for code in a fiber");
  CHECK_DEATH(keel::this_fiber::yield(), "for code in a fiber");
}

TEST_CASE("fiber: a runtime inside of a fiber is a world of its own") {
  keel::run([]() -> task<> {
    const int sum = co_await fiber([] { return keel::run(slow(1)) + await(slow(2)); });
    CHECK(sum == 3);
    const int inner = co_await fiber([] {
      return keel::run([]() -> task<int> { co_return co_await fiber([] { return await(slow(5)); }); }());
    });
    CHECK(inner == 5);
  }());
  auto strays = [] {
    keel::run([]() -> task<> {
      auto stray = []() -> task<> {
        await(ready(1));
        co_return;
      };
      co_await fiber([&] { keel::run(stray()); });
    }());
  };
  CHECK_DEATH(strays(), "a runtime inside of a fiber");
}

TEST_CASE("fiber: destroying one that is suspended is the caller's bug") {
  // By hand: the awaitable is destroyed while it is started.
  auto destroyed = [] {
    run_simulated([]() -> task<> {
      struct nobody : keel::waiter {
        nobody() : waiter(&nothing) {}
        static std::coroutine_handle<> nothing(waiter*) noexcept { return std::noop_coroutine(); }
      } up;
      keel::stop_context* context = co_await keel::this_task::current_stop_context();
      {
        auto op = fiber([] { return await(sleep_for(1h)); });
        keel::detail::resume(op.start(up, *context));
      }
      co_return;
    }());
  };
  CHECK_DEATH(destroyed(), "destroyed before it had ended");
}
