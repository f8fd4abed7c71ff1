#include <keel/runtime/interval.hpp>

#include <keel/runtime/spawn.hpp>

namespace keel {

void interval::reset() noexcept {
  reset_at(later(detail::current_scheduler().now(), period_ns_));
}

void interval::reset_at(time_point first) noexcept {
  begin_at(first);
  if (alarm_.armed()) alarm_.arm_at(first);
}

interval::next_op interval::next() noexcept {
  return next_op(*this);
}

interval_tick interval::advance(time_point now) noexcept {
  interval_tick tick{due_, 0};
  const std::uint64_t late_ns = now > due_ ? now.since_boot_ns() - due_.since_boot_ns() : 0;
  const std::uint64_t missed = late_ns / period_ns_;
  if (policy_ == missed_tick::burst || missed == 0) {
    due_ = later(due_, period_ns_);
    return tick;
  }
  tick.missed = missed;
  due_ = later(policy_ == missed_tick::delay ? now : later(due_, missed * period_ns_), period_ns_);
  return tick;
}

std::coroutine_handle<> interval::next_op::start(waiter& up, stop_context& context) noexcept {
  home_ = &context.home();
  if (!of_.started_) of_.begin_at(later(home_->now(), of_.period_ns_));
  if (!context.stopped()) of_.alarm_.arm_at(of_.due_);
  return wait_op::start(up, context);
}

result<interval_tick> interval::next_op::take() noexcept {
  if (!wait_op::take()) {
    of_.alarm_.cancel();
    return failure(errc::operation_canceled, "wait for a tick");
  }
  return of_.advance(home_->now());
}

}  // namespace keel
