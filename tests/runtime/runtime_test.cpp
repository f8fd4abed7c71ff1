#include <keel/runtime/runtime.hpp>

#include <keel/runtime/graceful.hpp>
#include <keel/runtime/run.hpp>
#include <keel/runtime/scope.hpp>
#include <keel/runtime/sleep.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <sched.h>
#include <stdexcept>
#include <sys/resource.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <vector>

#include "support/build.hpp"
#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/skip.hpp"
#include "support/tracked.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::runtime;
using keel::sleep_for;
using keel::stop_level;
using keel::task;
using keel::test::frame_balance;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

task<> count_after(keel::duration d, std::atomic<int>& count) {
  static_cast<void>(co_await sleep_for(d));
  ++count;
}
task<> until_stopped(std::atomic<int>& canceled) {
  const auto slept = co_await sleep_for(1h);
  if (slept.error() == errc::operation_canceled) ++canceled;
}

}  // namespace

TEST_CASE("runtime: run ends when the last task has ended, with none at once") {
  std::atomic<int> count{0};
  runtime rt;
  rt.spawn(count_after, 1us, std::ref(count));
  rt.spawn(count_after, 1ms, std::ref(count));
  rt.run();
  CHECK(count == 2);
  runtime empty;
  empty.run();
}

TEST_CASE("runtime: several live side by side on one thread") {
  std::atomic<int> one{0};
  std::atomic<int> other{0};
  runtime first;
  runtime second;
  for (int i = 0; i < 10; ++i) {
    first.spawn(count_after, 1us, std::ref(one));
    second.spawn(count_after, 1us, std::ref(other));
  }
  while (one < 10 || other < 10) {
    first.run_ready();
    second.run_ready();
  }
  CHECK(one == 10);
  CHECK(other == 10);
}

TEST_CASE("runtime: several run on threads of their own") {
  std::vector<std::thread> threads;
  std::atomic<int> count{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&count] {
      runtime rt;
      for (int k = 0; k < 100; ++k) rt.spawn(count_after, 1us, std::ref(count));
      rt.run();
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(count == 400);
}

TEST_CASE("runtime: run_once waits at most until its deadline") {
  keel::kevent_sys::sim_world world;
  runtime rt({.factory = world.factory()});
  const auto start = rt.at(0).now();
  rt.run_once(start + 5s);
  CHECK(rt.at(0).now() - start >= 5s);
  const auto again = rt.at(0).now();
  rt.run_ready();
  CHECK(rt.at(0).now() - again < 1s);
}

TEST_CASE("runtime: a stop from another thread ends the tasks of all schedulers") {
  std::atomic<int> canceled{0};
  runtime rt({.cpus = 2});
  for (unsigned i = 0; i < 2; ++i)
    for (int k = 0; k < 10; ++k)
      keel::detail::spawn_into(rt.at(i).tasks(), until_stopped, std::ref(canceled));
  std::thread stopper([&rt] { rt.request_stop(); });
  rt.run();
  stopper.join();
  CHECK(canceled == 20);
}

TEST_CASE("runtime: a graceful stop, then a hard one, from other threads") {
  std::atomic<int> idle{0};
  std::atomic<int> canceled{0};
  auto serving = [](runtime& rt, std::atomic<int>& ended_work, std::atomic<int>& ended) -> task<> {
    const auto next = co_await keel::graceful(sleep_for(1h));
    if (next.error() == errc::operation_canceled && ++ended_work == 10) {
      std::thread([&rt] { rt.request_stop(); }).join();
    }
    co_await until_stopped(ended);
  };
  runtime rt;
  for (int i = 0; i < 10; ++i) rt.spawn(serving, std::ref(rt), std::ref(idle), std::ref(canceled));
  std::thread stopper([&rt] { rt.request_stop(stop_level::graceful); });
  rt.run();
  stopper.join();
  CHECK(idle == 10);
  CHECK(canceled == 10);
}

TEST_CASE("runtime: stops from many threads at once are one stop") {
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> canceled{0};
    runtime rt({.cpus = 2});
    for (unsigned i = 0; i < 2; ++i)
      keel::detail::spawn_into(rt.at(i).tasks(), until_stopped, std::ref(canceled));
    std::vector<std::thread> threads;
    for (const stop_level level :
         {stop_level::graceful, stop_level::hard, stop_level::graceful, stop_level::hard})
      threads.emplace_back([&rt, level] { rt.request_stop(level); });
    rt.run();
    for (std::thread& t : threads) t.join();
    CHECK(canceled == 2);
  }
}

TEST_CASE("runtime: each scheduler runs its own tasks, on its own thread and CPU") {
  struct place {
    std::thread::id thread;
    int cpus_allowed = 0;
    unsigned index = 99;
  };
  std::array<place, 2> places;
  auto look = [](place& here) -> task<> {
    cpu_set_t set;
    CPU_ZERO(&set);
    ::sched_getaffinity(0, sizeof set, &set);
    static_cast<void>(co_await sleep_for(1us));
    here = {std::this_thread::get_id(), CPU_COUNT(&set), keel::scheduler::current()->index()};
  };
  runtime rt({.cpus = 2});
  CHECK(rt.size() == 2);
  for (unsigned i = 0; i < 2; ++i) keel::detail::spawn_into(rt.at(i).tasks(), look, std::ref(places[i]));
  rt.run();
  CHECK((places[0].thread == std::this_thread::get_id()));
  CHECK((places[1].thread != places[0].thread));
  for (unsigned i = 0; i < 2; ++i) {
    CHECK(places[i].index == i);
    CHECK(places[i].cpus_allowed == 1);
  }
}

