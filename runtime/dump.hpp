// Looking inside a runtime: what every task does, and what the schedulers have done.
#pragma once

#include <keel/runtime/runtime.hpp>

#include <cstdint>
#include <string>

namespace keel {

enum class dump_format : std::uint8_t { tree, json };

struct dump_options {
  dump_format format = dump_format::tree;
  std::uint32_t tasks_max = 10'000;  // looked at on each scheduler, the oldest; the rest is counted
  std::uint32_t frames_max = 12;     // of each task, the innermost
  std::uint32_t alike_max = 3;       // tree: of those who do the same in the same place
  std::uint32_t lines_max = 1'000;   // tree: of each scheduler
  bool run_times = true;
  duration patience = std::chrono::milliseconds(200);  // with a scheduler that is blocked
};

// What runtime::dump() writes. A scheduler that another thread runs is asked by a message; its tasks wait
// only while they are looked at: a few milliseconds for ten thousand.
//
//     scheduler 0 on uring: 3 tasks, 120 turns, ...
//     ├─ main #1 waits for the children of a scope, 2.0 s, at http/server.cpp:122 in serve
//     │  ├─ connection #7 waits for recv, 12 ms, at http/connection.cpp:88 in read_request < ...
//
// JSON is one object {"schedulers": [...], "blocking_calls": {...}}. Each scheduler has "index", "engine",
// "answered" and either "runs" (what blocks it: "name", "id", "for_ns", "since") or "counters", "tasks"
// ("name", "id", "parent", "state": running | ready | waiting, "waits_for", "for_ns", "priority", "stopped",
// "frames": [{"file", "line", "function"}], innermost first), "tasks_left_out" and "names" ("name", "tasks",
// "runs", "total_ns", "longest_ns", "histogram": [{"below_ns", "runs"}]).
//
// Throws:  std::bad_alloc.
// Threads: any while the runtime runs; the one that made it, or a task of it, at any time. Two tasks on two
//          schedulers that ask at the same time wait for one another in vain.
std::string inspect(runtime& of, const dump_options& options = dump_options());

// The counters of one scheduler.
//
// Errors:  timed_out: it is blocked, or does not run.
// Throws:  std::bad_alloc.
// Threads: as inspect().
result<scheduler_counters> counters_of(runtime& of, unsigned index,
                                       duration patience = std::chrono::milliseconds(200));

}  // namespace keel
