#include <keel/runtime/task_node.hpp>

#include <keel/base/or_return.hpp>
#include <keel/runtime/run.hpp>
#include <keel/runtime/scope.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/when_all.hpp>
#include <keel/runtime/when_any.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "support/in_runtime.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::named;
using keel::result;
using keel::scheduler;
using keel::sleep_for;
using keel::spawn;
using keel::task;
using keel::task_node;
using keel::test::pause;
using keel::test::run_simulated;

namespace {

std::vector<task_node*> all_nodes() {
  std::vector<task_node*> all;
  auto& nodes = scheduler::current()->nodes();
  for (task_node* one = nodes.empty() ? nullptr : &nodes.front(); one != nullptr; one = nodes.next(*one))
    all.push_back(one);
  return all;
}

// The only node of that name, or null.
task_node* find(std::string_view name) {
  task_node* found = nullptr;
  for (task_node* one : all_nodes())
    if (one->name != nullptr && one->name == name) found = one;
  return found;
}

// How many coroutines it is in.
int depth(const task_node& node) {
  int frames = 0;
  for (const keel::task_frame* frame = node.innermost; frame != nullptr; frame = frame->caller) ++frames;
  return frames;
}

std::uint32_t line_of(const task_node& node) {
  return node.innermost->awaits.line();
}

task<result<void>> innermost(std::uint32_t& line) {
  line = __LINE__ + 1;
  const auto slept = co_await sleep_for(1s);
  co_return slept;
}
task<result<void>> fails() {
  static_cast<void>(co_await sleep_for(1s));
  co_return keel::errc::closed;
}
task<result<void>> passes_on() {
  co_await keel::or_return(fails());
  co_return {};
}
task<> throws() {
  static_cast<void>(co_await sleep_for(1s));
  throw 7;
}

}  // namespace

TEST_CASE("task_node: ids count up, the parent is who spawned it, and it leaves the list at its end") {
  run_simulated([]() -> task<> {
    auto child = []() -> task<> { co_await pause(1s); };
    auto parent = [](auto c) -> task<> {
      spawn(named("child", c));
      co_await pause(3s);
    };
    const std::uint64_t mine = scheduler::current()->running().id;
    CHECK(mine != 0);
    spawn(named("parent", parent), child);
    CHECK(find("parent")->ready);
    co_await pause(0s);
    REQUIRE(find("child") != nullptr);
    CHECK(find("parent")->parent_id == mine);
    CHECK(find("child")->parent_id == find("parent")->id);
    CHECK(find("child")->id > find("parent")->id);
    CHECK(find("parent")->id > mine);
    co_await pause(2s);
    CHECK(find("child") == nullptr);
    CHECK(find("parent") != nullptr);
    co_await pause(2s);
    CHECK(all_nodes().size() == 1);
  }());
}

TEST_CASE("task_node: a child of a scope has for its parent whoever awaits the scope") {
  run_simulated([]() -> task<> {
    auto waits = []() -> task<> { co_await pause(1s); };
    auto spawns = [](keel::scope& into, auto fn) -> task<> {
      into.spawn(named("grandchild", fn));
      co_await pause(1s);
    };
    const task_node& me = scheduler::current()->running();
    co_await keel::scope([&](keel::scope& children) -> task<> {
      CHECK(&scheduler::current()->running() == &me);
      children.spawn(named("spawner", spawns), std::ref(children), waits);
      co_await pause(0s);
      CHECK(find("spawner")->parent_id == me.id);
      CHECK(find("grandchild")->parent_id == me.id);
    });
    CHECK(&scheduler::current()->running() == &me);
    CHECK(all_nodes().size() == 1);
  }());
}

