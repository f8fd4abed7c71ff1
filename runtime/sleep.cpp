#include <keel/runtime/sleep.hpp>

namespace keel {

sleep_op::sleep_op(std::uint64_t time_ns, bool relative) noexcept
    : timer(&fired), stop_callback(&sleep_op::stopped), time_ns_(time_ns), relative_(relative) {}

sleep_op::sleep_op(sleep_op&& other) noexcept
    : timer(std::move(static_cast<timer&>(other))),
      stop_callback(other),
      wait_point(other),
      time_ns_(other.time_ns_),
      relative_(other.relative_) {}

std::coroutine_handle<> sleep_op::start(waiter& up, stop_context& context) noexcept {
  KEEL_ASSERT(!begun(), "a sleep is awaited once");
  if (context.stopped()) {
    canceled_ = true;
    return give_up(up, context);
  }
  begin(up, context, "a time");
  context.add(*this);
  if (relative_) {
    home().queue().arm_after(*this, time_ns_);
  } else {
    home().queue().arm_at(*this, time_ns_);
  }
  return std::noop_coroutine();
}

void sleep_op::fired(kevent_sys::operation& self, kevent_sys::answer) noexcept {
  auto& me = static_cast<sleep_op&>(self);
  static_cast<stop_callback&>(me).unlink();
  me.resume();
}

void sleep_op::stopped(stop_callback& self, stop_level) noexcept {
  auto& me = static_cast<sleep_op&>(self);
  me.canceled_ = true;
  me.home().queue().disarm(me);
  me.wake();
}

result<void> sleep_op::take() noexcept {
  if (canceled_) return failure(errc::operation_canceled, "sleep");
  return {};
}

}  // namespace keel
