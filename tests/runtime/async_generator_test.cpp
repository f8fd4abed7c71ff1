#include <keel/runtime/async_generator.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "support/build.hpp"
#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/sweep.hpp"
#include "support/tracked.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::async_generator;
using keel::errc;
using keel::result;
using keel::sleep_for;
using keel::task;
using keel::test::frame_balance;
using keel::test::now;
using keel::test::run_simulated;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

static_assert(std::is_same_v<keel::await_result<async_generator<int>::next_op>, std::optional<int>>);
static_assert(!std::is_copy_constructible_v<async_generator<int>>);

// 0, 1, ... count - 1, one each second.
async_generator<int> each_second(int count) {
  const tracked local(count);
  for (int i = 0; i < count; ++i) {
    const auto slept = co_await sleep_for(1s);
    if (!slept) co_return;
    co_yield i;
  }
}
// Without a wait.
async_generator<int> at_once(int count) {
  for (int i = 0; i < count; ++i) co_yield i;
}

task<std::vector<int>> all_of(async_generator<int> from) {
  std::vector<int> all;
  while (const auto one = co_await from.next()) all.push_back(*one);
  co_return all;
}

}  // namespace

TEST_CASE("async_generator: gives its values as they come, and then nothing") {
  const frame_balance frames;
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    const auto start = now();
    auto values = each_second(3);
    CHECK(tracked::alive() == 0);
    for (int i = 0; i < 3; ++i) {
      const auto one = co_await values.next();
      REQUIRE(one);
      CHECK(*one == i);
      CHECK((now() - start) / 1s == i + 1);
    }
    for (int i = 0; i < 3; ++i) {
      const auto none = co_await values.next();
      CHECK(!none);
    }
    CHECK(tracked::alive() == 0);
    const auto got_all = co_await all_of(at_once(4));
    CHECK(got_all == std::vector<int>{0, 1, 2, 3});
    const auto got_none = co_await all_of(at_once(0));
    CHECK(got_none.empty());
  }());
}

TEST_CASE("async_generator: dropped at any yield, or before it began, its locals go") {
  const frame_balance frames;
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    for (int taken = 0; taken < 5; ++taken) {
      {
        auto values = each_second(4);
        for (int i = 0; i < taken; ++i) static_cast<void>(co_await values.next());
        CHECK(tracked::alive() == (taken == 0 || taken == 5 ? 0 : 1));
      }
      CHECK(tracked::alive() == 0);
    }
    auto first = each_second(1);
    static_cast<void>(co_await first.next());
    first = each_second(2);
    CHECK(tracked::alive() == 0);
    auto moved = std::move(first);
    const auto one = co_await moved.next();
    CHECK(*one == 0);
  }());
}

TEST_CASE("async_generator: an exception leaves next(), and then there is nothing") {
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    auto throwing = []() -> async_generator<int> {
      const tracked local(1);
      co_yield 1;
      static_cast<void>(co_await sleep_for(1s));
      throw std::runtime_error("thrown");
    };
    auto values = throwing();
    const auto one = co_await values.next();
    CHECK(*one == 1);
    std::string said;
    try {
      static_cast<void>(co_await values.next());
    } catch (const std::runtime_error& e) {
      said = e.what();
    }
    CHECK(said == "thrown");
    CHECK(tracked::alive() == 0);
    const auto none = co_await values.next();
    CHECK(!none);
  }());
}

TEST_CASE("async_generator: it runs in the context of whoever asks for the next value") {
  run_simulated([]() -> task<> {
    auto values = each_second(100);
    const auto in_time = co_await keel::with_timeout(1min, values.next());
    CHECK(**in_time == 0);
    // Another task, which is stopped while it waits: the generator hears of it, and ends.
    auto reads = [](async_generator<int>& from) -> task<int> {
      int count = 0;
      while (co_await from.next()) ++count;
      co_return count;
    };
    auto handle = keel::spawn(reads, std::ref(values));
    static_cast<void>(co_await sleep_for(3500ms));
    handle.request_stop();
    const int count = co_await std::move(handle);
    CHECK(count == 3);
    const auto none = co_await values.next();
    CHECK(!none);

    // One that is not stopped reads on what another one began.
    auto stubborn = []() -> async_generator<bool> {
      for (;;) {
        const auto slept = co_await sleep_for(1s);
        co_yield slept.has_value();
      }
    };
    auto flags = stubborn();
    auto reads_one = [](async_generator<bool>& from) -> task<bool> {
      const auto got = co_await from.next();
      co_return *got;
    };
    auto stopped = keel::spawn(reads_one, std::ref(flags));
    stopped.request_stop();
    const bool slept_1 = co_await std::move(stopped);
    CHECK(!slept_1);
    const auto slept_2 = co_await flags.next();
    CHECK(*slept_2);
  }());
}

