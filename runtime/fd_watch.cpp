#include <keel/runtime/fd_watch.hpp>

#include <poll.h>

namespace keel {

static_assert(fd_event::readable == POLLIN && fd_event::urgent == POLLPRI && fd_event::writable == POLLOUT);
static_assert(fd_event::error == POLLERR && fd_event::hung_up == POLLHUP);
static_assert(fd_event::peer_closed == POLLRDHUP);

namespace {

constexpr std::uint32_t known_events = fd_event::readable | fd_event::urgent | fd_event::writable |
                                       fd_event::error | fd_event::hung_up | fd_event::peer_closed;

}  // namespace

fd_watch::~fd_watch() {
  KEEL_ASSERT(reading_.busy == nullptr && writing_.busy == nullptr && any_.busy == nullptr,
              "an fd_watch was destroyed while somebody waits for it: stop the task that does, and join it");
}

fd_watch::wait_op fd_watch::readable() noexcept {
  return wait_op(fd_, fd_event::readable, reading_);
}
fd_watch::wait_op fd_watch::writable() noexcept {
  return wait_op(fd_, fd_event::writable, writing_);
}

fd_watch::wait_op fd_watch::wait(std::uint32_t events) noexcept {
  KEEL_ASSERT((events & ~known_events) == 0, "fd_watch waits for a set of fd_event");
  return wait_op(fd_, events, any_);
}

void fd_watch::cancel() noexcept {
  reading_.cancel();
  writing_.cancel();
  any_.cancel();
}

fd_watch::wait_op::wait_op(int fd, std::uint32_t events, io_direction& direction) noexcept
    : operation_awaiter({.code = kevent_sys::opcode::poll, .fd = fd, .flags = events}) {
  occupy(direction);
}

result<std::uint32_t> fd_watch::wait_op::take() noexcept {
  if (value() < 0) return failure(kernel_error(value()), "wait for a descriptor");
  const auto ready = static_cast<std::uint32_t>(value());
  // io_uring always adds POLLRDHUP to what it waits for.
  const std::uint32_t wanted = ready & (asked().flags | fd_event::error | fd_event::hung_up);
  return wanted != 0 ? wanted : ready;
}

}  // namespace keel
