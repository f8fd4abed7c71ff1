#include "models/fiber.hpp"

#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#define KEEL_FIBERS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KEEL_FIBERS_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define KEEL_FIBERS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KEEL_FIBERS_TSAN 1
#endif
#endif

#ifdef KEEL_FIBERS_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef KEEL_FIBERS_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace keel::test {

fiber::fiber() noexcept {
#ifdef KEEL_FIBERS_TSAN
  shadow_ = __tsan_get_current_fiber();
#endif
}

fiber::fiber(function body, void* context)
    : stack_(new std::byte[stack_bytes]), body_(body), argument_(context) {
  bottom_ = stack_.get();
  size_ = stack_bytes;
  ::getcontext(&context_);
  context_.uc_stack.ss_sp = stack_.get();
  context_.uc_stack.ss_size = stack_bytes;
  // The only arguments that makecontext() can pass are ints.
  const auto address = reinterpret_cast<std::uintptr_t>(this);
  ::makecontext(&context_, reinterpret_cast<void (*)()>(&enter), 2, static_cast<unsigned>(address >> 32),
                static_cast<unsigned>(address));
#ifdef KEEL_FIBERS_TSAN
  shadow_ = __tsan_create_fiber(0);
#endif
}

fiber::~fiber() {
#ifdef KEEL_FIBERS_TSAN
  if (body_ != nullptr) __tsan_destroy_fiber(shadow_);
#endif
}

void fiber::enter(unsigned high, unsigned low) {
  auto& me = *reinterpret_cast<fiber*>(std::uintptr_t{high} << 32 | low);
#ifdef KEEL_FIBERS_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &me.came_from_->bottom_, &me.came_from_->size_);
#endif
  me.body_(me.argument_);
}

void fiber::switch_to(fiber& next) noexcept {
  next.came_from_ = this;
#ifdef KEEL_FIBERS_ASAN
  __sanitizer_start_switch_fiber(&shadow_, next.bottom_, next.size_);
#endif
#ifdef KEEL_FIBERS_TSAN
  __tsan_switch_to_fiber(next.shadow_, 0);
#endif
  ::swapcontext(&context_, &next.context_);
#ifdef KEEL_FIBERS_ASAN
  __sanitizer_finish_switch_fiber(shadow_, &came_from_->bottom_, &came_from_->size_);
#endif
}

}  // namespace keel::test