TEST_CASE("async_generator: generators of generators, and move-only values") {
  const frame_balance frames;
  run_simulated([]() -> task<> {
    auto boxed = [](async_generator<int> from) -> async_generator<std::unique_ptr<int>> {
      while (const auto one = co_await from.next()) co_yield std::make_unique<int>(*one * 10);
    };
    auto values = boxed(each_second(3));
    int sum = 0;
    while (const auto one = co_await values.next()) sum += **one;
    CHECK(sum == 30);
  }());
}

TEST_CASE("async_generator: what may fail yields results") {
  run_simulated([]() -> task<> {
    auto lines = []() -> async_generator<result<std::string>> {
      co_yield "first";
      static_cast<void>(co_await sleep_for(1s));
      co_yield errc::closed;
    };
    auto each = lines();
    const auto first = co_await each.next();
    CHECK(**first == "first");
    const auto second = co_await each.next();
    CHECK(second->error() == errc::closed);
    const auto end = co_await each.next();
    CHECK(!end);
  }());
}

TEST_CASE("async_generator: H1, one that never waits lets the others run, and allocates nothing") {
  run_simulated([]() -> task<> {
    const int count = keel::test::sanitized ? 100'000 : 1'000'000;
    auto values = at_once(count);
    int turns = 0;
    bool over = false;
    auto other = [](int& rounds, bool& end) -> task<> {
      while (!end) {
        static_cast<void>(co_await sleep_for(0ns));
        ++rounds;
      }
    };
    auto beside = keel::spawn(other, std::ref(turns), std::ref(over));
    static_cast<void>(co_await values.next());
    static_cast<void>(co_await sleep_for(0ns));
    const auto before = keel::this_thread_frames();
    int seen = 1;
    const int turns_before = turns;
    while (co_await values.next()) ++seen;
    CHECK(keel::this_thread_frames().fresh == before.fresh);
    CHECK(seen == count);
    over = true;
    co_await std::move(beside);
    CHECK(turns - turns_before > 2);
  }());
}

TEST_CASE("async_generator: while it waits it is the innermost frame of its reader, and not afterwards") {
  run_simulated([]() -> task<> {
    auto values = each_second(2);
    auto reads = [](async_generator<int>& from) -> task<> {
      static_cast<void>(co_await from.next());
      static_cast<void>(co_await sleep_for(1h));
    };
    auto depth = [] {
      int frames = 0;
      auto& nodes = keel::scheduler::current()->nodes();
      for (auto* node = &nodes.front(); node != nullptr; node = nodes.next(*node)) {
        if (node->name == nullptr || node->name != std::string("reader")) continue;
        for (auto* frame = node->innermost; frame != nullptr; frame = frame->caller) ++frames;
      }
      return frames;
    };
    auto handle = keel::spawn(keel::named("reader", reads), std::ref(values));
    static_cast<void>(co_await sleep_for(500ms));
    CHECK(depth() == 2);
    static_cast<void>(co_await sleep_for(1s));
    CHECK(depth() == 1);
    handle.request_stop();
    co_await std::move(handle);
  }());
}

TEST_CASE("async_generator: stopped at any point, nothing is left") {
  keel::kevent_sys::sim_world world;
  keel::test::sweep_options options;
  options.runtime.factory = world.factory();
  const tracked_balance objects;
  auto job = []() -> task<> { static_cast<void>(co_await all_of(each_second(5))); };
  CHECK(keel::test::sweep([&](keel::runtime& rt) { rt.spawn(job); }, options) > 5);
}

TEST_CASE("async_generator: one next() at a time, and it outlives it") {
  auto reads = [](async_generator<int>& from) -> task<> { static_cast<void>(co_await from.next()); };
  auto two_read = [](auto read) -> task<> {
    auto values = each_second(3);
    keel::spawn(read, std::ref(values));
    keel::spawn(read, std::ref(values));
    static_cast<void>(co_await sleep_for(1h));
  };
  CHECK_DEATH(run_simulated(two_read(reads)),
              "one value at a time: a next() of this generator is still awaited");
  auto destroyed = [](auto read) -> task<> {
    auto values = std::make_unique<async_generator<int>>(each_second(3));
    keel::spawn(read, std::ref(*values));
    static_cast<void>(co_await sleep_for(1ms));
    values.reset();
  };
  CHECK_DEATH(run_simulated(destroyed(reads)), "a generator was destroyed while its next value is awaited");
  CHECK_DEATH(
      [] {
        auto values = at_once(1);
        auto moved = std::move(values);
        static_cast<void>(values.next());
      }(),
      "a generator was moved from");
}
