#include <keel/runtime/task_group.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/death_test.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::sleep_for;
using keel::task;
using keel::task_group;
using keel::detail::spawn_into;
using keel::test::run_simulated;

namespace {

// Notes what it is told.
class noting_group : public task_group {
 public:
  explicit noting_group(bool at_once = false) : at_once_(at_once) {
    context_.attach(keel::scheduler::current()->tasks().context());
  }
  ~noting_group() override { context_.detach(); }

  std::string notes;

 private:
  void became_busy() noexcept override { notes += "busy "; }
  void became_empty() noexcept override { notes += "empty "; }
  bool fails_at_once() const noexcept override { return at_once_; }
  void child_failed(keel::spawned_base& child, std::exception_ptr) noexcept override {
    notes += std::string("failed:") + child.name() + " ";
  }

  bool at_once_;
};

task<> nap(keel::duration d) { static_cast<void>(co_await sleep_for(d)); }
task<> throwing(keel::duration d) {
  static_cast<void>(co_await sleep_for(d));
  throw std::runtime_error("thrown");
}

}  // namespace

TEST_CASE("task_group: counts its tasks, and hears of the first and the last") {
  run_simulated([]() -> task<> {
    noting_group group;
    CHECK(group.empty());
    spawn_into(group, nap, 1s);
    spawn_into(group, nap, 2s);
    CHECK(group.size() == 2);
    CHECK(group.notes == "busy ");
    static_cast<void>(co_await sleep_for(1500ms));
    CHECK(group.size() == 1);
    CHECK(group.notes == "busy ");
    static_cast<void>(co_await sleep_for(1s));
    CHECK(group.empty());
    CHECK(group.notes == "busy empty ");
  }());
}

TEST_CASE("task_group: a stop reaches the tasks that are in it, and those that come later") {
  run_simulated([]() -> task<> {
    noting_group group;
    spawn_into(group, nap, 1h);
    static_cast<void>(co_await sleep_for(1ms));
    group.context().request_stop(keel::stop_level::hard);
    spawn_into(group, nap, 1h);
    static_cast<void>(co_await sleep_for(1ms));
    CHECK(group.empty());
  }());
}

TEST_CASE("task_group: hears of an exception when the handle goes, or at once if it wants to") {
  run_simulated([]() -> task<> {
    for (const bool at_once : {false, true}) {
      noting_group group(at_once);
      {
        auto handle = spawn_into(group, keel::named("child", throwing), 1ms);
        static_cast<void>(co_await sleep_for(1s));
        CHECK(handle.done());
        CHECK((group.notes.find("failed:child") != std::string::npos) == at_once);
        // From now on it is the runtime's affair; joining collects it.
        try {
          co_await std::move(handle);
        } catch (const std::runtime_error&) {
        }
      }
      spawn_into(group, keel::named("dropped", throwing), 1ms);
      static_cast<void>(co_await sleep_for(1s));
      CHECK(group.notes.find("failed:dropped") != std::string::npos);
      CHECK(group.empty());
    }
  }());
}

TEST_CASE("task_group: destroyed before its tasks have ended is a bug") {
  auto leaves = []() -> task<> {
    {
      noting_group group;
      spawn_into(group, nap, 1h);
    }
    co_return;
  };
  CHECK_DEATH(run_simulated(leaves()), "a group of tasks was destroyed before they ended");
}
