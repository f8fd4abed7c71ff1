#include "readiness_events.hpp"

#include "queue_table.hpp"

#include <poll.h>
#include <sys/stat.h>
#include <atomic>
#include <cerrno>

namespace keel::kevent_sys {
namespace {

constexpr std::uint32_t readable = POLLIN | POLLRDNORM;
constexpr std::uint32_t writable = POLLOUT | POLLWRNORM;
constexpr std::uint32_t gone = POLLERR | POLLHUP | POLLNVAL;

verdict seen(std::uint32_t flags, short revents) noexcept {
  return {flags, {static_cast<std::uint32_t>(static_cast<unsigned short>(revents)), 0}};
}

constinit std::atomic<std::uint32_t> nested{0};

constexpr std::uint32_t broken = KEVENT_RET_DONE | KEVENT_RET_BROKEN;

}  // namespace

readiness_event::polling::polling(readiness_event& of) noexcept
    : operation({.code = opcode::poll, .multishot = true}, &readiness_event::answered), owner(of) {}

int readiness_event::open() noexcept {
  struct stat status {};
  if (::fstat(fd(), &status) != 0) return -errno;
  return check_kind(status.st_mode & S_IFMT);
}

void readiness_event::start() noexcept {
  wanted_ = true;
  // One that was asked to end is started anew by its last answer.
  if (poll_.in_flight()) return;
  poll_.asked.fd = fd();
  poll_.asked.flags = poll_mask() | (has(KEVENT_REQ_WAKEUP_ALL) ? 0 : poll_exclusive);
  home().submit(poll_);
}

void readiness_event::change() noexcept {
  const std::uint32_t flags = poll_mask() | (has(KEVENT_REQ_WAKEUP_ALL) ? 0 : poll_exclusive);
  if (!poll_.in_flight()) {
    start();
  } else if (poll_.asked.flags != flags) {
    home().cancel(poll_);
  }
}

void readiness_event::stop() noexcept {
  wanted_ = false;
  if (poll_.in_flight()) home().cancel(poll_);
}

void readiness_event::answered(operation& self, answer a) noexcept {
  static_cast<polling&>(self).owner.on_answer(a);
}

void readiness_event::on_answer(answer a) noexcept {
  if (!wanted_) {
    if (!a.more()) home().released(*this);
    return;
  }
  if (a.value >= 0) {
    const verdict v = test(static_cast<short>(a.value));
    if (v.ready()) home().set_ready(*this, v);
  }
  if (a.more()) return;
  if (a.value < 0 && a.value != -ECANCELED) {
    home().set_ready(*this, verdict::failed(a.value));
  } else if (a.value < 0 || listens_on()) {
    // Its mask changed, or the kernel had to drop it: the new poll looks by itself at what is there.
    start();
  }
}

int socket_event::check_kind(unsigned kind) noexcept {
  return kind == S_IFSOCK ? 0 : -ENOTSOCK;
}

std::uint32_t socket_event::poll_mask() const noexcept {
  std::uint32_t mask = POLLRDHUP;
  if ((asked_.event & (KEVENT_SOCKET_RECV | KEVENT_SOCKET_ACCEPT)) != 0) mask |= POLLIN;
  if ((asked_.event & KEVENT_SOCKET_SEND) != 0) mask |= POLLOUT;
  return mask;
}

verdict socket_event::test(short revents) noexcept {
  const auto is = static_cast<std::uint32_t>(static_cast<unsigned short>(revents));
  if ((is & poll_mask() & (readable | writable)) != 0) return seen(KEVENT_RET_DONE, revents);
  return (is & (gone | POLLRDHUP)) != 0 ? seen(broken, revents) : verdict{};
}

int pipe_event::check_kind(unsigned kind) noexcept {
  return kind == S_IFIFO ? 0 : -EINVAL;
}

std::uint32_t pipe_event::poll_mask() const noexcept {
  return ((asked_.event & KEVENT_SOCKET_RECV) != 0 ? POLLIN : 0u) |
         ((asked_.event & KEVENT_SOCKET_SEND) != 0 ? POLLOUT : 0u);
}

verdict pipe_event::test(short revents) noexcept {
  const auto is = static_cast<std::uint32_t>(static_cast<unsigned short>(revents));
  // Also while there is something to read: no writer is left.
  if ((is & gone) != 0) return seen(broken, revents);
  return (is & poll_mask()) != 0 ? seen(KEVENT_RET_DONE, revents) : verdict{};
}

poll_event::~poll_event() {
  if (watches_queue_) nested.fetch_sub(1);
}

std::uint32_t poll_event::watched_queues() noexcept {
  return nested.load();
}

int poll_event::check_kind(unsigned kind) noexcept {
  if (kind == S_IFREG || kind == S_IFDIR || kind == S_IFBLK) return -EINVAL;
  const int watched = static_cast<int>(asked_.id.raw[0]);
  if (watched == home().fd()) return -EINVAL;
  watches_queue_ = queue_table::is_queue(watched);
  if (watches_queue_) nested.fetch_add(1);
  return 0;
}

// The kernel polls a ring once. While nobody has collected from it, a new poll would answer at once, for
// ever: so it waits until this event is collected. Once the queue is closed, its number is somebody else's.
void poll_event::listen_again() noexcept {
  if (watches_queue_ && wanted() && !one_shot()) change();
}

std::uint32_t poll_event::poll_mask() const noexcept {
  return asked_.event & 0x37ffu;
}

// Errors and hang-ups, too, only where they are asked for.
verdict poll_event::test(short revents) noexcept {
  const auto is = static_cast<std::uint32_t>(static_cast<unsigned short>(revents)) & asked_.event;
  return is != 0 ? verdict::done(is) : verdict{};
}

}  // namespace keel::kevent_sys
