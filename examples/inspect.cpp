// Looks inside a program that runs: which task waits where, who blocks a scheduler, where an error came from.
//
//     build/release/examples/inspect              prints the tree of its tasks
//     build/release/examples/inspect json         the same for programs
//     KEEL_DUMP_SIGNAL=USR1 build/release/examples/inspect wait &
//     kill -USR1 $!                               prints the tree of any keel program, as often as you like
//
//     scheduler 0 on uring: 11 tasks, 14 spawned, ...
//     └─ main #2 waits for the children of a scope, 200 ms, at examples/inspect.cpp:73 in program < ...
//        ├─ customer #4 waits for a time, 200 ms, at examples/inspect.cpp:28 in think < ...:32 in customer
//        ├─ ...
//        ├─ ... and 5 more in the same place, 200 ms
//
// and, on stderr, a line about the task that blocked the scheduler, and one about an error nobody collected.

#include <keel/keel.hpp>

#include <chrono>
#include <cstdio>
#include <string_view>

using namespace keel;
using namespace std::chrono_literals;

namespace {

task<result<void>> think() {
  co_return co_await sleep_for(1h);
}

// Eight of them stand in the same place: the tree shows three, and counts the others.
task<> customer() {
  const auto thought = co_await think();
  if (!thought) co_return;
}

// A computation that ought to be cut into pieces: nothing else runs meanwhile, and the watchdog says so.
task<> greedy() {
  (void)co_await sleep_for(1ms);
  const auto end = std::chrono::steady_clock::now() + 150ms;
  while (std::chrono::steady_clock::now() < end) {
  }
}

// Fails, and nobody joins it: the report names it and those who spawned it.
task<result<void>> careless() {
  (void)co_await sleep_for(1ms);
  co_return errc::closed;
}

task<> shop() {
  spawn(named("careless", careless));
  co_await spawn(named("greedy", greedy));
}

// Prints the tree once, and ends the program; or waits for signals.
task<> inspector(std::string_view how) {
  if (how == "wait") co_return;
  (void)co_await sleep_for(200ms);
  const auto format = how == "json" ? dump_format::json : dump_format::tree;
  runtime& mine = scheduler::current()->owner();
  if (const auto written = mine.dump(1, {.format = format}); !written)
    std::fprintf(stderr, "inspect: %s\n", written.error().message().c_str());
  mine.request_stop();
}

task<> program(std::string_view how) {
  auto body = [how](scope& children) -> task<> {
    children.spawn(named("shop", shop));
    for (int i = 0; i < 8; ++i) children.spawn(named("customer", customer));
    children.spawn(named("inspector", inspector), how);
    co_return;
  };
  co_await scope(body);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view how = argc > 1 ? argv[1] : "tree";
  return run({.stop_on_signals = true}, [how] { return program(how); });
}
