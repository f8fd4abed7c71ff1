#include <keel/runtime/sleep.hpp>

namespace keel {

sleep_op::sleep_op(std::uint64_t time_ns, bool relative) noexcept
    : timer(&fired), stop_callback(&sleep_op::stopped), runnable([](runnable& self) noexcept {
        auto& me = static_cast<sleep_op&>(self);
        me.home_->resume(*me.up_);
      }),
      time_ns_(time_ns),
      relative_(relative) {}

sleep_op::sleep_op(sleep_op&& other) noexcept
    : timer(std::move(static_cast<timer&>(other))),
      stop_callback(other),
      runnable(other),
      time_ns_(other.time_ns_),
      relative_(other.relative_) {
  KEEL_ASSERT(other.up_ == nullptr, "a sleep that has started was moved");
}

std::coroutine_handle<> sleep_op::start(waiter& up, stop_context& context) noexcept {
  KEEL_ASSERT(up_ == nullptr, "a sleep is awaited once");
  if (context.stopped()) {
    canceled_ = true;
    return up.next(&up);
  }
  up_ = &up;
  home_ = &context.home();
  context.add(*this);
  if (relative_) {
    home_->queue().arm_after(*this, time_ns_);
  } else {
    home_->queue().arm_at(*this, time_ns_);
  }
  return std::noop_coroutine();
}

void sleep_op::fired(kevent_sys::operation& self, kevent_sys::answer) noexcept {
  auto& me = static_cast<sleep_op&>(self);
  static_cast<stop_callback&>(me).unlink();
  me.home_->resume(*me.up_);
}

void sleep_op::stopped(stop_callback& self, stop_level) noexcept {
  auto& me = static_cast<sleep_op&>(self);
  me.canceled_ = true;
  me.home_->queue().disarm(me);
  me.home_->make_ready(me);
}

result<void> sleep_op::take() noexcept {
  if (canceled_) return failure(errc::operation_canceled, "sleep");
  return {};
}

}  // namespace keel
