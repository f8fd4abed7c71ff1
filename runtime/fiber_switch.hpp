// Private to runtime: from one stack to another and back. The only place that knows Boost.Context.
#pragma once

#include <keel/base/address_sanitizer.hpp>
#include <keel/runtime/fiber_stack.hpp>

#include <boost/context/detail/fcontext.hpp>
#include <cstddef>
#include <cstring>

#if defined(__SANITIZE_THREAD__)
#define KEEL_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KEEL_THREAD_SANITIZER 1
#endif
#endif
#if !defined(KEEL_THREAD_SANITIZER)
#define KEEL_THREAD_SANITIZER 0
#endif

#if KEEL_ADDRESS_SANITIZER
// From <sanitizer/common_interface_defs.h>.
extern "C" void __sanitizer_start_switch_fiber(void** fake_stack, const void* low, std::size_t bytes);
extern "C" void __sanitizer_finish_switch_fiber(void* fake_stack, const void** old_low,
                                                std::size_t* old_bytes);
#endif
#if KEEL_THREAD_SANITIZER
// From <sanitizer/tsan_interface.h>.
extern "C" void* __tsan_get_current_fiber();
extern "C" void* __tsan_create_fiber(unsigned flags);
extern "C" void __tsan_destroy_fiber(void* fiber);
extern "C" void __tsan_switch_to_fiber(void* fiber, unsigned flags);
#endif

namespace keel::detail {

// What the C++ runtime knows of this thread's exceptions (the layout is that of the Itanium ABI). It belongs
// to a stack: a fiber may wait in a catch block, or in a destructor that an exception runs.
struct exception_state {
  void* caught = nullptr;
  unsigned uncaught = 0;
};

// A function on a stack of its own, and who called it.
//
// Every return after a switch is mispredicted, on both sides: so enter() and leave() are inlined.
//
// Life cycle: prepare() -> enter(), which returns when the function calls leave() or finish() -> ... ->
// finish(). INVARIANT: entered and left on the thread that prepared it.
class fiber_switch {
 public:
  using function = void (*)(void* argument) noexcept;

  fiber_switch() noexcept = default;
  fiber_switch(const fiber_switch&) = delete;
  fiber_switch& operator=(const fiber_switch&) = delete;
  ~fiber_switch();

  // `run` has to end with finish().
  void prepare(fiber_stack& stack, function run, void* argument) noexcept;
  [[gnu::always_inline]] void enter() noexcept;
  [[gnu::always_inline]] void leave() noexcept;
  [[noreturn]] void finish() noexcept;

 private:
  // On the fiber's stack.
  static void begin(boost::context::detail::transfer_t from) noexcept;

  void swap_exceptions() noexcept {
    exception_state now;
    std::memcpy(&now, exceptions_of_thread_, sizeof now);
    std::memcpy(exceptions_of_thread_, &exceptions_, sizeof now);
    exceptions_ = now;
  }

  // The sanitizers are told just before a switch where it goes, and just behind it that it is done. Of a
  // fiber that never comes back, the address sanitizer lets its own second stack go. The thread sanitizer
  // counts the functions on each stack: it has to hear of the switch in the function that switches.
  [[gnu::always_inline]] static void start_switch([[maybe_unused]] void** keep_fake_stack,
                                                  [[maybe_unused]] const void* low,
                                                  [[maybe_unused]] std::size_t bytes,
                                                  [[maybe_unused]] void* to) noexcept {
#if KEEL_ADDRESS_SANITIZER
    __sanitizer_start_switch_fiber(keep_fake_stack, low, bytes);
#endif
#if KEEL_THREAD_SANITIZER
    __tsan_switch_to_fiber(to, 0);
#endif
  }
  [[gnu::always_inline]] static void finish_switch([[maybe_unused]] void* fake_stack,
                                                   [[maybe_unused]] const void** old_low,
                                                   [[maybe_unused]] std::size_t* old_bytes) noexcept {
#if KEEL_ADDRESS_SANITIZER
    __sanitizer_finish_switch_fiber(fake_stack, old_low, old_bytes);
#endif
  }

  void* other_side_ = nullptr;  // where enter() or leave() goes to
  void* exceptions_of_thread_ = nullptr;
  exception_state exceptions_;  // of whoever does not run
  fiber_stack* stack_ = nullptr;
  function run_ = nullptr;
  void* argument_ = nullptr;
  // For the sanitizers: the stack from which it was entered.
  const void* outer_low_ = nullptr;
  std::size_t outer_bytes_ = 0;
  void* outer_fiber_ = nullptr;
  void* inner_fiber_ = nullptr;
  void* fake_stack_ = nullptr;
};

inline void fiber_switch::enter() noexcept {
  swap_exceptions();
#if KEEL_THREAD_SANITIZER
  outer_fiber_ = __tsan_get_current_fiber();
#endif
  void* my_fake_stack = nullptr;
  start_switch(&my_fake_stack, stack_->low(), stack_->size_bytes(), inner_fiber_);
  other_side_ = boost::context::detail::jump_fcontext(other_side_, this).fctx;
  finish_switch(my_fake_stack, nullptr, nullptr);
  swap_exceptions();
}

inline void fiber_switch::leave() noexcept {
  start_switch(&fake_stack_, outer_low_, outer_bytes_, outer_fiber_);
  other_side_ = boost::context::detail::jump_fcontext(other_side_, nullptr).fctx;
  finish_switch(fake_stack_, &outer_low_, &outer_bytes_);
}

}  // namespace keel::detail
