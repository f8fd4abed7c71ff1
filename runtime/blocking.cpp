#include <keel/runtime/blocking.hpp>

namespace keel::detail {

blocking_base::blocking_base(function run) noexcept : operation_awaiter({.code = kevent_sys::opcode::call}) {
  call_.function = run;
}

std::coroutine_handle<> blocking_base::start(waiter& up, stop_context& context) noexcept {
  // From here on it does not move.
  call_.context = this;
  asked().data = &call_;
  return operation_awaiter::start(up, context);
}

failure blocking_base::why_not() const noexcept {
  KEEL_ASSERT(value() < 0, "a blocking call ended without a result");
  return failure(kernel_error(value()), "run a blocking call");
}

void blocking_base::throw_why_not() const {
  const failure why = why_not();
  throw_error(why.code, why.doing);
}

}  // namespace keel::detail
