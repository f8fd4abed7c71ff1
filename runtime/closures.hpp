// Callables that functions keep while their caller is suspended.
#pragma once

#include <type_traits>

namespace keel::detail {

// g++ before 13 destroys a temporary closure that has a destructor twice when it stands in an expression with
// co_await. Functions whose result is awaited take callables of this concept: such a closure is given a name
// first.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
template <class Fn>
concept safe_in_await =
    std::is_lvalue_reference_v<Fn> || std::is_trivially_destructible_v<std::remove_cvref_t<Fn>>;
#else
template <class Fn>
concept safe_in_await = true;
#endif

}  // namespace keel::detail

#define KEEL_CHECK_CLOSURE(Fn)                                                                               \
  static_assert(::keel::detail::safe_in_await<Fn>,                                                           \
                "g++ 12 destroys this temporary closure twice: give it a name, and pass the name")
