#include <keel/runtime/run_monitor.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/when_all.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <ostream>
#include <string>
#include <string_view>

#include "support/in_runtime.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::named;
using keel::run_statistics;
using keel::run_table;
using keel::scheduler;
using keel::task;
using keel::ticks_now;
using keel::ticks_to_ns;
using keel::test::pause;
using keel::test::run_simulated;

namespace {

// Uses the CPU, by the clock of the wall.
void grind(std::chrono::nanoseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
  }
}

const run_statistics& of(const char* name) {
  return scheduler::current()->monitor().table().of(name);
}

}  // namespace

TEST_CASE("ticks: they pass as the clock does") {
  const auto begin = std::chrono::steady_clock::now();
  const auto ticks = ticks_now();
  grind(5ms);
  const auto took_ns = ticks_to_ns(ticks_now() - ticks);
  const auto truth_ns = std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin).count();
  CHECK(took_ns >= 4'900'000);
  CHECK(took_ns <= static_cast<std::uint64_t>(truth_ns) * 11 / 10);
  const auto there_and_back = ticks_to_ns(keel::ns_to_ticks(1'000'000));
  CHECK(there_and_back >= 999'000);
  CHECK(there_and_back <= 1'001'000);
}

TEST_CASE("run_statistics: sums, the longest, and a histogram in powers of two") {
  run_statistics s;
  for (const std::uint64_t ticks : {0u, 1u, 2u, 3u, 4u, 1000u}) s.note(ticks);
  s.note(~std::uint64_t{0} / 2);
  CHECK(s.runs() == 7);
  CHECK(s.buckets[1] == 2);
  CHECK(s.buckets[2] == 2);
  CHECK(s.buckets[3] == 1);
  CHECK(s.buckets[10] == 1);
  CHECK(s.buckets[run_statistics::bucket_count - 1] == 1);
  CHECK(s.longest_ticks == ~std::uint64_t{0} / 2);
}

TEST_CASE("run_table: by the text of the name, wherever it stands; without room, one for the rest") {
  run_table table;
  std::string mine = "reader";
  run_statistics& reader = table.of("reader");
  CHECK(&table.of(mine.c_str()) == &reader);
  // The same place, another text.
  mine = "writer";
  CHECK(std::string_view(table.of(mine.c_str()).name) == "writer");
  CHECK(&table.of("reader") == &reader);
  CHECK(std::string_view(table.of(nullptr).name) == "unnamed");
  CHECK(&table.of(nullptr) != &table.callbacks());
  for (int i = 0; i < 1000; ++i) CHECK(table.of(std::to_string(i).c_str()).name != nullptr);
  CHECK(table.size() == run_table::names_max);
  CHECK(std::string_view(table.of("one more").name) == "other tasks");
  CHECK(&table.of("reader") == &reader);
}

TEST_CASE("run_monitor: runs are counted and timed by name, those of branches for who awaits them") {
  run_simulated([]() -> task<> {
    auto grinds = []() -> task<> {
      for (int i = 0; i < 3; ++i) {
        grind(2ms);
        co_await pause(1s);
      }
    };
    auto branches = [](auto fn) -> task<> { co_await keel::when_all(fn(), fn()); };
    keel::spawn(named("grinder", grinds));
    keel::spawn(named("two of them", branches), grinds);
    co_await pause(1h);
    CHECK(of("grinder").tasks == 1);
    // Three times it grinds; then it ends.
    CHECK(of("grinder").runs() == 4);
    CHECK(ticks_to_ns(of("grinder").total_ticks) >= 5'900'000);
    CHECK(ticks_to_ns(of("grinder").longest_ticks) >= 1'900'000);
    CHECK(of("two of them").tasks == 3);
    CHECK(ticks_to_ns(of("two of them").total_ticks) >= 11'800'000);
    CHECK(ticks_to_ns(of("main").total_ticks) < 1'000'000'000);
  }());
}

TEST_CASE("run_monitor: what a task does after a join of another name is its own") {
  run_simulated([]() -> task<> {
    auto quick = []() -> task<> { co_await pause(1s); };
    auto joins = [](auto fn) -> task<> {
      co_await keel::spawn(named("quick", fn));
      grind(3ms);
    };
    co_await keel::spawn(named("joiner", joins), quick);
    CHECK(ticks_to_ns(of("joiner").longest_ticks) >= 2'900'000);
    CHECK(of("quick").runs() == 2);
  }());
}

TEST_CASE("run_monitor: what an unnamed task does counts with the nearest named one above it") {
  keel::run([]() -> task<> {
    auto worker = []() -> task<> {
      auto grinding = []() -> task<> {
        grind(2ms);
        co_return;
      };
      auto unnamed = keel::spawn(grinding);
      co_await std::move(unnamed);
    };
    auto handle = keel::spawn(named("worker", worker));
    co_await std::move(handle);
    co_await pause(0ms);
    CHECK(of("worker").tasks == 1);
    CHECK(ticks_to_ns(of("worker").total_ticks) >= 2'000'000);
    CHECK(of(nullptr).runs() == 0);
  }());
}

TEST_CASE("run_monitor: without measurements and watchdog it counts tasks and no runs") {
  keel::runtime_options options;
  options.measure_runs = false;
  options.watchdog = 0s;
  run_simulated(
      []() -> task<> {
        co_await pause(1s);
        CHECK(of("main").tasks == 1);
        CHECK(of("main").runs() == 0);
        CHECK(scheduler::current()->monitor().seen().since_ticks == 0);
      }(),
      options);
}

TEST_CASE("run_monitor: others see what runs and since when, and nothing while it sleeps") {
  keel::kevent_sys::sim_world world;
  keel::runtime rt({.factory = world.factory()});
  CHECK(rt.at(0).monitor().seen().since_ticks == 0);
  auto looks = [](keel::runtime& of_it) -> task<> {
    co_await pause(1s);
    const auto seen = of_it.at(0).monitor().seen();
    CHECK(seen.since_ticks != 0);
    CHECK(seen.since_ticks <= ticks_now());
    CHECK(std::string_view(seen.name) == "looks");
    CHECK(seen.id == scheduler::current()->running().id);
    CHECK(std::string_view(seen.from.file_name()).ends_with(".hpp"));
  };
  rt.spawn(named("looks", looks), std::ref(rt));
  rt.run();
  CHECK(rt.at(0).monitor().seen().since_ticks == 0);
}
