// Waiting for a time.
#pragma once

#include <keel/base/result.hpp>
#include <keel/kevent_sys/queue.hpp>
#include <keel/runtime/time.hpp>
#include <keel/runtime/wait_point.hpp>

namespace keel {

// What sleep_for and sleep_until return.
class sleep_op : private kevent_sys::timer, private stop_callback, private wait_point {
 public:
  struct after {
    std::uint64_t delay_ns;
  };
  explicit sleep_op(after how_long) noexcept : sleep_op(how_long.delay_ns, true) {}
  explicit sleep_op(time_point when) noexcept : sleep_op(when.since_boot_ns(), false) {}

  sleep_op(sleep_op&& other) noexcept;

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  result<void> take() noexcept;

 private:
  sleep_op(std::uint64_t time_ns, bool relative) noexcept;
  static void fired(kevent_sys::operation& self, kevent_sys::answer a) noexcept;
  static void stopped(stop_callback& self, stop_level level) noexcept;

  std::uint64_t time_ns_;
  bool relative_;
  bool canceled_ = false;
};

// Waits for `d` and never less, counted from the end of this turn of the scheduler. What is negative or zero
// waits for the next turn.
//
// Errors:    operation_canceled.
// Cancelled: at once.
template <class Rep, class Period>
[[nodiscard]] sleep_op sleep_for(std::chrono::duration<Rep, Period> d) noexcept {
  return sleep_op(sleep_op::after{delay_ns(d)});
}

// Waits until the clock has reached `when`; a time that has passed waits for the next turn.
//
// Errors:    operation_canceled.
// Cancelled: at once.
[[nodiscard]] inline sleep_op sleep_until(time_point when) noexcept {
  return sleep_op(when);
}

}  // namespace keel
