#include <keel/runtime/task_description.hpp>

#include <keel/base/or_return.hpp>
#include <keel/runtime/run.hpp>
#include <keel/runtime/scope.hpp>

#include <doctest/doctest.h>

#include <ostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/death_test.hpp"
#include "support/in_runtime.hpp"
#include "support/stderr_of.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::named;
using keel::result;
using keel::spawn;
using keel::task;
using keel::task_description;
using keel::test::pause;
using keel::test::run_simulated;

namespace {

std::string numbered(const char* before, std::uint32_t line, const char* after) {
  return std::string(before) + ":" + std::to_string(line) + " in " + after;
}

constexpr std::uint32_t line_of_throw = __LINE__ + 2;
task<> throws() {
  co_await pause(1s);
  throw std::runtime_error("thrown");
}
task<> passes() {
  co_await throws();
}
constexpr std::uint32_t line_of_failure = __LINE__ + 2;
task<result<void>> fails() {
  co_await keel::or_return(keel::sleep_for(-1s));
  co_await keel::or_return([]() -> task<result<void>> { co_return keel::errc::closed; }());
  co_return {};
}

struct told {
  std::string title;
  std::string parents;
  std::string place;
};
std::vector<told> reports;

keel::runtime_options telling() {
  reports.clear();
  keel::runtime_options options;
  options.on_exception = [](const task_description& task, std::exception_ptr) {
    reports.push_back({task.title(), task.spawned_by(), task.place()});
  };
  options.on_error = [](const task_description& task, std::error_code) {
    reports.push_back({task.title(), task.spawned_by(), task.place()});
  };
  return options;
}

}  // namespace

TEST_CASE("task_description: failures of unjoined tasks tell the name, the chain, and the place") {
  run_simulated(
      []() -> task<> {
        auto session = []() -> task<> {
          spawn(named("reader", passes));
          spawn(fails);
          co_await pause(5s);
        };
        spawn(named("session", session));
        co_await pause(10s);
      }(),
      telling());
  REQUIRE(reports.size() == 2);
  CHECK(reports[0].title == "'unnamed' #4");
  CHECK(reports[0].parents == "spawned by 'session' #2 < 'main' #1");
  CHECK(reports[0].place == numbered("runtime/task_description_test.cpp", line_of_failure + 1, "fails"));
  CHECK(reports[1].title == "'reader' #3");
  CHECK(reports[1].parents == "spawned by 'session' #2 < 'main' #1");
  CHECK(reports[1].place == numbered("runtime/task_description_test.cpp", line_of_throw, "throws"));
}

TEST_CASE("task_description: a failure that was caught is not the place of the next one") {
  run_simulated(
      []() -> task<> {
        auto second = []() -> task<> {
          try {
            co_await throws();
          } catch (const std::runtime_error&) {
          }
          co_await pause(1s);
          throw std::runtime_error("another");
        };
        spawn(named("second", second));
        co_await pause(10s);
      }(),
      telling());
  REQUIRE(reports.size() == 1);
  CHECK(reports[0].place.find("throws") == std::string::npos);
  CHECK(reports[0].place.find("lambda in") != std::string::npos);
}

TEST_CASE("task_description: parents that have ended are known by their number") {
  run_simulated(
      []() -> task<> {
        auto parent = []() -> task<> {
          spawn(named("orphan", throws));
          co_return;
        };
        spawn(named("parent", parent));
        co_await pause(10s);
      }(),
      telling());
  REQUIRE(reports.size() == 1);
  CHECK(reports[0].parents == "spawned by #2");
}

TEST_CASE("task_description: long chains are cut, and what is no task has a name only") {
  struct chain {
    static task<> link(int left) {
      if (left == 0) throw std::runtime_error("deep");
      spawn(named("link", &chain::link), left - 1);
      co_await pause(1h);
    }
  };
  run_simulated(
      []() -> task<> {
        spawn(named("link", &chain::link), 50);
        co_await pause(1s);
      }(),
      telling());
  REQUIRE(reports.size() == 1);
  CHECK(reports[0].parents.ends_with(" < ..."));
  CHECK(reports[0].parents.size() < 200);
  const task_description callback("a callback");
  CHECK(callback.title() == "'a callback'");
  CHECK(callback.id() == 0);
  CHECK(callback.spawned_by().empty());
  CHECK(callback.place().empty());
}

TEST_CASE("unhandled: the default texts say who, from whom, and where") {
  auto main = []() -> task<> {
    spawn(named("careless", passes));
    co_await pause(10s);
  };
  CHECK_DEATH(run_simulated(main()),
              "an exception left the task 'careless' #2, which nobody joins: "
              "std::runtime_error: thrown\n      spawned by 'main' #1, last at "
              "runtime/task_description_test.cpp:");
  auto failing = []() -> task<> {
    spawn(named("failing", fails));
    co_await pause(10s);
  };
  const std::string said = keel::test::stderr_of([&] { run_simulated(failing()); });
  CHECK(said.find("the task 'failing' #2, which nobody joins, ended with: ") != std::string::npos);
  CHECK(said.find("      spawned by 'main' #1, last at runtime/task_description_test.cpp:") !=
        std::string::npos);
}
