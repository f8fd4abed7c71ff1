#include "timer_events.hpp"

#include <cerrno>

namespace keel::kevent_sys {

int timer_event::open() noexcept {
  const std::uint32_t nanoseconds = asked_.id.raw[1];
  if (nanoseconds > 999'999'999) return -EINVAL;
  period_ns_ = std::uint64_t{asked_.id.raw[0]} * 1'000'000'000 + nanoseconds;
  return period_ns_ != 0 ? 0 : -EINVAL;
}

void timer_event::start() noexcept {
  home().arm(*this, home().now_ns() + period_ns_);
}

void timer_event::stop() noexcept {
  home().disarm(*this);
}

void timer_event::expired(std::uint64_t now_ns) noexcept {
  // The last of the expiries that have come by now.
  const std::uint64_t last_ns = deadline_ns() + (now_ns - deadline_ns()) / period_ns_ * period_ns_;
  home().set_ready(*this, verdict::done(static_cast<std::uint32_t>(last_ns / 1'000'000)));
  if (!one_shot()) home().arm(*this, last_ns + period_ns_);
}

}  // namespace keel::kevent_sys
