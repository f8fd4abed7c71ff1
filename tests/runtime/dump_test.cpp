#include <keel/runtime/dump.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/scope.hpp>
#include <keel/runtime/when_all.hpp>

#include <doctest/doctest.h>

#include <unistd.h>
#include <atomic>
#include <chrono>
#include <functional>
#include <ostream>
#include <string>
#include <thread>

#include "support/in_runtime.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::dump_format;
using keel::inspect;
using keel::named;
using keel::priority;
using keel::scheduler;
using keel::spawn;
using keel::task;
using keel::test::pause;
using keel::test::run_simulated;

namespace {

keel::runtime& here() {
  return scheduler::current()->owner();
}

bool contains(const std::string& text, const std::string& what) {
  if (text.find(what) != std::string::npos) return true;
  MESSAGE("not there: ", what, "\n", text);
  return false;
}

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t n = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

task<> request(keel::duration d) {
  co_await pause(d);
}
task<> session(keel::duration d) {
  co_await request(d);
}

}  // namespace

TEST_CASE("dump: a line for each task: who, what it waits for, for how long, and where; children below") {
  run_simulated([]() -> task<> {
    auto parent = []() -> task<> {
      co_await keel::scope([](keel::scope& children) -> task<> {
        children.spawn(named("session", session), 1h);
        children.spawn(named("urgent", priority::latency, session), 1h);
        co_return;
      });
    };
    spawn(named("server", parent));
    auto other = []() -> task<> { co_await keel::when_all(request(1h), session(1h)); };
    spawn(named("other", other));
    co_await pause(2s);
    spawn(named("fresh", session), 1s);
    const std::string text = inspect(here());
    CHECK(contains(text, "scheduler 0 on sim: 8 tasks, 6 spawned, "));
    CHECK(contains(text, "\n└─ main #1 runs, at runtime/dump_test.cpp:"));
    CHECK(contains(text,
                   "   ├─ server #2 waits for the children of a scope, 2.00 s, at runtime/dump_test.cpp:"));
    CHECK(contains(text, "   │  ├─ session #4 waits for a time, 2.00 s, at support/in_runtime.hpp:"));
    CHECK(contains(text, " in pause < runtime/dump_test.cpp:"));
    CHECK(contains(text, " in request < runtime/dump_test.cpp:"));
    CHECK(contains(text, "   │  └─ urgent #5 (latency) waits for a time"));
    CHECK(contains(text, "other #3 waits for when_all, 2.00 s"));
    CHECK(contains(text, "branch #6 waits for a time"));
    CHECK(contains(text, "fresh #8 has not begun\n"));
    CHECK(contains(text, "\n  session: 1 task, 1 run of "));
  }());
}

