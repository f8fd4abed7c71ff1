// Private to kevent_sys: kevent_timer_create and its kin.
#pragma once

#include <keel/base/unique_fd.hpp>

#include "shared_queue.hpp"

#include <ctime>

namespace keel::kevent_sys {

// A timer on a clock of the caller's choice. The kernel keeps it (a timerfd), for only the kernel hears when
// somebody sets that clock.
class posix_timer final : public registration {
 public:
  posix_timer(shared_queue& home, int id, int clock_id, void* cookie) noexcept;

  int open() noexcept override;
  void start() noexcept override { home().submit(poll_); }
  void stop() noexcept override;
  bool busy() const noexcept override { return poll_.in_flight(); }
  void delivered(ukevent& out) noexcept override;

  // 0 or -errno.
  int set(int flags, const itimerspec& value) noexcept;

 private:
  struct polling : operation {
    explicit polling(posix_timer& of) noexcept;
    posix_timer& owner;
  };

  static void answered(operation& self, answer a) noexcept;
  void look() noexcept;

  unique_fd timer_;
  polling poll_;
  const int clock_id_;
  std::uint64_t expiries_ = 0;  // since the last delivery
  bool ended_ = false;
};

// Which queue has the timer of an id.
namespace timer_table {

// A new id > 0 of a timer on the queue `kevent_fd`, or -ENOMEM.
int add(int kevent_fd) noexcept;
// The queue's descriptor, or -EINVAL.
int queue_of(int id) noexcept;
void remove(int id) noexcept;

}  // namespace timer_table

}  // namespace keel::kevent_sys
