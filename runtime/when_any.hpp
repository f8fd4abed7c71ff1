// Several awaitables at once, and the first that ends.
#pragma once

#include <keel/runtime/branch.hpp>

#include <optional>
#include <tuple>

namespace keel {

// Which operand ended first, and what each gave: losers, too, when they had something to give. An operand
// that threw has none.
template <class... Ts>
struct any_result {
  any_result() = default;

  std::size_t index = 0;
  std::tuple<std::optional<Ts>...> values;
};

// What when_any returns.
template <awaitable... As>
class when_any_op {
 public:
  using result_type = any_result<value_or_monostate<await_result<As>>...>;

  explicit when_any_op(As&&... operands) noexcept
      : join_(detail::join_point::policy::stop_on_success),
        branches_(detail::branch<As>(std::move(operands))...) {}
  when_any_op(when_any_op&& other) noexcept
      : join_(detail::join_point::policy::stop_on_success), branches_(std::move(other.branches_)) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    std::apply([this](auto&... branch) { this->list_branches(branch...); }, branches_);
    return join_.start(list_, sizeof...(As), up, context);
  }

  // Throws what the winner threw.
  result_type take() {
    result_type all;
    all.index = join_.decisive();
    collect(all, std::index_sequence_for<As...>());
    return all;
  }

 private:
  template <class... Branches>
  void list_branches(Branches&... branches) noexcept {
    std::size_t i = 0;
    ((list_[i++] = &branches), ...);
  }
  template <std::size_t... I>
  void collect(result_type& all, std::index_sequence<I...>) {
    (collect_one(all.index == I, std::get<I>(branches_).slot, std::get<I>(all.values)), ...);
  }
  template <class T, class Value>
  static void collect_one(bool winner, result_slot<T>& slot, std::optional<Value>& into) {
    if (slot.failed() && !winner) return;
    if constexpr (std::is_void_v<T>) {
      slot.take();
      into.emplace();
    } else {
      into.emplace(slot.take());
    }
  }

  detail::join_point join_;
  std::tuple<detail::branch<As>...> branches_;
  detail::branch_base* list_[sizeof...(As)] = {};
};

// Runs all operands at once; the first that ends, however it ends, stops the others, whose ends are awaited.
// Gives its index and what each gave: what a loser had already done is not lost.
//
// Errors:    those of the operands, each in its place; a loser's usually is operation_canceled.
// Cancelled: the stop is passed on to every operand; their ends are awaited.
template <awaitable... As>
requires(sizeof...(As) > 0 && (!std::is_lvalue_reference_v<As> && ...))
    [[nodiscard]] when_any_op<As...> when_any(As&&... operands) noexcept {
  return when_any_op<As...>(std::move(operands)...);
}

}  // namespace keel
