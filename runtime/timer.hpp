// A timer that is armed, armed anew and cancelled while somebody waits for it.
#pragma once

#include <keel/base/result.hpp>
#include <keel/kevent_sys/queue.hpp>
#include <keel/runtime/time.hpp>
#include <keel/runtime/wait_point.hpp>

namespace keel {

// An alarm clock: set it, set it again, wait for it. Arming it anew while it is armed for a nearer time costs
// a look at the clock and no more, so that something may happen a million times a second that puts off the
// end of an idle connection:
//
//     idle.arm_after(60s);                              // after each message
//     if (co_await idle.wait()) co_await peer.close();  // in a task beside
//
// A resource; not movable.
//
// Life cycle: made anywhere; belongs to the scheduler that first arms it or waits for it; destroyed while
// nobody waits, armed or not.
// Thread safety: its scheduler's thread.
class timer : private kevent_sys::timer {
 public:
  timer() noexcept : kevent_sys::timer(&fired) {}
  timer(const timer&) = delete;
  timer& operator=(const timer&) = delete;
  ~timer();

  // It will expire at `when`, or `d` from now and never earlier; what was said before does not count. An
  // expiry for which nobody has waited yet is forgotten.
  void arm_at(time_point when) noexcept;
  template <class Rep, class Period>
  void arm_after(std::chrono::duration<Rep, Period> d) noexcept {
    arm_after_ns(delay_ns(d));
  }
  // It will not expire. Whoever waits has operation_canceled. True if it would have expired: of an expiry and
  // a cancel exactly one happens.
  bool cancel() noexcept;

  bool armed() const noexcept { return armed_; }
  // For when it was armed last.
  time_point deadline() const noexcept { return deadline_; }

  class wait_op;
  // Waits until it expires; at once if it has, and nobody waited. While it is not armed, until somebody arms
  // it.
  //
  // Errors:    operation_canceled, by a stop or by cancel().
  // Cancelled: at once; the timer stays armed, and an expiry is kept for the next wait.
  // Lifetime:  *this must live until the co_await returns.
  // REQUIRES:  nobody else waits.
  [[nodiscard]] wait_op wait() noexcept;

 private:
  static void fired(kevent_sys::operation& self, kevent_sys::answer a) noexcept;
  void arm_after_ns(std::uint64_t delay_ns) noexcept;
  void arm(time_point when) noexcept;
  scheduler& belong_to(scheduler& home) noexcept;

  scheduler* home_ = nullptr;
  wait_op* waiting_ = nullptr;
  time_point deadline_;
  time_point wakes_at_;  // what the queue knows: at most deadline_
  bool armed_ = false;
  bool expired_ = false;  // and nobody has waited for it yet
};

// What wait() returns.
class timer::wait_op : private stop_callback, private wait_point {
 public:
  explicit wait_op(timer& of) noexcept : stop_callback(&stopped), of_(of) {}
  wait_op(wait_op&&) noexcept = default;

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  result<void> take() noexcept;

 private:
  friend class timer;
  static void stopped(stop_callback& self, stop_level level) noexcept;
  void leave() noexcept;

  timer& of_;
  bool canceled_ = false;
};

}  // namespace keel
