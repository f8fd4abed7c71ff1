#include <keel/runtime/spawn.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/scope.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/when_all.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "support/build.hpp"
#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/tracked.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::join_handle;
using keel::named;
using keel::result;
using keel::sleep_for;
using keel::spawn;
using keel::task;
using keel::test::frame_balance;
using keel::test::run_simulated;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

task<int> after(keel::duration d, int n) {
  const auto slept = co_await sleep_for(d);
  co_return slept ? n : -n;
}
task<> throwing(keel::duration d) {
  static_cast<void>(co_await sleep_for(d));
  throw std::runtime_error("thrown");
}
task<result<int>> failing(keel::duration d) {
  static_cast<void>(co_await sleep_for(d));
  co_return errc::closed;
}

// What the runtime was told of failures that nobody collected: "name: text".
std::vector<std::string> reports;

keel::runtime_options reporting() {
  reports.clear();
  keel::runtime_options options;
  options.on_exception = [](const keel::task_description& task, std::exception_ptr error) {
    try {
      std::rethrow_exception(std::move(error));
    } catch (const std::exception& e) {
      reports.push_back(std::string(task.name()) + ": " + e.what());
    }
  };
  options.on_error = [](const keel::task_description& task, std::error_code code) {
    reports.push_back(std::string(task.name()) + ": " + code.message());
  };
  return options;
}

std::string message(errc code) { return make_error_code(code).message(); }

}  // namespace

TEST_CASE("spawn: a task starts in the next round, and not inside the call") {
  run_simulated([]() -> task<> {
    bool started = false;
    auto note = [](bool& flag) -> task<> {
      flag = true;
      co_return;
    };
    auto handle = spawn(note, std::ref(started));
    CHECK(!started);
    CHECK(!handle.done());
    co_await std::move(handle);
    CHECK(started);
  }());
}

TEST_CASE("spawn: joining waits for the end, or finds it, and gives the result") {
  const frame_balance frames;
  run_simulated([]() -> task<> {
    auto slow = spawn(after, 1s, 1);
    const int joined = co_await std::move(slow);
    CHECK(joined == 1);
    auto quick = spawn(after, 1ms, 2);
    static_cast<void>(co_await sleep_for(1s));
    CHECK(quick.done());
    const int found = co_await std::move(quick);
    CHECK(found == 2);
    auto pointer = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(3); };
    const auto moved = co_await spawn(pointer);
    CHECK(*moved == 3);
  }());
}

TEST_CASE("spawn: callables of all kinds, and arguments by value, by reference and by move") {
  struct counter {
    task<int> add(int n) {
      total += n;
      co_return total;
    }
    int total = 40;
  };
  struct functor {
    task<int> operator()(std::string text) const { co_return static_cast<int>(text.size()) + base; }
    int base;
  };
  run_simulated([]() -> task<> {
    counter object;
    const int by_reference = co_await spawn(&counter::add, std::ref(object), 2);
    CHECK(by_reference == 42);
    CHECK(object.total == 42);
    functor function{10};
    const int from_literal = co_await spawn(function, "four");
    CHECK(from_literal == 14);
    auto taking = [](std::unique_ptr<int> owned, int& seen) -> task<> {
      seen = *owned;
      co_return;
    };
    int seen = 0;
    co_await spawn(taking, std::make_unique<int>(5), std::ref(seen));
    CHECK(seen == 5);
  }());
}

TEST_CASE("spawn: the callable and the arguments live as long as the task, and go with it") {
  const tracked_balance objects;
  const frame_balance frames;
  run_simulated([]() -> task<> {
    {
      auto handle = spawn([captured = std::make_shared<tracked>(1)](const tracked& argument) -> task<int> {
        static_cast<void>(co_await sleep_for(1s));
        co_return captured->value + argument.value;
      }, tracked(2));
      CHECK(tracked::alive() == 2);
      const int sum = co_await std::move(handle);
      CHECK(sum == 3);
    }
    CHECK(tracked::alive() == 0);
  }());
}

TEST_CASE("spawn: arguments, parameters and captures have gone before whoever waits goes on") {
  // Marks its flag when it goes: what joins may take the flag with it.
  struct guard {
    explicit guard(int& f) : flag(&f) {}
    guard(guard&& other) noexcept : flag(std::exchange(other.flag, nullptr)) {}
    ~guard() {
      if (flag != nullptr) ++*flag;
    }
    int* flag;
  };
  run_simulated([]() -> task<> {
    auto by_value = [](guard, keel::duration d) -> task<> { static_cast<void>(co_await sleep_for(d)); };
    auto by_reference = [](const guard&, keel::duration d) -> task<> {
      static_cast<void>(co_await sleep_for(d));
    };
    for (const auto wait : {0s, 1s}) {
      int gone = 0;
      co_await spawn(by_value, guard(gone), wait);
      CHECK(gone == 1);
      co_await spawn(by_reference, guard(gone), wait);
      CHECK(gone == 2);
      auto body = [&](keel::scope& children) -> task<> {
        auto capturing = [own = guard(gone), wait]() -> task<> {
          static_cast<void>(co_await sleep_for(wait));
        };
        auto handle = children.spawn(std::move(capturing));
        co_await std::move(handle);
      };
      co_await keel::scope(body);
      CHECK(gone == 3);
      auto others = [&](keel::scope& children) -> task<> {
        children.spawn(by_value, guard(gone), wait);
        children.spawn(by_reference, guard(gone), wait);
        co_return;
      };
      co_await keel::scope(others);
      CHECK(gone == 5);
    }
  }());
}

