#include "process_events.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cerrno>
#include <cstdio>

namespace keel::kevent_sys {
namespace {

// As wait(2) would have said it.
int wait_status(const siginfo_t& info) noexcept {
  switch (info.si_code) {
    case CLD_EXITED: return (info.si_status & 0xff) << 8;
    case CLD_DUMPED: return info.si_status | WCOREFLAG;
    default: return info.si_status;
  }
}

// A descriptor of something else would be polled for ever, or be ready at once.
bool is_pidfd(int fd) noexcept {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
  const unique_fd info(::open(path, O_RDONLY | O_CLOEXEC));
  if (!info) return true;  // no /proc here: believe it
  char text[512];
  const ssize_t n = ::read(info.get(), text, sizeof text - 1);
  text[n > 0 ? n : 0] = '\0';
  for (const char* at = text; at != nullptr; at = at[0] == '\n' ? at + 1 : nullptr) {
    if (at[0] == 'P' && at[1] == 'i' && at[2] == 'd' && at[3] == ':') return true;
    while (*at != '\0' && *at != '\n') ++at;
  }
  return false;
}

}  // namespace

process_event::polling::polling(process_event& of) noexcept
    : operation({.code = opcode::poll, .flags = POLLIN}, &answered), owner(of) {}

int process_event::open() noexcept {
  const std::uint32_t kind = asked_.id.raw[1];
  if (kind > 1) return -EINVAL;
  if (kind == 1) {
    if (::fcntl(pidfd(), F_GETFD) < 0) return -EBADF;
    return is_pidfd(pidfd()) ? 0 : -EINVAL;
  }
  const auto pid = static_cast<pid_t>(asked_.id.raw[0]);
  if (pid <= 0) return -ESRCH;
  // pidfd_open sets close-on-exec by itself.
  own_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (own_) return 0;
  // EINVAL: a thread, but not the first of its process.
  return errno == EINVAL ? -ESRCH : -errno;
}

probe process_event::to_poll() const noexcept {
  return {pidfd(), POLLIN};
}

verdict process_event::test(short revents) noexcept {
  if ((revents & (POLLIN | POLLHUP)) == 0) return {};
  siginfo_t info{};
  const int answer = ::waitid(P_PIDFD, static_cast<id_t>(pidfd()), &info, WEXITED | WNOHANG | WNOWAIT);
  if (answer == 0 && info.si_pid != 0) return verdict::done(static_cast<std::uint32_t>(wait_status(info)));
  // Not our child, reaped already, or SIGCHLD is ignored.
  verdict unknown = verdict::done();
  unknown.data[1] = static_cast<std::uint32_t>(-ECHILD);
  return unknown;
}

void process_event::start() noexcept {
  if (ended_ || poll_.in_flight()) return;
  poll_.asked.fd = pidfd();
  home().submit(poll_);
}

void process_event::stop() noexcept {
  ended_ = true;
  if (poll_.in_flight()) home().cancel(poll_);
}

void process_event::answered(operation& self, answer a) noexcept {
  process_event& event = static_cast<polling&>(self).owner;
  if (event.ended_) {
    event.home().released(event);
  } else if (a.value < 0) {
    event.home().set_ready(event, verdict::failed(a.value));
  } else {
    const verdict v = event.test(static_cast<short>(a.value));
    if (v.ready()) event.home().set_ready(event, v);
  }
}

}  // namespace keel::kevent_sys
