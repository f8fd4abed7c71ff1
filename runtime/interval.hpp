// Doing something again and again, at times that do not drift.
#pragma once

#include <keel/runtime/timer.hpp>

namespace keel {

// What becomes of ticks that nobody took in time. A tick is missed when the one after it is due already.
enum class missed_tick : std::uint8_t {
  burst,  // they come one after the other, one in each turn of the scheduler, until they are made up for
  delay,  // they are left out, and the next one comes a whole period later: the schedule moves
  skip,   // they are left out, and the next one comes when the schedule says so
};

// One tick. A value.
struct interval_tick {
  time_point due;            // by the schedule: this many periods after the first one, to the nanosecond
  std::uint64_t missed = 0;  // how many that were due after it have been left out
};

// A clock that ticks every `period`.
//
//     interval tick{1s, missed_tick::skip};
//     while (co_await tick.next()) co_await job();   // ends when stopped
//
// The first tick comes one period after the first next(); or at the time given, and when that has passed, at
// once. Tick number n is due n periods after the first, however late those before it were taken. A resource;
// not movable.
//
// Life cycle: made anywhere; belongs to the scheduler that first waits for it.
// Thread safety: its scheduler's thread.
class interval {
 public:
  // REQUIRES: period > 0
  template <class Rep, class Period>
  explicit interval(std::chrono::duration<Rep, Period> period,
                    missed_tick policy = missed_tick::burst) noexcept
      : interval(delay_ns(period), policy) {}
  template <class Rep, class Period>
  interval(time_point first, std::chrono::duration<Rep, Period> period,
           missed_tick policy = missed_tick::burst) noexcept
      : interval(delay_ns(period), policy) {
    begin_at(first);
  }
  interval(const interval&) = delete;
  interval& operator=(const interval&) = delete;
  ~interval() = default;

  class next_op;
  // The next tick. Never early; late by what the scheduler and its clock of 16 microseconds are.
  //
  // Errors:    operation_canceled.
  // Cancelled: at once; the tick is not lost.
  // Lifetime:  *this must live until the co_await returns.
  // REQUIRES:  nobody else waits.
  [[nodiscard]] next_op next() noexcept;

  // Begins anew: the next tick comes a period after now, or at `first`. Also while somebody waits.
  // Threads: a scheduler's.
  void reset() noexcept;
  void reset_at(time_point first) noexcept;

 private:
  interval(std::uint64_t period_ns, missed_tick policy) noexcept : period_ns_(period_ns), policy_(policy) {
    KEEL_ASSERT(period_ns > 0, "an interval has a period that is longer than nothing");
  }
  void begin_at(time_point first) noexcept {
    due_ = first;
    started_ = true;
  }
  // Gives the tick that is due, and prepares the next one.
  interval_tick advance(time_point now) noexcept;

  timer alarm_;
  time_point due_;
  std::uint64_t period_ns_;
  missed_tick policy_;
  bool started_ = false;
};

// What next() returns.
class interval::next_op : private timer::wait_op {
 public:
  explicit next_op(interval& of) noexcept : wait_op(of.alarm_), of_(of) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  result<interval_tick> take() noexcept;

 private:
  interval& of_;
  scheduler* home_ = nullptr;
};

}  // namespace keel
