// Who waits, and how control goes from one coroutine to the next.
#pragma once

#include <coroutine>
#include <utility>

// g++ makes symmetric transfer a jump only when it optimises, and never under ASan or TSan: a loop of a
// million awaits would overflow the stack. Such builds bounce through a thread-local slot. The functions
// concerned carry a tag in their names, so that objects built both ways can be linked together.
#if defined(__GNUC__) && !defined(__clang__) &&                                                              \
    (!defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__))
#define KEEL_TRAMPOLINE 1
#define KEEL_TRANSFERS [[gnu::abi_tag("trampoline")]]
#else
#define KEEL_TRAMPOLINE 0
#define KEEL_TRANSFERS
#endif

namespace keel {

// Whoever is told that something awaited has ended: a task, a combinator, a fiber, a C callback. `next` says
// which coroutine runs now (std::noop_coroutine() for none); it is called exactly once per start().
struct waiter {
  using continuation = std::coroutine_handle<> (*)(waiter* self) noexcept;

  explicit waiter(continuation then) noexcept : next(then) {}

  continuation next;
};

// The waiter that is a suspended coroutine.
struct resume_waiter : waiter {
  resume_waiter() noexcept
      : waiter([](waiter* self) noexcept { return static_cast<resume_waiter*>(self)->coroutine; }) {}

  std::coroutine_handle<> coroutine;
};

namespace detail {

inline thread_local constinit void* next_coroutine = nullptr;

#if KEEL_TRAMPOLINE
using transfer_result = void;
KEEL_TRANSFERS inline void transfer(std::coroutine_handle<> to) noexcept {
  next_coroutine = to.address();
}
#else
using transfer_result = std::coroutine_handle<>;
inline std::coroutine_handle<> transfer(std::coroutine_handle<> to) noexcept {
  return to;
}
#endif

// Runs `coroutine` and whatever it hands control to, until all of it waits. From a scheduler's loop only.
inline void resume(std::coroutine_handle<> coroutine) {
  coroutine.resume();
  while (next_coroutine != nullptr) {
    std::coroutine_handle<>::from_address(std::exchange(next_coroutine, nullptr)).resume();
  }
}

// A suspended coroutine that is to end without waking up: `finish` ends it and says who waited for it.
struct early_end {
  waiter* (*finish)(void* who) noexcept = nullptr;
  void* who = nullptr;
};

inline thread_local constinit early_end* next_early_end = nullptr;

// Ends `now`, and whoever waits for it and ends for the same reason: one after the other, not inside one
// another. An error that passes through a hundred thousand callers needs no stack.
inline std::coroutine_handle<> end_early(early_end now) noexcept {
  if (next_early_end != nullptr) {
    *next_early_end = now;
    return std::noop_coroutine();
  }
  for (;;) {
    waiter* up = now.finish(now.who);
    early_end next;
    next_early_end = &next;
    const std::coroutine_handle<> then = up->next(up);
    next_early_end = nullptr;
    if (next.finish == nullptr) return then;
    now = next;
  }
}

}  // namespace detail
}  // namespace keel
