#include <keel/runtime/shared_task.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/when_all.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "support/frame_balance.hpp"
#include "support/sweep.hpp"
#include "support/tracked.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::result;
using keel::shared_task;
using keel::sleep_for;
using keel::task;
using keel::test::frame_balance;
using keel::test::now;
using keel::test::run_simulated;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

static_assert(std::is_same_v<keel::await_result<shared_task<int>::get_op>, result<int>>);
static_assert(std::is_same_v<keel::await_result<shared_task<result<int>>::get_op>, result<int>>);
static_assert(std::is_same_v<keel::await_result<shared_task<void>::get_op>, result<void>>);

// Says how often it began, and how it ended.
struct notes {
  int begun = 0;
  int finished = 0;
  int stopped = 0;
};
task<result<std::string>> load(notes& of) {
  const tracked local(1);
  ++of.begun;
  const auto slept = co_await sleep_for(1h);
  ++(slept ? of.finished : of.stopped);
  if (!slept) co_return slept.why();
  co_return "loaded";
}
task<result<std::string>> reader(shared_task<result<std::string>> from) {
  co_return co_await from.get();
}

}  // namespace

TEST_CASE("shared_task: begins with the first who asks, runs once, and all have its result") {
  const frame_balance frames;
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    notes seen;
    const shared_task<result<std::string>> shared(load(seen));
    static_cast<void>(co_await sleep_for(1s));
    CHECK(seen.begun == 0);
    const auto before = now();
    const auto both = co_await keel::when_all(reader(shared), reader(shared), shared.get());
    CHECK(*std::get<0>(both) == "loaded");
    CHECK(*std::get<1>(both) == "loaded");
    CHECK(*std::get<2>(both) == "loaded");
    CHECK(seen.begun == 1);
    CHECK(shared.done());
    CHECK(tracked::alive() == 0);
    const auto later = co_await shared.get();
    CHECK(*later == "loaded");
    CHECK(now() - before < 1h + 1s);
  }());
}

TEST_CASE("shared_task: nobody asks, nothing runs; and everybody may go before its end") {
  const frame_balance frames;
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    notes seen;
    { const shared_task<result<std::string>> unused(load(seen)); }
    CHECK(seen.begun == 0);
    auto handle = keel::spawn(reader, shared_task<result<std::string>>(load(seen)));
    const auto got = co_await std::move(handle);
    CHECK(*got == "loaded");
  }());
}

TEST_CASE("shared_task: who is stopped leaves alone; when the last one has left, the task is stopped") {
  const frame_balance frames;
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    notes seen;
    const shared_task<result<std::string>> shared(load(seen));
    auto one = keel::spawn(reader, shared);
    auto two = keel::spawn(reader, shared);
    static_cast<void>(co_await sleep_for(1s));
    one.request_stop();
    const auto left = co_await std::move(one);
    CHECK(left.error() == errc::operation_canceled);
    CHECK(left.why().doing == std::string("wait for a shared task"));
    static_cast<void>(co_await sleep_for(1s));
    CHECK(seen.stopped == 0);
    two.request_stop();
    static_cast<void>(co_await std::move(two));
    static_cast<void>(co_await sleep_for(1s));
    CHECK(seen.stopped == 1);
    const auto after = co_await shared.get();
    CHECK(after.error() == errc::operation_canceled);
    CHECK(after.why().doing == std::string("sleep"));
  }());
}

TEST_CASE("shared_task: who is stopped before he asks starts nothing, but takes what is there") {
  run_simulated([]() -> task<> {
    notes seen;
    const shared_task<result<std::string>> shared(load(seen));
    auto stopped = keel::spawn(reader, shared);
    stopped.request_stop();
    const auto nothing = co_await std::move(stopped);
    CHECK(nothing.error() == errc::operation_canceled);
    CHECK(seen.begun == 0);
    static_cast<void>(co_await shared.get());
    auto stopped_later = keel::spawn(reader, shared);
    stopped_later.request_stop();
    const auto there = co_await std::move(stopped_later);
    CHECK(*there == "loaded");
  }());
}

TEST_CASE("shared_task: an exception is thrown to each") {
  run_simulated([]() -> task<> {
    auto throwing = []() -> task<int> {
      static_cast<void>(co_await sleep_for(1s));
      throw std::runtime_error("thrown");
    };
    auto catches = [](shared_task<int> from) -> task<std::string> {
      try {
        static_cast<void>(co_await from.get());
      } catch (const std::runtime_error& e) {
        co_return e.what();
      }
      co_return "nothing";
    };
    const shared_task<int> shared(throwing());
    const auto both = co_await keel::when_all(catches(shared), catches(shared));
    CHECK(std::get<0>(both) == "thrown");
    CHECK(std::get<1>(both) == "thrown");

    int ran = 0;
    auto nothing = [](int& count) -> task<> {
      ++count;
      co_return;
    };
    const shared_task<void> plain(nothing(ran));
    const auto done = co_await plain.get();
    CHECK(done);
    CHECK(ran == 1);
  }());
}

TEST_CASE("shared_task: C13, stopped at any point, nothing is left") {
  keel::kevent_sys::sim_world world;
  keel::test::sweep_options options;
  options.runtime.factory = world.factory();
  notes seen;
  const tracked_balance objects;
  auto job = [](notes& of) -> task<> {
    const shared_task<result<std::string>> shared(load(of));
    static_cast<void>(co_await keel::when_all(reader(shared), reader(shared)));
  };
  CHECK(keel::test::sweep([&](keel::runtime& rt) { rt.spawn(job, std::ref(seen)); }, options) > 3);
}
