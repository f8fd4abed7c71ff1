// What can be awaited: the protocol that tasks, operations and combinators share.
#pragma once

#include <keel/runtime/resume.hpp>
#include <keel/runtime/stop_context.hpp>

#include <concepts>
#include <type_traits>

namespace keel {

// A coroutine that keel runs knows the context in which it awaits.
template <class Promise>
concept has_stop_context = requires(Promise& promise) {
  { promise.context() } -> std::convertible_to<stop_context&>;
};

// `start` begins, and says which coroutine runs now: one of its own, none while it waits, or what `up.next`
// says when it has ended already. Once ended, `take` gives what co_await yields. An awaitable that has not
// started may be moved.
template <class A>
concept awaitable = std::move_constructible<A> && requires(A& a, waiter& up, stop_context& context) {
  { a.start(up, context) }
  noexcept->std::same_as<std::coroutine_handle<>>;
  a.take();
};

// What co_await of `A` yields.
template <class A>
using await_result = decltype(std::declval<A&>().take());

namespace detail {

// What a co_await of `A` leaves in the frame besides the operand: a reference, so that g++ 12, which moves
// the operand of co_await into a second place, moves only this.
template <awaitable A>
class awaiting {
 public:
  explicit awaiting(A& operand) noexcept : operand_(operand) {}

  bool await_ready() const noexcept { return false; }

  template <has_stop_context Promise>
  KEEL_TRANSFERS transfer_result await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
    up_.coroutine = coroutine;
    return transfer(operand_.start(up_, coroutine.promise().context()));
  }

  decltype(auto) await_resume() { return operand_.take(); }

 private:
  A& operand_;
  resume_waiter up_;
};

}  // namespace detail
}  // namespace keel
