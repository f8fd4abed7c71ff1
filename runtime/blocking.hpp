// Code that blocks, on a thread where it may.
#pragma once

#include <keel/base/error.hpp>
#include <keel/base/result.hpp>
#include <keel/runtime/closures.hpp>
#include <keel/runtime/operation_awaiter.hpp>
#include <keel/runtime/result_slot.hpp>

#include <concepts>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace keel {

// The pool on which blocking() runs, as runtime::blocking_counters() gives it. A value.
struct blocking_counters {
  std::uint32_t threads = 0;  // alive; they end when they have had nothing to do for 10 s
  std::uint32_t idle = 0;     // of these
  std::uint32_t waiting = 0;  // calls that wait for a thread
  std::uint32_t running = 0;  // calls
  std::uint64_t done = 0;     // calls, since the start
  std::uint64_t refused = 0;  // calls that found the queue full, or no thread to be had
};

namespace detail {

// What does not depend on the function.
class blocking_base : public operation_awaiter {
 public:
  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;

 protected:
  using function = std::int32_t (*)(void* self) noexcept;
  explicit blocking_base(function run) noexcept;

  // Why it was not run. REQUIRES: it was not
  failure why_not() const noexcept;
  [[noreturn]] void throw_why_not() const;

 private:
  kevent_sys::blocking_call call_;
};

}  // namespace detail

// What blocking() returns. `Fn` is a reference for a callable that has a name.
template <class Fn>
class blocking_op : public detail::blocking_base {
  using returned = std::invoke_result_t<Fn&>;
  static_assert(!std::is_reference_v<returned>, "a function for blocking() returns by value");

 public:
  explicit blocking_op(Fn&& fn) : blocking_base(&run), fn_(std::forward<Fn>(fn)) {
    // Who cannot say "cancelled" is run whatever happens.
    if constexpr (!is_result<returned>) never_stop();
  }
  blocking_op(blocking_op&& other) noexcept(std::is_nothrow_constructible_v<Fn, Fn&&>)
      : blocking_base(std::move(other)), fn_(std::forward<Fn>(other.fn_)) {}

  returned take() {
    if (!slot_.empty()) return slot_.take();
    if constexpr (is_result<returned>) {
      return why_not();
    } else {
      throw_why_not();
    }
  }

 private:
  // On a thread of the pool.
  static std::int32_t run(void* self) noexcept {
    auto& me = *static_cast<blocking_op*>(static_cast<blocking_base*>(self));
    try {
      if constexpr (std::is_void_v<returned>) {
        static_cast<void>(me.fn_());
        me.slot_.emplace();
      } else {
        me.slot_.emplace(me.fn_());
      }
    } catch (...) {
      me.slot_.fail(std::current_exception());
    }
    return 0;
  }

  Fn fn_;
  result_slot<returned> slot_;
};

// Runs `fn()` on a thread of the runtime's pool, where it may block or compute for long, and gives what it
// returns, or throws what it throws. `fn` must not touch what belongs to the scheduler.
//
// The pool starts a thread when a call finds none idle, up to runtime_options::blocking_threads_max; further
// calls wait in line, up to blocking_calls_max. Its threads take no signals and are not pinned.
//
// Errors:    when the line is full, or there is no thread: resource_unavailable_try_again, as the error of a
//            `fn` that gives result<U>, else thrown as std::system_error.
// Cancelled: a call that has begun is awaited to its end, and its result counts. One that has not is taken
//            back when `fn` gives result<U>: operation_canceled; any other is run whatever happens, as it
//            could not say that it was not.
// Lifetime:  a callable that has a name is not copied: it, and what `fn` refers to, must live until the
//            co_await returns.
// Threads:   a scheduler's.
template <class Fn>
requires std::invocable < std::remove_reference_t<Fn>
& > [[nodiscard]] blocking_op<Fn> blocking(Fn&& fn) {
  KEEL_CHECK_CLOSURE(Fn);
  return blocking_op<Fn>(std::forward<Fn>(fn));
}

}  // namespace keel
