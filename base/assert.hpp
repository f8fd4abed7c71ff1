// KEEL_ASSERT: the caller's bug, found at once. Always on, in every build.
#pragma once

namespace keel::detail {

// Prints `file:line: function: expression: why` to stderr and aborts.
[[noreturn]] void assertion_failed(const char* expression, const char* why, const char* file, unsigned line,
                                   const char* function) noexcept;

}  // namespace keel::detail

// KEEL_ASSERT(condition) or KEEL_ASSERT(condition, "what the caller should have done").
#define KEEL_ASSERT(condition, ...)                                                                         \
  (__builtin_expect(static_cast<bool>(condition), 1)                                                        \
       ? static_cast<void>(0)                                                                               \
       : ::keel::detail::assertion_failed(#condition, "" __VA_ARGS__, __FILE__, __LINE__, __func__))
