#include <keel/runtime/watchdog.hpp>

#include <keel/runtime/run.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "support/in_runtime.hpp"
#include "support/stderr_of.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::blocked_report;
using keel::named;
using keel::scheduler;
using keel::spawn;
using keel::task;
using keel::test::pause;
using keel::test::run_simulated;

namespace {

void grind(std::chrono::nanoseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
  }
}

struct told {
  unsigned scheduler;
  bool over;
  std::string text;
};
std::mutex mutex;
std::vector<told> reports;
std::atomic<int> still_blocked{0};

// On a busy machine anything may be reported. What counts is the grinder, after its first wait.
keel::runtime_options telling(keel::duration limit) {
  reports.clear();
  still_blocked = 0;
  keel::runtime_options options;
  options.watchdog = limit;
  options.on_blocked = [](const blocked_report& what) {
    const std::lock_guard lock(mutex);
    const std::string_view text = what.text;
    const auto who = text.find("'grinder'");
    if (who == text.npos || text.find(" after ", who) == text.npos) return;
    reports.push_back({what.scheduler, what.over, what.text});
    CHECK_UNARY(what.lasted >= 10ms);
    if (!what.over) ++still_blocked;
  };
  return options;
}

task<> grinds(keel::duration time) {
  co_await pause(1ms);
  grind(time);
  co_await pause(1ms);
}

// Until somebody else has told of it, if anybody does.
task<> grinds_until_told() {
  co_await pause(1ms);
  for (int i = 0; i < 1000 && still_blocked == 0; ++i) grind(10ms);
}

}  // namespace

TEST_CASE("watchdog: a task that blocks its scheduler is named at the end of the run, with its chain") {
  run_simulated([]() -> task<> { co_await spawn(named("grinder", grinds), 12ms); }(), telling(10ms));
  REQUIRE(reports.size() >= 1);
  CHECK(reports[0].over);
  CHECK(reports[0].scheduler == 0);
  CHECK(reports[0].text.starts_with("scheduler 0 was blocked for "));
  CHECK(reports[0].text.find(" ms by the task 'grinder' #2 after support/in_runtime.hpp:") !=
        std::string::npos);
  CHECK(reports[0].text.ends_with(", spawned by 'main' #1"));
}

TEST_CASE("watchdog: one that stays below the limit is not, nor is any when it is off") {
  run_simulated([]() -> task<> { co_await spawn(named("grinder", grinds), 1us); }(), telling(10s));
  CHECK(reports.empty());
  run_simulated([]() -> task<> { co_await spawn(named("grinder", grinds), 12ms); }(), telling(0s));
  CHECK(reports.empty());
}

TEST_CASE("watchdog: a scheduler that turns tells of one that is blocked") {
  auto options = telling(20ms);
  options.cpus = 2;
  keel::runtime rt(options);
  auto turns = []() -> task<> {
    for (int i = 0; i < 20'000 && still_blocked == 0; ++i) co_await pause(1ms);
  };
  rt.spawn(named("turns", turns));
  keel::detail::spawn_into(rt.at(1).tasks(), named("grinder", grinds_until_told));
  rt.run();
  REQUIRE(reports.size() >= 1);
  CHECK(!reports[0].over);
  CHECK(reports[0].scheduler == 1);
  CHECK(reports[0].text.starts_with("scheduler 1 has been blocked for "));
  CHECK(reports[0].text.find("'grinder' #1 after support/in_runtime.hpp:") != std::string::npos);
  CHECK(still_blocked == 1);
}

TEST_CASE("watchdog: with a thread of its own it tells of the only scheduler, while that is blocked") {
  auto options = telling(20ms);
  options.watchdog_thread = true;
  keel::runtime rt(options);
  rt.spawn(named("grinder", grinds_until_told));
  rt.run();
  REQUIRE(reports.size() >= 2);
  CHECK(!reports[0].over);
  CHECK(reports[1].over);
  CHECK(still_blocked == 1);
}

TEST_CASE("watchdog: a loop that ignores its stop is told of once, with the way out") {
  const std::string said = keel::test::stderr_of([] {
    run_simulated([]() -> task<> {
      auto deaf = []() -> task<> {
        for (int i = 0; i < 5'000; ++i) co_await pause(1h);
      };
      auto handle = spawn(named("deaf", deaf));
      co_await pause(1s);
      handle.request_stop();
      co_await std::move(handle);
    }());
  });
  const auto at = said.find(
      "keel: the task 'deaf' #2 goes on waiting although it was stopped: leave its loop "
      "when a wait fails with operation_canceled; at support/in_runtime.hpp:");
  CHECK(at != std::string::npos);
  CHECK(said.find("spawned by 'main' #1") != std::string::npos);
  CHECK(said.find("goes on waiting", said.find("goes on waiting") + 1) == std::string::npos);
}

TEST_CASE("line_limit: four lines in a window, then it counts what it holds back") {
  keel::line_limit limit;
  unsigned allowed = 0;
  unsigned suppressed = 0;
  for (int i = 0; i < 1000; ++i) {
    unsigned before = 0;
    if (limit.allows(before)) ++allowed;
    suppressed += before;
  }
  CHECK(allowed >= 4);
  CHECK(allowed <= 8);
  CHECK(suppressed <= 1000);
}