TEST_CASE("runtime: a scheduler without tasks stays until the last one has none") {
  std::atomic<int> count{0};
  runtime rt({.cpus = 3});
  keel::detail::spawn_into(rt.at(2).tasks(), count_after, 5ms, std::ref(count));
  rt.run();
  CHECK(count == 1);
}

TEST_CASE("runtime: its end stops what is left, also what had not started") {
  const tracked_balance objects;
  const frame_balance frames;
  std::atomic<int> canceled{0};
  auto holding = [](std::atomic<int>& ended, tracked) -> task<> { co_await until_stopped(ended); };
  {
    runtime rt;
    rt.spawn(holding, std::ref(canceled), tracked(1));
    rt.run_ready();
    CHECK(canceled == 0);
    rt.spawn(holding, std::ref(canceled), tracked(2));
  }
  CHECK(canceled == 2);
}

TEST_CASE("runtime: several schedulers that never ran end, too") {
  std::atomic<int> canceled{0};
  {
    runtime rt({.cpus = 3});
    for (unsigned i = 0; i < 3; ++i) {
      keel::detail::spawn_into(rt.at(i).tasks(), until_stopped, std::ref(canceled));
      keel::detail::spawn_into(rt.at(i).background(), until_stopped, std::ref(canceled));
    }
  }
  CHECK(canceled == 6);
}

TEST_CASE("runtime: background tasks that end without an event do not keep its end waiting") {
  std::atomic<int> canceled{0};
  {
    runtime rt;
    keel::detail::spawn_into(rt.at(0).background(), until_stopped, std::ref(canceled));
    rt.run_ready();
  }
  CHECK(canceled == 1);
}

TEST_CASE("runtime: background tasks do not keep it running, and end with it") {
  std::atomic<int> canceled{0};
  std::atomic<int> count{0};
  runtime rt;
  keel::detail::spawn_into(rt.at(0).background(), until_stopped, std::ref(canceled));
  rt.spawn(count_after, 1ms, std::ref(count));
  rt.run();
  CHECK(count == 1);
  CHECK(canceled == 1);
}

TEST_CASE("runtime: shared objects are made once by key, and go with it") {
  const tracked_balance objects;
  static const char key = 0;
  static const char other_key = 0;
  const auto make = []() -> void* { return new tracked(1); };
  const auto destroy = [](void* object) { delete static_cast<tracked*>(object); };
  {
    runtime rt({.cpus = 2});
    std::array<void*, 4> seen{};
    std::vector<std::thread> threads;
    void* const first = rt.local(&key, make, destroy);
    for (auto& one : seen) threads.emplace_back([&] { one = rt.local(&key, make, destroy); });
    for (std::thread& t : threads) t.join();
    for (void* const one : seen) CHECK(one == first);
    CHECK(rt.local(&other_key, make, destroy) != first);
    CHECK(tracked::alive() == 2);
  }
}

namespace {

void destroy_from_inside() {
  auto rt = std::make_unique<runtime>();
  rt->spawn([](std::unique_ptr<runtime>& owner) -> task<> {
    owner.reset();
    co_return;
  }, std::ref(rt));
  rt->run();
}

void run_while_it_runs() {
  runtime rt;
  rt.spawn([](runtime& same) -> task<> {
    same.run();
    co_return;
  }, std::ref(rt));
  rt.run();
}

void keep_a_handle() {
  std::optional<keel::join_handle<int>> handle;
  runtime rt;
  std::optional<runtime> gone(std::in_place);
  handle.emplace(gone->spawn([]() -> task<int> { throw std::runtime_error("nobody collects it"); }));
  gone.reset();
}

}  // namespace

TEST_CASE("runtime: what is done in the wrong order, or from the wrong place, is a bug") {
  CHECK_DEATH(destroy_from_inside(), "a scheduler's loop was called from one of its own tasks");
  CHECK_DEATH(run_while_it_runs(), "run() was called while the runtime runs");
  CHECK_DEATH(keep_a_handle(), "a join_handle outlives its runtime");
  CHECK_DEATH(runtime({.cpus = 2}).run_ready(), "run_once() is for a runtime with one scheduler");
  CHECK_DEATH(runtime().at(1), "index < size()");
}

namespace {

// Leaves too little memory for the stack of another thread.
void run_without_threads() {
  ::alarm(60);
  long pages = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "r"); file != nullptr) {
    if (std::fscanf(file, "%ld", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  rlimit limit{};
  ::getrlimit(RLIMIT_AS, &limit);
  limit.rlim_cur = static_cast<rlim_t>(pages) * 4096 + (16u << 20);
  ::setrlimit(RLIMIT_AS, &limit);
  auto waits = []() -> task<> { static_cast<void>(co_await sleep_for(1h)); };
  try {
    // More threads than the C library has stacks left from earlier ones.
    keel::run({.cpus = 24,
               .stop_on_signals = true,
               .more = {.entries = 8, .ring_events = 8, .buffers = 1, .buffers_limit = 1}},
              waits);
  } catch (const std::system_error& e) {
    std::fprintf(stderr, "refused: %s\n", e.what());
    std::abort();
  }
}

}  // namespace

TEST_CASE("runtime: when a thread cannot be had, run throws, and everything ends") {
  if (keel::test::sanitized) {
    keel::test::skip("sanitizers need more address space than this test allows");
    return;
  }
  CHECK_DEATH(run_without_threads(), "refused: ");
}
