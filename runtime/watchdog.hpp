// Tells of schedulers that a task blocks.
#pragma once

#include <keel/runtime/task_description.hpp>
#include <keel/runtime/time.hpp>

#include <atomic>
#include <cstdint>

namespace keel {

class runtime;
class scheduler;

// One run that kept a scheduler from everything else.
struct blocked_report {
  unsigned scheduler = 0;
  duration lasted{0};
  bool over = false;      // false: it still runs, and somebody else tells of it
  const char* text = "";  // what the default prints; for the duration of the call
};
using blocked_handler = void (*)(const blocked_report& what);

// Looks at the runs of a runtime's schedulers: at the end of each by itself; from the turns of another
// scheduler; and from a thread where that is wanted. Lines are rate-limited, a handler hears of everything.
//
// Thread safety: any thread.
class watchdog {
 public:
  watchdog(runtime& owner, duration limit, blocked_handler handler) noexcept
      : owner_(owner), limit_ns_(delay_ns(limit)), handler_(handler) {}

  std::uint64_t limit_ns() const noexcept { return limit_ns_; }
  // What runs on `blocked`, whose thread this is, ran for so long: it has just ended.
  void ran_too_long(scheduler& blocked, std::uint64_t ticks) noexcept;
  // Whether one of the schedulers, other than `from`, runs something for too long.
  void look_around(const scheduler* from) noexcept;
  // A stopped task begins one wait after the other.
  void ignores_its_stop(const task_node& node) noexcept;

 private:
  void report(unsigned scheduler, std::uint64_t ticks, bool over, const std::string& by) noexcept;

  runtime& owner_;
  const std::uint64_t limit_ns_;
  const blocked_handler handler_;
};

// Looks around twice per limit, from a thread of its own, until it goes.
class watchdog_thread {
 public:
  // Throws std::system_error.
  explicit watchdog_thread(watchdog& dog);
  watchdog_thread(const watchdog_thread&) = delete;
  watchdog_thread& operator=(const watchdog_thread&) = delete;
  ~watchdog_thread();

 private:
  struct state;
  state* state_;
};

// At most four lines in four seconds: says so, and how many were not printed before.
class line_limit {
 public:
  bool allows(unsigned& suppressed) noexcept;

 private:
  std::atomic<std::uint64_t> window_{0};  // seconds since boot / 4, and the number of lines in its low bits
  std::atomic<unsigned> suppressed_{0};
};

}  // namespace keel
