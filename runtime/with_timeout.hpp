// A deadline around anything that can be awaited.
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
  explicit deadline(std::uint64_t delay_ns) noexcept : timer(&fired_at), delay_ns_(delay_ns) {}
  deadline(deadline&& other) noexcept
      : timer(std::move(static_cast<timer&>(other))), delay_ns_(other.delay_ns_) {}

  // The context under which the operand runs.
  stop_context& begin(stop_context& outer) noexcept;
  void end() noexcept;
  // Whether it was the deadline that stopped the operand, and not somebody outside.
  bool passed() const noexcept { return passed_; }

 private:
  static void fired_at(kevent_sys::operation& self, kevent_sys::answer a) noexcept;

  std::uint64_t delay_ns_;
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

// What with_timeout returns.
template <awaitable A>
class timeout_op : private waiter {
  using inner = await_result<A>;

 public:
  timeout_op(std::uint64_t delay_ns, A&& operand) noexcept
      : waiter(&ended), deadline_(delay_ns), operand_(std::move(operand)) {}
  timeout_op(timeout_op&& other) noexcept
      : waiter(&ended), deadline_(std::move(other.deadline_)), operand_(std::move(other.operand_)) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    up_ = &up;
    return operand_.start(*this, deadline_.begin(context));
  }

  typename detail::flattened<inner>::type take() {
    if constexpr (is_result<inner>) {
      auto got = operand_.take();
      if (deadline_.passed() && got.error() == errc::operation_canceled) return timed_out();
      return got;
    } else if constexpr (std::is_void_v<inner>) {
      operand_.take();
      // A task without an answer cannot say whether it was complete.
      if (deadline_.passed()) return timed_out();
      return {};
    } else {
      return operand_.take();
    }
  }

 private:
  static failure timed_out() noexcept { return failure(errc::timed_out, "with_timeout"); }
  static std::coroutine_handle<> ended(waiter* self) noexcept {
    auto& me = *static_cast<timeout_op*>(self);
    me.deadline_.end();
    return me.up_->next(me.up_);
  }

  detail::deadline deadline_;
  A operand_;
  waiter* up_ = nullptr;
};

// Awaits `operand`; when `d` passes first, stops it and awaits its end. An answer that is complete beats the
// deadline.
//
// Gives result<T> for what gives T or result<T>, result<void> for task<>.
// Errors:    timed_out when our deadline ended it; operation_canceled when a stop from outside did; the
//            operand's own.
// Cancelled: as the operand.
template <class Rep, class Period, awaitable A>
requires(!std::is_lvalue_reference_v<A>)
    [[nodiscard]] timeout_op<A> with_timeout(std::chrono::duration<Rep, Period> d, A&& operand) noexcept {
  return timeout_op<A>(delay_ns(d), std::move(operand));
}

}  // namespace keel
