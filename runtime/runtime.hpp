// The runtime: one scheduler per CPU, and the threads they run on.
#pragma once

#include <keel/kevent_sys/blocking_pool.hpp>
#include <keel/runtime/cpu_list.hpp>
#include <keel/runtime/scheduler.hpp>
#include <keel/runtime/spawn.hpp>
#include <keel/runtime/task_description.hpp>
#include <keel/runtime/time.hpp>
#include <keel/runtime/watchdog.hpp>

#include <cstdint>
#include <exception>
#include <system_error>

namespace keel {

using kevent_sys::engine_choice;

// An exception left a task that nobody joins. The default prints and terminates.
using exception_handler = void (*)(const task_description& task, std::exception_ptr error);
// An error result of a task that nobody joins. The default prints one line, rate-limited.
using error_handler = void (*)(const task_description& task, std::error_code error);

struct runtime_options {
  cpu_list cpus = 1;
  engine_choice engine = engine_choice::automatic;  // of each scheduler; see kevent_sys::make_engine
  std::uint32_t entries = 256;                      // requests handed over in one call
  std::uint32_t ring_events = 1024;                 // events collected in one turn
  std::uint32_t turn_events = 256;  // events told in one turn: then whatever became ready runs
  // How long a scheduler with nothing to do looks for an event before it sleeps: a sleep costs more than a
  // short wait. It learns whether that pays and stops where it does not, as on a CPU shared with the peer; 0
  // = never.
  duration spin = std::chrono::microseconds(50);
  std::uint32_t buffers = 64;  // receive buffers per scheduler, 16 KiB each; more when readers hold many
  std::uint32_t buffers_limit = 1024;
  std::uint32_t buffer_bytes = 16384;
  // Threads for calls that block, shared by all schedulers; none before the first call.
  std::uint32_t blocking_threads_max = 16;
  std::uint32_t blocking_calls_max = 4096;  // that wait for a thread; one more is refused
  // How long the runs of tasks take, by name, for dump(): one look at the CPU's clock per run. The watchdog
  // needs that, too: without both there is none.
  bool measure_runs = true;
  // A task that keeps a scheduler for longer is reported: when it ends, or by another scheduler that turns;
  // at any time when there is a thread for that. 0 = never.
  duration watchdog = std::chrono::milliseconds(100);
  bool watchdog_thread = false;
  blocked_handler on_blocked = nullptr;  // instead of a line on stderr
  exception_handler on_exception = nullptr;
  error_handler on_error = nullptr;
  // For tests: the engine of each scheduler, a simulation for example.
  kevent_sys::engine_factory factory = {};
};

class handle;
struct blocking_counters;
struct dump_options;

namespace detail {
class door;
struct runtime_state;
}

// Several per process, side by side; no global state, no signal handler, and no thread before run() with more
// than one CPU. A resource; not movable.
//
// Life cycle: make -> spawn -> run (to the end of all tasks, or until stopped) -> destroy.
// Thread safety: the thread that made it, but request_stop(), local() and blocking_counters(), which any
// thread may call while it lives. Threads that may outlive it take a handle.
class runtime {
 public:
  // Throws std::system_error when no engine can be had, std::bad_alloc.
  explicit runtime(const runtime_options& options = runtime_options());
  runtime(const runtime&) = delete;
  runtime& operator=(const runtime&) = delete;
  // Stops what is left and awaits its end: a task that had not started begins, and is stopped at its first
  // wait.
  ~runtime();

  unsigned size() const noexcept;
  scheduler& at(unsigned index) noexcept;

  // Spawns on the first scheduler. REQUIRES: it does not run, or this is its thread
  template <class Fn, class... Args>
  auto spawn(Fn&& fn, Args&&... args) {
    return detail::spawn_into(at(0).tasks(), std::forward<Fn>(fn), std::forward<Args>(args)...);
  }

  // Runs until no scheduler has a task left, or until a hard stop has ended them all. The first scheduler
  // runs on this thread, the others on threads of their own, pinned; all are joined before it returns.
  void run();
  // For a single scheduler inside another loop. A turn that waits at most until `deadline`, or not at all;
  // once fd() was asked for, also the turns that follow from it, up to a limit.
  void run_once(time_point deadline);
  void run_ready() { run_once(time_point()); }
  // The descriptor for that loop to watch (POLLIN, level-triggered or edge-triggered) and not to read: while
  // run_ready() has something to do it is readable, also when that comes from another thread, or from a call
  // between two run_ready(). The same each time; it lives as long as the runtime.
  //
  // Threads:  the one that calls run_ready().
  // Throws:   std::system_error when no descriptor can be had.
  // REQUIRES: one scheduler, and not on a simulated engine.
  int fd();

  // Asks all tasks to stop. Any thread.
  void request_stop(stop_level level = stop_level::hard) noexcept;

  // For other threads: a way into the scheduler `index`, which may outlive the runtime. See handle.hpp.
  keel::handle handle(unsigned index = 0) noexcept;

  // What the pool of blocking() does. See blocking.hpp. Any thread.
  keel::blocking_counters blocking_counters() const noexcept;

  // Writes what every task does and what the schedulers have done: a tree, or JSON. A scheduler that does not
  // answer in time is named with what it runs. See dump.hpp.
  //
  // Errors:  those of write(2). Throws std::bad_alloc.
  // Threads: any while it runs; the one that made it.
  result<void> dump(int fd);
  result<void> dump(int fd, const dump_options& options);

  // Something that the schedulers of this runtime share, made by the first who asks for `key`. `make` runs
  // under a lock. `destroy` is called when the runtime ends. Any thread.
  void* local(const void* key, void* (*make)(), void (*destroy)(void*));

  // Where failures end that nobody collects. The scheduler's thread.
  void unhandled_exception(const task_description& task, std::exception_ptr error) noexcept;
  void unhandled_error(const task_description& task, std::error_code error) noexcept;
  // Whether it does not run, and this is the thread that made it.
  bool rests_here() const noexcept;
  // What looks after its schedulers.
  watchdog& dog() noexcept;

  // For schedulers: how many of them have tasks. With none left, run() ends.
  void note_busy(int change) noexcept;
  // For threads of another runtime, around a call after which this one may end: it waits for their leaving.
  class visit;
  // For handles: the way in, and whether something that is sent keeps run() from ending, as a task would:
  // then note_busy(-1) when it has been told. Not once a hard stop was asked for.
  detail::door& entrance() noexcept;
  bool note_errand(unsigned index) noexcept;

 private:
  void run_one(unsigned index) noexcept;

  detail::runtime_state* state_;
};

class runtime::visit {
 public:
  explicit visit(runtime& other) noexcept;
  visit(const visit&) = delete;
  visit& operator=(const visit&) = delete;
  ~visit();

 private:
  detail::runtime_state& visited_;
};

}  // namespace keel
