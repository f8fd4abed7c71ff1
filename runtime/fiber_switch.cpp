#include "fiber_switch.hpp"

#include <cxxabi.h>
#include <exception>

namespace keel::detail {

fiber_switch::~fiber_switch() {
#if KEEL_THREAD_SANITIZER
  if (inner_fiber_ != nullptr) __tsan_destroy_fiber(inner_fiber_);
#endif
}

void fiber_switch::prepare(fiber_stack& stack, function run, void* argument) noexcept {
  run_ = run;
  argument_ = argument;
  stack_ = &stack;
  exceptions_of_thread_ = abi::__cxa_get_globals();
  other_side_ = boost::context::detail::make_fcontext(stack.top(), stack.size_bytes(), &begin);
#if KEEL_THREAD_SANITIZER
  inner_fiber_ = __tsan_create_fiber(0);
#endif
}

void fiber_switch::begin(boost::context::detail::transfer_t from) noexcept {
  auto& me = *static_cast<fiber_switch*>(from.data);
  me.other_side_ = from.fctx;
  finish_switch(nullptr, &me.outer_low_, &me.outer_bytes_);
  me.run_(me.argument_);
  // Not reached: run_ ends with finish().
  std::terminate();
}

void fiber_switch::finish() noexcept {
  start_switch(nullptr, outer_low_, outer_bytes_, outer_fiber_);
  boost::context::detail::jump_fcontext(other_side_, nullptr);
  std::terminate();
}

}  // namespace keel::detail