TEST_CASE("spawn: the frame goes when the task has ended, the result waits for the handle") {
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    auto make = []() -> task<tracked> {
      const tracked local(1);
      static_cast<void>(co_await sleep_for(1ms));
      co_return tracked(2);
    };
    auto handle = spawn(make);
    static_cast<void>(co_await sleep_for(1s));
    CHECK(tracked::alive() == 1);
    const tracked got = co_await std::move(handle);
    CHECK(got.value == 2);
  }());
}

TEST_CASE("join_handle: what the task threw is thrown by the join, early or late") {
  run_simulated([]() -> task<> {
    for (const auto wait : {0s, 10s}) {
      auto handle = spawn(throwing, 1s);
      static_cast<void>(co_await sleep_for(wait));
      bool thrown = false;
      try {
        co_await std::move(handle);
      } catch (const std::runtime_error&) {
        thrown = true;
      }
      CHECK(thrown);
    }
  }(), reporting());
  CHECK(reports.empty());
}

TEST_CASE("spawn: a function that throws before it is a task fails as a task that throws") {
  const frame_balance frames;
  run_simulated([]() -> task<> {
    auto no_task = []() -> task<int> { throw std::runtime_error("no task"); };
    bool thrown = false;
    try {
      static_cast<void>(co_await spawn(no_task));
    } catch (const std::runtime_error&) {
      thrown = true;
    }
    CHECK(thrown);
    spawn(named("never began", no_task));
  }(), reporting());
  CHECK(reports == std::vector<std::string>{"never began: no task"});
}

TEST_CASE("join_handle: dropped, its task runs on; failures go to the runtime's handlers, with the name") {
  const frame_balance frames;
  run_simulated([]() -> task<> {
    spawn(after, 1s, 1);
    spawn(named("thrower", throwing), 1s);
    spawn(throwing, 2s);
    spawn(named("failer", failing), 3s);
    static_cast<void>(co_await sleep_for(10s));
  }(), reporting());
  CHECK(reports == std::vector<std::string>{"thrower: thrown", "unnamed: thrown",
                                            "failer: " + message(errc::closed)});
}

TEST_CASE("join_handle: dropped after the end, it reports what it did not collect") {
  run_simulated([]() -> task<> {
    {
      auto late = spawn(named("late", throwing), 1ms);
      auto error = spawn(named("error", failing), 1ms);
      static_cast<void>(co_await sleep_for(1s));
      CHECK(late.done());
      CHECK(reports.empty());
    }
    CHECK(reports.size() == 2);
    auto assigned = spawn(named("assigned over", throwing), 1ms);
    static_cast<void>(co_await sleep_for(1s));
    assigned = spawn(throwing, 1ms);
    CHECK(reports.back() == "assigned over: thrown");
    try {
      co_await std::move(assigned);
    } catch (const std::runtime_error&) {
    }
    CHECK(reports.size() == 3);
  }(), reporting());
}

TEST_CASE("spawn: being stopped is no failure to report") {
  run_simulated([]() -> task<> {
    auto waits = []() -> task<result<void>> { co_return co_await sleep_for(1h); };
    spawn(waits);
    co_return;
  }(), reporting());
  CHECK(reports.empty());
}

TEST_CASE(
    "spawn: without a handler an exception that nobody collects prints who threw what, and terminates") {
  auto main = []() -> task<> {
    spawn(named("careless", throwing), 0s);
    static_cast<void>(co_await sleep_for(1s));
  };
  CHECK_DEATH(run_simulated(main()), "an exception left the task 'careless' #2, which nobody joins: "
                                     "std::runtime_error: thrown");
  CHECK_DEATH(run_simulated(main()), "runtime_options::on_exception");
  auto odd = []() -> task<> {
    spawn([]() -> task<> {
      throw 7;
      co_return;
    });
    static_cast<void>(co_await sleep_for(1s));
  };
  CHECK_DEATH(run_simulated(odd()), "the task 'unnamed' #2, which nobody joins: int");
}

TEST_CASE("join_handle: request_stop ends the task's waits, and is harmless afterwards") {
  run_simulated([]() -> task<> {
    auto handle = spawn(after, 1h, 1);
    handle.request_stop();
    const int stopped = co_await std::move(handle);
    CHECK(stopped == -1);
    auto ended = spawn(after, 1ms, 2);
    static_cast<void>(co_await sleep_for(1s));
    ended.request_stop();
    const int ended_before = co_await std::move(ended);
    CHECK(ended_before == 2);
  }());
}

