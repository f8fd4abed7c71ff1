// Waits for new work: they end as soon as somebody asks for a graceful stop.
#pragma once

#include <keel/runtime/awaitable.hpp>

namespace keel {
namespace detail {

// A context that turns a graceful stop outside into a hard one inside.
class eager_stop : private stop_callback {
 public:
  eager_stop() noexcept;
  eager_stop(eager_stop&&) noexcept : eager_stop() {}
  stop_context& begin(stop_context& outer) noexcept;
  void end() noexcept;

 private:
  stop_context context_;
};

}  // namespace detail

// What graceful() returns.
template <awaitable A>
class graceful_op : private waiter {
 public:
  explicit graceful_op(A&& operand) noexcept : waiter(&ended), operand_(std::move(operand)) {}
  graceful_op(graceful_op&& other) noexcept : waiter(&ended), operand_(std::move(other.operand_)) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    up_ = &up;
    return operand_.start(*this, stop_.begin(context));
  }
  decltype(auto) take() { return operand_.take(); }

 private:
  static std::coroutine_handle<> ended(waiter* self) noexcept {
    auto& me = *static_cast<graceful_op*>(self);
    me.stop_.end();
    return me.up_->next(me.up_);
  }

  detail::eager_stop stop_;
  A operand_;
  waiter* up_ = nullptr;
};

// Awaits `operand`, which is stopped at a graceful stop already: a server's wait for the next request, for
// example.
//
// Errors:    those of the operand; operation_canceled also at a graceful stop.
// Cancelled: as the operand.
template <awaitable A>
requires(!std::is_lvalue_reference_v<A>) [[nodiscard]] graceful_op<A> graceful(A&& operand) noexcept {
  return graceful_op<A>(std::move(operand));
}

}  // namespace keel
