// A time limit around anything that can be awaited.
#pragma once

#include <keel/base/result.hpp>
#include <keel/kevent_sys/queue.hpp>
#include <keel/runtime/awaitable.hpp>
#include <keel/runtime/result_slot.hpp>
#include <keel/runtime/scheduler.hpp>
#include <keel/runtime/time.hpp>

namespace keel {
namespace detail {

// A timer that stops a context of its own when it fires.
class deadline : private kevent_sys::timer {
 public:
  struct after {
    std::uint64_t delay_ns;
  };
  explicit deadline(after how_long) noexcept
      : timer(&fired_at), time_ns_(how_long.delay_ns), relative_(true) {}
  explicit deadline(time_point when) noexcept
      : timer(&fired_at), time_ns_(when.since_boot_ns()), relative_(false) {}
  deadline(deadline&& other) noexcept
      : timer(std::move(static_cast<timer&>(other))), time_ns_(other.time_ns_), relative_(other.relative_) {}

  // The context under which the operand runs.
  stop_context& begin(stop_context& outer) noexcept;
  void end() noexcept;
  // Whether it was the deadline that stopped the operand, and not somebody outside.
  bool passed() const noexcept { return passed_; }
  failure timed_out() const noexcept {
    return failure(errc::timed_out, relative_ ? "with_timeout" : "with_deadline");
  }

 private:
  static void fired_at(kevent_sys::operation& self, kevent_sys::answer a) noexcept;

  std::uint64_t time_ns_;
  bool relative_;
  stop_context context_;
  bool passed_ = false;
};

template <class T>
struct flattened {
  using type = result<T>;
};
template <class T>
struct flattened<result<T>> {
  using type = result<T>;
};

}  // namespace detail

// What with_timeout and with_deadline return.
template <awaitable A>
class timeout_op : private waiter {
  using inner = await_result<A>;

 public:
  template <class When>
  timeout_op(When when, A&& operand) noexcept
      : waiter(&ended), deadline_(when), operand_(std::move(operand)) {}
  timeout_op(timeout_op&& other) noexcept
      : waiter(&ended), deadline_(std::move(other.deadline_)), operand_(std::move(other.operand_)) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    up_ = &up;
    return operand_.start(*this, deadline_.begin(context));
  }

  typename detail::flattened<inner>::type take() {
    if constexpr (is_result<inner>) {
      auto got = operand_.take();
      if (deadline_.passed() && got.error() == errc::operation_canceled) return deadline_.timed_out();
      return got;
    } else if constexpr (std::is_void_v<inner>) {
      operand_.take();
      // A task without an answer cannot say whether it was complete.
      if (deadline_.passed()) return deadline_.timed_out();
      return {};
    } else {
      return operand_.take();
    }
  }

 private:
  static std::coroutine_handle<> ended(waiter* self) noexcept {
    auto& me = *static_cast<timeout_op*>(self);
    me.deadline_.end();
    return me.up_->next(me.up_);
  }

  detail::deadline deadline_;
  A operand_;
  waiter* up_ = nullptr;
};

// Awaits `operand`; when `d` passes first, counted from the end of this turn of the scheduler, stops it and
// awaits its end. An answer that is complete beats the deadline. Of limits within one another the nearest one
// stops what is inside, and says timed_out; those further in see an operation_canceled. What runs inside can
// ask for the nearest one: this_task::deadline().
//
// Gives result<T> for what gives T or result<T>, result<void> for task<>.
// Errors:    timed_out when our deadline ended it; operation_canceled when a stop from outside did; the
//            operand's own.
// Cancelled: as the operand.
template <class Rep, class Period, awaitable A>
requires(!std::is_lvalue_reference_v<A>)
    [[nodiscard]] timeout_op<A> with_timeout(std::chrono::duration<Rep, Period> d, A&& operand) noexcept {
  return timeout_op<A>(detail::deadline::after{delay_ns(d)}, std::move(operand));
}

// The same until a point in time. One that has passed stops what has not ended by the next turn.
//
// Errors:    as with_timeout.
// Cancelled: as the operand.
template <awaitable A>
requires(!std::is_lvalue_reference_v<A>)
    [[nodiscard]] timeout_op<A> with_deadline(time_point when, A&& operand) noexcept {
  return timeout_op<A>(when, std::move(operand));
}

}  // namespace keel