TEST_CASE("join_handle: a stop of whoever joins is passed on, and the end is awaited") {
  run_simulated([]() -> task<> {
    std::vector<int> order;
    auto child = [](std::vector<int>& notes) -> task<> {
      static_cast<void>(co_await sleep_for(1h));
      notes.push_back(1);
    };
    auto parent = [](auto c, std::vector<int>& notes) -> task<> {
      co_await spawn(c, std::ref(notes));
      notes.push_back(2);
    };
    auto handle = spawn(parent, child, std::ref(order));
    static_cast<void>(co_await sleep_for(1s));
    handle.request_stop();
    co_await std::move(handle);
    CHECK(order == std::vector<int>{1, 2});
    // One who is stopped already stops the child at once.
    auto stopped_parent = spawn(parent, child, std::ref(order));
    stopped_parent.request_stop();
    co_await std::move(stopped_parent);
    CHECK(order == std::vector<int>{1, 2, 1, 2});
  }());
}

TEST_CASE("join_handle: a graceful stop of whoever joins reaches the child as a graceful one, then hard") {
  run_simulated([]() -> task<> {
    auto parent = []() -> task<int> { co_return co_await spawn(after, 1h, 1); };
    auto handle = spawn(parent);
    static_cast<void>(co_await sleep_for(1s));
    handle.request_stop(keel::stop_level::graceful);
    static_cast<void>(co_await sleep_for(1s));
    CHECK(!handle.done());
    handle.request_stop();
    const int ended = co_await std::move(handle);
    CHECK(ended == -1);
  }());
}

TEST_CASE("join_handle: tasks may hold each other's handles and outlive those who spawned them") {
  const tracked_balance objects;
  const frame_balance frames;
  run_simulated([]() -> task<> {
    auto waiting = [](join_handle<int> other, tracked object) -> task<int> {
      co_return co_await std::move(other) + object.value;
    };
    auto chain = spawn(after, 1s, 0);
    for (int i = 1; i <= 100; ++i) chain = spawn(waiting, std::move(chain), tracked(i));
    const int sum = co_await std::move(chain);
    CHECK(sum == 5050);
  }());
}

TEST_CASE("join_handle: one that outlives a scope keeps the result; an exception is told once") {
  run_simulated([]() -> task<> {
    std::optional<join_handle<int>> kept;
    co_await keel::scope([&](keel::scope& children) -> task<> {
      kept.emplace(children.spawn(after, 1s, 7));
      co_return;
    });
    CHECK(kept->done());
    const int joined = co_await *std::move(kept);
    CHECK(joined == 7);
  }(), reporting());
  CHECK(reports.empty());
}

TEST_CASE("join_handle: joining twice, joining nothing and joining from elsewhere are bugs") {
  auto twice = []() -> task<> {
    auto handle = spawn(after, 1ms, 1);
    auto other = [](join_handle<int>& same) -> task<int> { co_return co_await std::move(same); };
    static_cast<void>(co_await keel::when_all(other(handle), other(handle)));
  };
  CHECK_DEATH(run_simulated(twice()), "a join_handle is awaited once");
  auto nothing = []() -> task<> {
    auto handle = spawn(after, 1ms, 1);
    auto moved = std::move(handle);
    static_cast<void>(co_await std::move(handle));
  };
  CHECK_DEATH(run_simulated(nothing()), "a join_handle is awaited once");
  auto elsewhere = []() -> task<> {
    auto handle = spawn(after, 1ms, 1);
    auto join = [](join_handle<int>& of_other) -> task<> { static_cast<void>(co_await std::move(of_other)); };
    keel::run(join(handle));
    co_return;
  };
  CHECK_DEATH(run_simulated(elsewhere()), "a task is joined on its own scheduler");
  CHECK_DEATH(spawn(after, 1ms, 1), "this needs a scheduler");
}

TEST_CASE("spawn: a million spawned and joined tasks take no memory when warm") {
  run_simulated([]() -> task<> {
    auto nothing = []() -> task<> { co_return; };
    for (int i = 0; i < 1000; ++i) spawn(nothing);
    static_cast<void>(co_await sleep_for(1s));
    const auto before = keel::this_thread_frames();
    const int rounds = keel::test::sanitized ? 100'000 : 1'000'000;
    for (int i = 0; i < rounds; ++i) co_await spawn(nothing);
    CHECK(keel::this_thread_frames().fresh == before.fresh);
    for (int i = 0; i < rounds / 100; ++i) {
      for (int k = 0; k < 100; ++k) spawn(nothing);
      static_cast<void>(co_await sleep_for(0s));
    }
    static_cast<void>(co_await sleep_for(1s));
    CHECK(keel::this_thread_frames().live == before.live);
    CHECK(keel::scheduler::current()->live_tasks() == 1);
  }());
}
