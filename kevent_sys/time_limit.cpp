#include "time_limit.hpp"

#include <keel/kevent_sys/engine.hpp>

#include <algorithm>

namespace keel::kevent_sys {
namespace {

constexpr std::uint64_t second_ns = 1'000'000'000;

std::uint64_t saturating_add(std::uint64_t a, std::uint64_t b) noexcept {
  return a > never - b ? never : a + b;
}

std::uint64_t nanoseconds(const timespec& t) noexcept {
  const auto seconds = static_cast<std::uint64_t>(t.tv_sec);
  if (seconds > never / second_ns) return never;
  return saturating_add(seconds * second_ns, static_cast<std::uint64_t>(t.tv_nsec));
}

std::uint64_t read_clock(clockid_t clock) noexcept {
  timespec now{};
  ::clock_gettime(clock, &now);
  return nanoseconds(now);
}

}  // namespace

bool time_limit::parse(const timespec& text, bool absolute, time_limit& limit) noexcept {
  if (text.tv_sec == -1) {
    limit.kind_ = kind::endless;
    return true;
  }
  if (text.tv_sec < 0 || text.tv_nsec < 0 || text.tv_nsec >= static_cast<long>(second_ns)) return false;
  const std::uint64_t ns = nanoseconds(text);
  if (absolute) {
    limit.kind_ = kind::realtime;
    limit.at_ns_ = ns;
  } else if (ns != 0) {
    limit.at_ns_ = saturating_add(read_clock(CLOCK_MONOTONIC), ns);
    limit.kind_ = limit.at_ns_ == never ? kind::endless : kind::monotonic;
  }
  return true;
}

bool time_limit::passed() const noexcept {
  switch (kind_) {
    case kind::at_once: return true;
    case kind::monotonic: return read_clock(CLOCK_MONOTONIC) >= at_ns_;
    case kind::realtime: return read_clock(CLOCK_REALTIME) >= at_ns_;
    case kind::endless: break;
  }
  return false;
}

std::uint64_t time_limit::next_look_ns() const noexcept {
  if (kind_ != kind::realtime) return kind_ == kind::endless ? never : at_ns_;
  const std::uint64_t now = read_clock(CLOCK_REALTIME);
  const std::uint64_t left = at_ns_ > now ? at_ns_ - now : 0;
  return saturating_add(read_clock(CLOCK_MONOTONIC), std::min(left, second_ns));
}

}  // namespace keel::kevent_sys
