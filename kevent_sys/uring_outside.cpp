// What uring_engine does only while a loop of somebody else's waits for it.

#include "uring_engine.hpp"

#include <sys/eventfd.h>
#include <unistd.h>
#include <cerrno>

namespace keel::kevent_sys {

// With DEFER_TASKRUN the ring's own descriptor ends no poll(2) that sleeps on it already: the completions are
// made only when the owner asks for them. An eventfd is told when there is something to ask for (Linux 6.1).
result<int> uring_engine::do_pollable() noexcept {
  KEEL_ASSERT(!options_.shared, "the descriptor of a shared engine is fd()");
  if (bell_) return bell_.get();
  unique_fd made(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!made) return failure(kernel_error(errno), "eventfd");
  int fd = made.get();
  const int refused = io_uring_register_eventfd(ring_.raw(), fd);
  if (refused < 0) return failure(kernel_error(refused), "io_uring_register");
  bell_ = std::move(made);
  bell_fd_.store(fd, std::memory_order_release);
  return fd;
}

// Any thread. The kernel does so, too; but what a write to an eventfd completes rings the next eventfd only
// after a grace period of RCU, which takes milliseconds.
void uring_engine::ring_bell() const noexcept {
  const int fd = bell_fd_.load(std::memory_order_acquire);
  if (fd < 0) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(fd, &one, sizeof one);
}

void uring_engine::do_rest(std::uint64_t deadline_ns) noexcept {
  do_set_alarm(deadline_ns);
  // Quiet first, and then a look: what comes in between rings again.
  std::uint64_t rung = 0;
  [[maybe_unused]] const auto read = ::read(bell_.get(), &rung, sizeof rung);
  const bool kernel_has = ring_.ready() != 0 || ring_.work_pending();
  const bool we_have = ring_.unsubmitted() != 0 || !backlog_.empty() || !cancel_backlog_.empty() ||
                       !transfers_.empty() || !unknown_.empty() || alarm_wanted_;
  const bool calls_unheard = calls_.out() != 0 && !calls_watched_;
  if (kernel_has || we_have || calls_unheard) ring_bell();
}

}  // namespace keel::kevent_sys
