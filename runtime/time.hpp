// Durations and points in time, as the runtime counts them: whole nanoseconds of the monotonic clock.
#pragma once

#include <keel/base/chrono.hpp>

#include <compare>
#include <cstdint>

namespace keel {

using duration = std::chrono::nanoseconds;

// A moment of CLOCK_MONOTONIC (of the simulated clock in tests): it does not run during a suspend and does
// not jump. A value. Arithmetic saturates: what is beyond some 292 years never comes, and is no longer away
// than a duration can say.
class time_point {
 public:
  constexpr time_point() noexcept = default;
  explicit constexpr time_point(std::uint64_t since_boot_ns) noexcept : ns_(since_boot_ns) {}

  static constexpr time_point never() noexcept { return time_point(~std::uint64_t{0}); }
  constexpr std::uint64_t since_boot_ns() const noexcept { return ns_; }

  friend constexpr auto operator<=>(time_point, time_point) noexcept = default;
  friend constexpr time_point operator+(time_point at, duration d) noexcept {
    const std::int64_t n = d.count();
    if (n < 0) {
      const std::uint64_t back = ~static_cast<std::uint64_t>(n) + 1;
      return time_point(back > at.ns_ ? 0 : at.ns_ - back);
    }
    const auto ahead = static_cast<std::uint64_t>(n);
    return ahead > ~std::uint64_t{0} - at.ns_ ? never() : time_point(at.ns_ + ahead);
  }
  friend constexpr duration operator-(time_point a, time_point b) noexcept {
    constexpr auto most = static_cast<std::uint64_t>(duration::max().count());
    if (a < b) return -(b - a);
    return duration(static_cast<std::int64_t>(a.ns_ - b.ns_ < most ? a.ns_ - b.ns_ : most));
  }

 private:
  std::uint64_t ns_ = 0;
};

// `delay_ns` after `at`; never() when that cannot be said.
constexpr time_point later(time_point at, std::uint64_t delay_ns) noexcept {
  const std::uint64_t from = at.since_boot_ns();
  return delay_ns > ~from ? time_point::never() : time_point(from + delay_ns);
}

// Any std::chrono duration as a delay in nanoseconds: what is negative is 0, what is too long for 64 bits is
// for ever.
template <class Rep, class Period>
constexpr std::uint64_t delay_ns(std::chrono::duration<Rep, Period> d) noexcept {
  using longest = std::chrono::duration<long double, std::nano>;
  if (d <= std::chrono::duration<Rep, Period>::zero()) return 0;
  if (std::chrono::duration_cast<longest>(d) >= longest(9.2e18L)) return ~std::uint64_t{0};
  return static_cast<std::uint64_t>(std::chrono::duration_cast<duration>(d).count());
}

}  // namespace keel
