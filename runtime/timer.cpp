#include <keel/runtime/timer.hpp>

#include <keel/runtime/spawn.hpp>

namespace keel {

timer::~timer() {
  KEEL_ASSERT(waiting_ == nullptr, "a timer was destroyed while somebody waits for it");
  if (in_flight()) home_->queue().disarm(*this);
}

scheduler& timer::belong_to(scheduler& home) noexcept {
  if (home_ == nullptr) home_ = &home;
  KEEL_ASSERT(home_ == &home, "a timer is used on one scheduler");
  return home;
}

void timer::arm_at(time_point when) noexcept {
  belong_to(detail::current_scheduler());
  arm(when);
}

void timer::arm_after_ns(std::uint64_t delay_ns) noexcept {
  scheduler& home = belong_to(detail::current_scheduler());
  arm(later(time_point(home.queue().fresh_now_ns()), delay_ns));
}

void timer::arm(time_point when) noexcept {
  deadline_ = when;
  armed_ = true;
  expired_ = false;
  if (in_flight()) {
    // It wakes early, and looks at the deadline again: cheaper than to move it each time.
    if (wakes_at_ <= when) return;
    home_->queue().disarm(*this);
  }
  wakes_at_ = when;
  home_->queue().arm_at(*this, when.since_boot_ns());
}

void timer::fired(kevent_sys::operation& self, kevent_sys::answer) noexcept {
  auto& me = static_cast<timer&>(self);
  if (me.deadline_ > me.home_->now()) {
    me.wakes_at_ = me.deadline_;
    me.home_->queue().arm_at(me, me.deadline_.since_boot_ns());
    return;
  }
  me.armed_ = false;
  if (me.waiting_ == nullptr) {
    me.expired_ = true;
    return;
  }
  wait_op& waits = *me.waiting_;
  waits.leave();
  waits.resume();
}

bool timer::cancel() noexcept {
  const bool would_have = armed_;
  armed_ = false;
  expired_ = false;
  if (in_flight()) home_->queue().disarm(*this);
  if (waiting_ != nullptr) {
    wait_op& waits = *waiting_;
    waits.leave();
    waits.canceled_ = true;
    waits.wake();
  }
  return would_have;
}

timer::wait_op timer::wait() noexcept {
  return wait_op(*this);
}

std::coroutine_handle<> timer::wait_op::start(waiter& up, stop_context& context) noexcept {
  KEEL_ASSERT(!begun(), "a wait for a timer is awaited once");
  KEEL_ASSERT(of_.waiting_ == nullptr, "a timer wakes one: somebody else waits for it");
  of_.belong_to(context.home());
  if (context.stopped()) {
    canceled_ = true;
    return give_up(up, context);
  }
  if (of_.expired_) {
    of_.expired_ = false;
    return go_on(up, context);
  }
  begin(up, context, "a timer");
  context.add(*this);
  of_.waiting_ = this;
  return std::noop_coroutine();
}

void timer::wait_op::leave() noexcept {
  static_cast<stop_callback&>(*this).unlink();
  of_.waiting_ = nullptr;
}

void timer::wait_op::stopped(stop_callback& self, stop_level) noexcept {
  auto& me = static_cast<wait_op&>(self);
  me.leave();
  me.canceled_ = true;
  me.wake();
}

result<void> timer::wait_op::take() noexcept {
  if (canceled_) return failure(errc::operation_canceled, "wait for a timer");
  return {};
}

}  // namespace keel
