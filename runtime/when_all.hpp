// Several awaitables at once, and all of their results.
#pragma once

#include <keel/runtime/branch.hpp>

#include <tuple>

namespace keel {

// What when_all returns.
template <awaitable... As>
class when_all_op {
 public:
  when_all_op(detail::join_point::policy policy, As&&... operands) noexcept
      : policy_(policy), join_(policy), branches_(detail::branch<As>(std::move(operands))...) {}
  when_all_op(when_all_op&& other) noexcept
      : policy_(other.policy_), join_(policy_), branches_(std::move(other.branches_)) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    std::apply([this](auto&... branch) { this->list_branches(branch...); }, branches_);
    return join_.start(list_, sizeof...(As), up, context);
  }

  // Throws the exception of the first operand, in their order, that threw.
  std::tuple<value_or_monostate<await_result<As>>...> take() {
    return std::apply(
        [](auto&... branch) {
          // Braces: only they say in which order.
          return std::tuple<value_or_monostate<await_result<As>>...>{take_one(branch.slot)...};
        },
        branches_);
  }

 private:
  template <class... Branches>
  void list_branches(Branches&... branches) noexcept {
    std::size_t i = 0;
    ((list_[i++] = &branches), ...);
  }
  template <class T>
  static value_or_monostate<T> take_one(result_slot<T>& slot) {
    if constexpr (std::is_void_v<T>) {
      slot.take();
      return {};
    } else {
      return slot.take();
    }
  }

  detail::join_point::policy policy_;
  detail::join_point join_;
  std::tuple<detail::branch<As>...> branches_;
  detail::branch_base* list_[sizeof...(As)] = {};
};

struct cancel_on_failure_t {};
// The first operand that fails, by an exception or an error result, stops the others.
inline constexpr cancel_on_failure_t cancel_on_failure{};

// Runs all operands at once and gives one tuple of what they give (std::monostate for void) when all have
// ended. An operand that throws makes the co_await throw, after all have ended; error results are part of the
// tuple.
//
// Errors:    those of the operands, each in its place.
// Cancelled: the stop is passed on to every operand; their ends are awaited.
template <awaitable... As>
requires(sizeof...(As) > 0 && (!std::is_lvalue_reference_v<As> && ...))
    [[nodiscard]] when_all_op<As...> when_all(As&&... operands) noexcept {
  return {detail::join_point::policy::wait_for_all, std::move(operands)...};
}
template <awaitable... As>
requires(sizeof...(As) > 0 && (!std::is_lvalue_reference_v<As> && ...))
    [[nodiscard]] when_all_op<As...> when_all(cancel_on_failure_t, As&&... operands) noexcept {
  return {detail::join_point::policy::stop_on_failure, std::move(operands)...};
}

}  // namespace keel
