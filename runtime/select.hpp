// The first of several exchanges that can be made: of a receive here, a receive there, and a send.
#pragma once

#include <keel/base/result.hpp>
#include <keel/runtime/choice.hpp>

#include <tuple>
#include <variant>

namespace keel {

// What select can choose from: `attempt` takes effect now if that needs no waiting, and says whether it did;
// `enlist` waits as one place of a choice, and says which; nothing has happened to one that is not chosen.
// `draw` gives a number for a fair start.
template <class A>
concept selectable = awaitable<A> && requires(A& a, choice& in) {
  { a.attempt() }
  noexcept->std::same_as<bool>;
  { a.enlist(in) }
  noexcept->std::same_as<const choice_place&>;
  { a.draw() }
  noexcept->std::same_as<std::uint32_t>;
};

// What select returns.
template <selectable... As>
class select_op {
 public:
  using result_type = result<std::variant<await_result<As>...>>;

  explicit select_op(As&&... operands) noexcept : operands_(std::move(operands)...) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    KEEL_ASSERT(!choice_.begun(), "a select is awaited once");
    if (context.stopped()) return choice_.give_up(up, context);
    // Somebody who is always ready does not keep the others from being chosen.
    const std::size_t first = std::get<0>(operands_).draw() % count;
    if (attempt_from(first, std::index_sequence_for<As...>())) return choice_.go_on(up, context);
    choice_.begin(up, context, "select");
    enlist(std::index_sequence_for<As...>());
    return std::noop_coroutine();
  }

  // Throws what the chosen one throws.
  result_type take() {
    if (choice_.settled() != nullptr)
      for (std::size_t i = 0; i < count; ++i)
        if (places_[i] == choice_.settled()) chosen_ = i;
    if (chosen_ == count) return failure(errc::operation_canceled, "select");
    return take_chosen<0>();
  }

 private:
  static constexpr std::size_t count = sizeof...(As);

  template <std::size_t... I>
  bool attempt_from(std::size_t first, std::index_sequence<I...>) noexcept {
    auto attempt = [this](std::size_t begin, std::size_t end) noexcept {
      return ((I >= begin && I < end && std::get<I>(operands_).attempt() && (chosen_ = I, true)) || ...);
    };
    return attempt(first, count) || attempt(0, first);
  }
  template <std::size_t... I>
  void enlist(std::index_sequence<I...>) noexcept {
    ((places_[I] = &std::get<I>(operands_).enlist(choice_)), ...);
  }
  template <std::size_t I>
  result_type take_chosen() {
    if constexpr (I + 1 < count)
      if (chosen_ != I) return take_chosen<I + 1>();
    using variant = typename result_type::value_type;
    return variant(std::in_place_index<I>, std::get<I>(operands_).take());
  }

  choice choice_;
  std::tuple<As...> operands_;
  const choice_place* places_[count] = {};
  std::size_t chosen_ = count;
};

// Makes exactly one of several exchanges, the first that can be made; of those that can be made at once, a
// random one. Unlike with when_any, nothing happens to the others: no value is taken, none is sent.
//
//     auto got = co_await select(orders.receive(), log.send(std::move(line)));
//     if (!got) co_return;                                  // stopped
//     if (got->index() == 0) serve(std::get<0>(*got));      // a result<order>
//
// Gives a variant of what the operands give: index() says which one was made. An exchange with a channel that
// is closed can be made: it gives end_of_stream, or closed, in its place.
// Errors:    operation_canceled: none was made.
// Cancelled: none is made; one that had already been made is delivered.
// Lifetime:  the values to send and the channels must live until the co_await returns.
// Threads:   the scheduler of the channels.
template <selectable... As>
requires(sizeof...(As) > 0 && (!std::is_lvalue_reference_v<As> && ...))
    [[nodiscard]] select_op<As...> select(As&&... operands) noexcept {
  return select_op<As...>(std::move(operands)...);
}

}  // namespace keel
