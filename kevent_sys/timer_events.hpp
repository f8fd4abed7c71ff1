// Private to kevent_sys: KEVENT_TIMER.
#pragma once

#include "shared_queue.hpp"

namespace keel::kevent_sys {

// Expires each period from its ADD on, without drift; expiries that nobody has collected are one event.
class timer_event final : public registration, private queue_timer {
 public:
  using registration::registration;

  int open() noexcept override;
  void start() noexcept override;
  void stop() noexcept override;

 private:
  void expired(std::uint64_t now_ns) noexcept override;

  std::uint64_t period_ns_ = 0;
};

}  // namespace keel::kevent_sys
