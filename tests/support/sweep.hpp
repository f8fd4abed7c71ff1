// sweep(scenario): stops a scenario at every point at which it can be stopped, and checks that nothing is
// left.
//
//     const auto runs = test::sweep([](runtime& rt) { rt.spawn(session, port); });
//     CHECK(runs > 3);
//
// In run k (0, 1, 2, ...) the scenario's tasks live for k turns of one event each; then the scheduler's tasks
// are asked to stop, and must end. The last run is the first that ends by itself before it is stopped; so a
// scenario has to end when nobody stops it, within `runs_max` turns.
//
// After each run all tasks have ended, no operation but the scheduler's own is in flight, no timer is armed
// and no receive buffer is away; after the runtime has gone, the thread's coroutine frames and the
// descriptors of the process are as many as before. A failed check says after how many turns the stop came.
//
// The scenario is a callable that takes the runtime and spawns tasks. It may return an object: what the tasks
// refer to (sockets, a listener, counters); that goes when the tasks have ended and before the runtime does.
// Sanitizers see more than the checks do: let the scenario's tasks hold objects with destructors
// (tracked.hpp).
//
// Use it while the test has one thread.
#pragma once

#include <keel/runtime/runtime.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <ostream>
#include <type_traits>

#include "support/descriptors.hpp"

namespace keel::test {

struct sweep_options {
  stop_level level = stop_level::hard;  // after a graceful stop the scenario has to end by itself
  unsigned runs_max = 5000;
  unsigned turns_to_end = 100'000;     // that stopped tasks may take
  nanoseconds patience = seconds(20);  // for a turn in which nothing at all happens
  runtime_options runtime = {};        // its turn_events are 1, its cpus 1; `factory` for a simulation
};

namespace detail {

struct sweep_run {
  runtime& rt;
  const sweep_options& options;

  scheduler& home() const noexcept { return rt.at(0); }
  bool ended() const noexcept { return home().tasks().empty(); }
  // Detached operations are cancelled by their objects' ends, and reaped later; the wake operation stays.
  bool quiet() const noexcept { return home().detached() == 0 && home().queue().in_flight() <= 1; }

  // Whether something happened, be it only in the kernel: the end of a pipe that nobody waits for.
  bool turn() const {
    const scheduler_counters before = home().counters();
    const time_point limit = home().now() + options.patience;
    rt.run_once(limit);
    const scheduler_counters after = home().counters();
    return home().now() < limit || after.events != before.events || after.runs != before.runs ||
           after.messages != before.messages;
  }
  template <class Condition>
  void turn_until(Condition condition) const {
    for (unsigned i = 0; i < options.turns_to_end && !condition(); ++i)
      if (!turn()) return;
  }
};

// Lets `scenario` live for `turns` turns, stops it, looks at what is left. True if it ended by itself.
template <class Scenario>
bool sweep_once(Scenario& scenario, const sweep_options& options, unsigned turns) {
  runtime_options one = options.runtime;
  one.turn_events = 1;
  one.cpus = 1;
  runtime rt(one);
  const sweep_run run{rt, options};
  bool by_itself = false;
  auto live = [&] {
    // The runtime's own first turn arms its wake operation.
    for (unsigned i = 0; i < turns && !run.ended(); ++i) run.turn();
    by_itself = run.ended();
    rt.at(0).tasks().context().request_stop(options.level);
    run.turn_until([&] { return run.ended(); });
    REQUIRE_MESSAGE(run.ended(), rt.at(0).tasks().size(), " tasks did not end when they were stopped");
  };
  if constexpr (std::is_void_v<std::invoke_result_t<Scenario&, runtime&>>) {
    scenario(rt);
    live();
  } else {
    [[maybe_unused]] auto world = scenario(rt);
    live();
  }
  run.turn_until([&] { return run.quiet(); });
  kevent_sys::queue& queue = rt.at(0).queue();
  CHECK_MESSAGE(queue.in_flight() <= 1, "operations of ended tasks are in flight");
  CHECK_MESSAGE(rt.at(0).detached() == 0, "closed objects wait for their last operations");
  CHECK_MESSAGE(queue.timers() == 0, "timers of ended tasks are armed");
  CHECK_MESSAGE(queue.buffers().away() == 0, "receive buffers were not given back");
  return by_itself;
}

}  // namespace detail

// Returns how many runs it took.
template <class Scenario>
unsigned sweep(Scenario scenario, const sweep_options& options = sweep_options()) {
  // What is made once per thread or process is made now.
  detail::sweep_once(scenario, options, 0);
  for (unsigned turns = 0;; ++turns) {
    CAPTURE(turns);
    REQUIRE_MESSAGE(turns < options.runs_max, "the scenario does not end by itself");
    const std::uint64_t frames = this_thread_frames().live;
    const std::size_t descriptors = open_descriptors();
    const bool by_itself = detail::sweep_once(scenario, options, turns);
    CHECK_MESSAGE(this_thread_frames().live == frames, "coroutine frames were left");
    CHECK_MESSAGE(open_descriptors() == descriptors, "descriptors were left open");
    if (by_itself) return turns + 1;
  }
}

}  // namespace keel::test
