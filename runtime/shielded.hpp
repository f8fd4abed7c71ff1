// Sections that a stop does not reach: cleaning up.
#pragma once

#include <keel/runtime/with_timeout.hpp>

namespace keel {

// What shielded() returns.
template <awaitable A>
class shielded_op : private waiter {
 public:
  explicit shielded_op(A&& operand) noexcept : waiter(&ended), operand_(std::move(operand)) {}
  shielded_op(shielded_op&& other) noexcept : waiter(&ended), operand_(std::move(other.operand_)) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    KEEL_ASSERT(up_ == nullptr, "a shielded section is awaited once");
    up_ = &up;
    context_.attach_shielded(context);
    return operand_.start(*this, context_);
  }
  decltype(auto) take() { return operand_.take(); }

 private:
  static std::coroutine_handle<> ended(waiter* self) noexcept {
    auto& me = *static_cast<shielded_op*>(self);
    return me.up_->next(me.up_);
  }

  stop_context context_;
  A operand_;
  waiter* up_ = nullptr;
};

// Awaits `operand`, which hears of no stop and of no deadline outside; whoever awaits hears of them at his
// next wait. Also in a task that was stopped already: for what must be said or undone before the end.
//
//     co_await shielded(2s, peer.send_all(goodbye));
//
// Errors:    those of the operand.
// Cancelled: never. The task, and its runtime, end no sooner than the operand does: give it a time.
template <awaitable A>
requires(!std::is_lvalue_reference_v<A>) [[nodiscard]] shielded_op<A> shielded(A&& operand) noexcept {
  return shielded_op<A>(std::move(operand));
}

// The same for `d` at most: see with_timeout.
//
// Errors:    timed_out; those of the operand.
// Cancelled: when `d` has passed, and then it says timed_out.
template <class Rep, class Period, awaitable A>
requires(!std::is_lvalue_reference_v<A>)
    [[nodiscard]] shielded_op<timeout_op<A>> shielded(std::chrono::duration<Rep, Period> d,
                                                      A&& operand) noexcept {
  return shielded_op<timeout_op<A>>(with_timeout(d, std::move(operand)));
}

}  // namespace keel