TEST_CASE("dump: those that do the same in the same place are counted, with what is below them") {
  run_simulated([]() -> task<> {
    auto with_child = []() -> task<> {
      co_await keel::scope([](keel::scope& children) -> task<> {
        children.spawn(named("reader", session), 1h);
        co_return;
      });
    };
    for (int i = 0; i < 1'000; ++i) spawn(named("connection", with_child));
    co_await pause(3s);
    for (int i = 0; i < 4; ++i) spawn(named("session", session), 1h);
    co_await pause(1s);
    const std::string text = inspect(here());
    CHECK(count(text, "connection #") == 3);
    CHECK(count(text, "reader #") == 3);
    CHECK(contains(text, "... and 997 more in the same place, 4.00 s, with 997 below\n"));
    // A line that says "one more" would be no shorter.
    CHECK(count(text, "session #") == 4);
    const std::string few = inspect(here(), {.alike_max = 1, .lines_max = 3});
    CHECK(contains(few, "... and 2,002 more (dump_options::lines_max)\n"));
    const std::string some = inspect(here(), {.tasks_max = 100});
    CHECK(contains(some, "... and 1,905 that were not looked at (dump_options::tasks_max)\n"));
  }());
}

TEST_CASE("dump: a long chain of tasks is cut, not a stack overflow or a flood") {
  struct chain {
    static task<> link(int left) {
      if (left > 0) spawn(named("link", &chain::link), left - 1);
      co_await pause(1h);
    }
  };
  run_simulated([]() -> task<> {
    spawn(named("link", &chain::link), 5'000);
    co_await pause(100s);
    const std::string text = inspect(here(), {.lines_max = 100'000});
    CHECK(contains(text, " more below\n"));
    CHECK(text.size() < 50'000);
  }());
}

TEST_CASE("dump: JSON has the same, with the histogram") {
  run_simulated([]() -> task<> {
    spawn(named("a \"name\"\\", session), 1h);
    co_await pause(1s);
    const std::string text = inspect(here(), {.format = dump_format::json});
    CHECK(contains(text, R"({"schedulers": [{"index": 0, "engine": "sim", "answered": true, "counters": {)"));
    CHECK(contains(text, R"({"name": "a \"name\"\\", "id": 2, "parent": 1, "state": "waiting", "waits_for": )"
                         R"("a time", "for_ns": 10000)"));
    CHECK(contains(text, R"(, "priority": "normal", "stopped": "no", "frames": [{"file": )"
                         R"("support/in_runtime.hpp", "line": )"));
    CHECK(contains(text, R"("state": "running", "waits_for": "")"));
    CHECK(contains(text, R"("histogram": [{"below_ns": )"));
    CHECK(count(text, "{") == count(text, "}"));
    CHECK(count(text, "[") == count(text, "]"));
  }());
}

TEST_CASE("dump: from the maker's thread while nothing runs, and after the end") {
  keel::kevent_sys::sim_world world;
  keel::runtime rt({.factory = world.factory()});
  CHECK(contains(inspect(rt), "scheduler 0 on sim: 0 tasks, 0 spawned"));
  rt.spawn(named("waits", session), 1h);
  CHECK(contains(inspect(rt), "waits #1 has not begun"));
  rt.run_ready();
  CHECK(contains(inspect(rt), "waits #1 waits for a time"));
  rt.run();
  CHECK(contains(inspect(rt), "0 tasks, 1 spawned"));
  CHECK(keel::counters_of(rt, 0).value().tasks == 1);
}

TEST_CASE("dump: of all schedulers, asked by a task of one of them or by a thread") {
  keel::runtime_options options;
  options.cpus = 3;
  keel::runtime rt(options);
  std::string by_task;
  std::string by_thread;
  std::uint64_t turns = 0;
  auto asks = [](std::string& one, std::string& two, std::uint64_t& n) -> task<> {
    co_await pause(20ms);
    one = inspect(here(), {.patience = 30s});
    std::atomic<bool> done{false};
    std::thread other([&two, &n, &done, of = &here()] {
      two = inspect(*of, {.patience = 30s});
      n = keel::counters_of(*of, 2, 30s).value().turns;
      done = true;
    });
    while (!done) co_await pause(1ms);
    other.join();
    here().request_stop();
  };
  rt.spawn(named("asks", asks), std::ref(by_task), std::ref(by_thread), std::ref(turns));
  for (unsigned i : {1U, 2U})
    keel::detail::spawn_into(rt.at(i).tasks(), named("elsewhere", session), keel::duration(1h));
  rt.run();
  for (const std::string* text : {&by_task, &by_thread}) {
    CHECK(count(*text, "scheduler ") == 3);
    CHECK(count(*text, "elsewhere #1 waits for a time") == 2);
    CHECK(contains(*text, "asks #1 "));
  }
  CHECK(turns > 0);
}

TEST_CASE("dump: a scheduler that is blocked is named with what it runs; its late answer hurts nobody") {
  keel::runtime_options options;
  options.cpus = 2;
  options.watchdog = 0s;
  keel::runtime rt(options);
  static std::atomic<bool> blocked;
  static std::atomic<bool> released;
  blocked = released = false;
  std::string tree;
  std::string json;
  auto asks = [](std::string& one, std::string& two) -> task<> {
    while (!blocked) co_await pause(1ms);
    one = inspect(here(), {.patience = 10ms});
    two = inspect(here(), {.format = dump_format::json, .patience = 1ms});
    const auto counters = keel::counters_of(here(), 1, 1ms);
    CHECK(counters.error() == keel::errc::timed_out);
    released = true;
  };
  auto blocks = []() -> task<> {
    co_await pause(1ms);
    blocked = true;
    while (!released) std::this_thread::yield();
    co_await pause(1ms);
  };
  rt.spawn(named("asks", asks), std::ref(tree), std::ref(json));
  keel::detail::spawn_into(rt.at(1).tasks(), named("blocks", blocks));
  rt.run();
  CHECK(contains(tree, " does not answer: it runs blocks #1, "));
  CHECK(contains(tree, ", after support/in_runtime.hpp:"));
  CHECK(contains(json, R"("answered": false, "runs": {"name": "blocks", "id": 1, "for_ns": )"));
}

TEST_CASE("dump: to a descriptor, or the error of the write") {
  int ends[2] = {-1, -1};
  REQUIRE(::pipe(ends) == 0);
  run_simulated([](int to) -> task<> {
    CHECK(here().dump(to));
    CHECK(here().dump(-1).error() == std::errc::bad_file_descriptor);
    co_return;
  }(ends[1]));
  char text[64] = "";
  CHECK(::read(ends[0], text, 18) == 18);
  CHECK(std::string(text) == "scheduler 0 on sim");
  ::close(ends[0]);
  ::close(ends[1]);
}
