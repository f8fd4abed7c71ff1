// Private to kevent_sys: until when a wait call waits.
#pragma once

#include <cstdint>
#include <ctime>

namespace keel::kevent_sys {

// The end of one wait. A value. It is a point in time from the start, so that what interrupts the wait does
// not make it longer.
class time_limit {
 public:
  // -1 seconds = never; with `absolute`, `text` is a point of CLOCK_REALTIME. False: it says no time.
  static bool parse(const timespec& text, bool absolute, time_limit& limit) noexcept;

  // Zero seconds: the wait call only looks.
  bool at_once() const noexcept { return kind_ == kind::at_once; }
  // Whether it has come.
  bool passed() const noexcept;
  // When to look at the clock again, on CLOCK_MONOTONIC: at the limit, or before it where somebody may set
  // the clock. kevent_sys::never when there is none.
  std::uint64_t next_look_ns() const noexcept;

 private:
  enum class kind : std::uint8_t { at_once, monotonic, realtime, endless };

  kind kind_ = kind::at_once;
  std::uint64_t at_ns_ = 0;
};

}  // namespace keel::kevent_sys
