// co_await or_return(awaitable): the value, or this coroutine ends with the error.
#pragma once

#include <type_traits>
#include <utility>

namespace keel {

template <class Awaitable>
struct or_return_request {
  explicit or_return_request(Awaitable operand) noexcept(std::is_nothrow_move_constructible_v<Awaitable>)
      : awaitable(std::move(operand)) {}
  Awaitable awaitable;
};

// For `awaitable` that gives result<T>, inside a coroutine that returns task<result<U>>: yields T, or ends
// the coroutine with the error as `co_return error` would: its locals are destroyed, then its awaiter goes
// on. Nothing is thrown.
template <class Awaitable>
[[nodiscard]] or_return_request<std::remove_cvref_t<Awaitable>> or_return(Awaitable&& awaitable) {
  static_assert(!std::is_lvalue_reference_v<Awaitable>, "give or_return the call itself, or std::move(task)");
  return or_return_request<std::remove_cvref_t<Awaitable>>(std::move(awaitable));
}

}  // namespace keel