TEST_CASE("task_node: what it waits for, since when, and whether it is ready") {
  run_simulated([]() -> task<> {
    auto sleeper = []() -> task<> { co_await pause(10s); };
    auto joiner = [](keel::join_handle<void> of) -> task<> { co_await std::move(of); };
    auto handle = spawn(named("sleeper", sleeper));
    task_node& node = *find("sleeper");
    CHECK(node.ready);
    CHECK(node.innermost == nullptr);
    spawn(named("joiner", joiner), std::move(handle));
    co_await pause(4s);
    CHECK(!node.ready);
    CHECK(std::string_view(node.waits_for) == "a time");
    const auto waited = scheduler::current()->now().since_boot_ns() - node.since_ns;
    CHECK(waited >= std::uint64_t{4'000'000'000});
    CHECK(waited < std::uint64_t{5'000'000'000});
    CHECK(std::string_view(find("joiner")->waits_for) == "the end of a task");
    node.context.request_stop(keel::stop_level::hard);
    CHECK(node.ready);
    co_await pause(0s);
    CHECK(find("joiner") == nullptr);
  }());
}

TEST_CASE("task_node: its innermost frame and the callers, through with_timeout and the body of a scope") {
  run_simulated([]() -> task<> {
    std::uint32_t line = 0;
    auto outer = [](std::uint32_t& l) -> task<> {
      co_await keel::scope([&l](keel::scope&) -> task<> {
        static_cast<void>(co_await keel::with_timeout(1h, innermost(l)));
        co_await pause(2s);
      });
      co_await pause(2s);
    };
    spawn(named("outer", outer), std::ref(line));
    co_await pause(500ms);
    task_node& node = *find("outer");
    REQUIRE(depth(node) == 3);
    CHECK(line_of(node) == line);
    CHECK(std::string_view(node.innermost->awaits.file_name()).ends_with("task_node_test.cpp"));
    co_await pause(1s);
    // pause is a task, too: the body's next wait.
    CHECK(depth(node) == 3);
    CHECK(line_of(node) != line);
    co_await pause(2s);
    CHECK(depth(node) == 2);
    co_await pause(2s);
    CHECK(find("outer") == nullptr);
  }());
}

TEST_CASE("task_node: each branch is a node of its own, whose parent is who awaits the branches") {
  run_simulated([]() -> task<> {
    std::uint32_t line = 0;
    auto branches = [](std::uint32_t& l) -> task<> {
      static_cast<void>(co_await keel::when_all(innermost(l), pause(2s)));
      static_cast<void>(co_await keel::when_any(pause(2s), innermost(l)));
      co_await pause(1s);
    };
    spawn(named("branches", branches), std::ref(line));
    co_await pause(0s);
    task_node& node = *find("branches");
    for (const char* what : {"when_all", "when_any"}) {
      CHECK(std::string_view(node.waits_for) == what);
      CHECK(depth(node) == 1);
      std::vector<task_node*> of_it;
      for (task_node* one : all_nodes())
        if (one->parent_id == node.id) of_it.push_back(one);
      REQUIRE(of_it.size() == 2);
      CHECK(depth(*of_it[0]) == 1);
      CHECK(depth(*of_it[1]) == 1);
      const auto first = line_of(*of_it[0]);
      const auto second = line_of(*of_it[1]);
      CHECK((first == line || second == line));
      co_await pause(2s);
      co_await keel::test::some_turns();
    }
    CHECK(all_nodes().size() == 2);
    CHECK(depth(node) == 2);
    CHECK(std::string_view(node.waits_for) == "a time");
  }());
}

TEST_CASE("task_node: frames that end early or by an exception are its frames no more") {
  run_simulated([]() -> task<> {
    auto outer = []() -> task<> {
      const auto failed = co_await passes_on();
      CHECK(!failed);
      co_await pause(1s);
      try {
        co_await throws();
      } catch (int) {
      }
      co_await pause(1s);
    };
    spawn(named("outer", outer));
    co_await pause(500ms);
    task_node& node = *find("outer");
    CHECK(depth(node) == 3);
    co_await pause(1s);
    CHECK(depth(node) == 2);
    co_await pause(1s);
    CHECK(depth(node) == 2);
    CHECK(std::string_view(node.innermost->awaits.function_name()).find("throws") != std::string_view::npos);
    co_await pause(1s);
    CHECK(depth(node) == 2);
    CHECK(std::string_view(node.innermost->awaits.function_name()).find("pause") != std::string_view::npos);
  }());
}

TEST_CASE("task_node: the one that goes on after a join is the one that joined") {
  run_simulated([]() -> task<> {
    scheduler& here = *scheduler::current();
    const task_node& me = here.running();
    auto nothing = []() -> task<> { co_return; };
    auto sleeps = []() -> task<> { co_await pause(1s); };
    co_await spawn(nothing);
    CHECK(&here.running() == &me);
    co_await spawn(sleeps);
    CHECK(&here.running() == &me);
    static_cast<void>(co_await keel::when_all(nothing(), sleeps()));
    CHECK(&here.running() == &me);
    co_await keel::scope([&](keel::scope& children) -> task<> {
      children.spawn(sleeps);
      co_return;
    });
    CHECK(&here.running() == &me);
    static_cast<void>(co_await keel::with_timeout(1s, pause(1h)));
    CHECK(&here.running() == &me);
  }());
}

TEST_CASE("task_node: outside of tasks the scheduler's root runs") {
  keel::kevent_sys::sim_world world;
  keel::runtime rt({.factory = world.factory()});
  auto nothing = []() -> task<> { co_return; };
  CHECK(&rt.at(0).running() == &rt.at(0).root());
  rt.spawn(nothing);
  rt.run();
  CHECK(&rt.at(0).running() == &rt.at(0).root());
  CHECK(rt.at(0).root().id == 0);
  CHECK(rt.at(0).nodes().empty());
}
