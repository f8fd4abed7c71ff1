#include "readiness_events.hpp"

#include "queue_table.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <atomic>
#include <cerrno>
#include <new>

namespace keel::kevent_sys {
namespace {

constexpr std::uint32_t readable = POLLIN | POLLRDNORM;
constexpr std::uint32_t writable = POLLOUT | POLLWRNORM;
constexpr std::uint32_t by_direction[][2] = {
    {listener_table::incoming, readable},
    {listener_table::urgent, POLLPRI | POLLRDBAND},
    {listener_table::outgoing, writable | POLLWRBAND},
};

std::uint32_t directions_of(std::uint32_t mask) noexcept {
  std::uint32_t directions = 0;
  for (const auto& [direction, bits] : by_direction) directions |= (mask & bits) != 0 ? direction : 0;
  return directions;
}

std::uint32_t mask_of(std::uint32_t directions) noexcept {
  std::uint32_t mask = 0;
  for (const auto& [direction, bits] : by_direction) mask |= (directions & direction) != 0 ? bits : 0;
  return mask;
}

// Both ends of a pipe are one object: who has the one hears nothing of the other.
std::uint32_t directions_of_file(int fd, unsigned kind) noexcept {
  const int access = kind == S_IFIFO ? ::fcntl(fd, F_GETFL) & O_ACCMODE : O_RDWR;
  if (access == O_RDONLY) return listener_table::incoming | listener_table::urgent;
  return access == O_WRONLY ? listener_table::outgoing : ~0u;
}

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
  const unsigned kind = status.st_mode & S_IFMT;
  if (const int error = check_kind(kind); error != 0) return error;
  // What else can be polled, eventfds above all, shares one inode: nobody can tell which of them is which.
  if (home().used_engine().info().exclusive_polls || (kind != S_IFSOCK && kind != S_IFIFO)) return 0;
  possible_ = directions_of_file(fd(), kind);
  place_.reset(new (std::nothrow) listening(*this, status.st_dev, status.st_ino));
  return place_ != nullptr ? 0 : -ENOMEM;
}

std::uint32_t readiness_event::directions() const noexcept {
  return has(KEVENT_REQ_WAKEUP_ALL) ? 0 : directions_of(poll_mask()) & possible_;
}

// Without the directions that others hear. Errors and hang-ups are for everybody.
std::uint32_t readiness_event::poll_flags() const noexcept {
  if (place_ != nullptr) return poll_mask() & ~mask_of(directions() & ~owned_);
  return poll_mask() | (has(KEVENT_REQ_WAKEUP_ALL) ? 0 : poll_exclusive);
}

bool readiness_event::names_same_file() const noexcept {
  struct stat status {};
  return ::fstat(fd(), &status) == 0 && status.st_dev == place_->device && status.st_ino == place_->inode;
}

void readiness_event::take_place() noexcept {
  if (place_ != nullptr) owned_ = listener_table::want(*place_, directions());
}

void readiness_event::take_over_all(shared_queue& home) noexcept {
  std::uint32_t owned = 0;
  while (listener_table::place* each = listener_table::take_notice(home, owned))
    static_cast<listening*>(each)->owner.take_over(owned);
}

// The new poll looks at what is there: also at what the one who left has not delivered.
void readiness_event::take_over(std::uint32_t owned) noexcept {
  if (names_same_file()) {
    owned_ = owned;
    poll_anew();
  } else {
    // Its descriptor was closed. It would listen to another file, or to none.
    listener_table::leave(*place_);
    place_.reset();
  }
}

void readiness_event::start() noexcept {
  if (!wanted_) take_place();
  wanted_ = true;
  // One that was asked to end is started anew by its last answer.
  if (poll_.in_flight()) return;
  poll_.asked.fd = fd();
  poll_.asked.flags = poll_flags();
  home().submit(poll_);
}

void readiness_event::change() noexcept {
  take_place();
  poll_anew();
}

void readiness_event::poll_anew() noexcept {
  if (!poll_.in_flight()) {
    start();
  } else if (poll_.asked.flags != poll_flags()) {
    home().cancel(poll_);
  }
}

void readiness_event::stop() noexcept {
  wanted_ = false;
  if (place_ != nullptr) listener_table::leave(*place_);
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
    auto revents = static_cast<short>(a.value);
    // A poll that asks for less does not say that the end can be read.
    if (place_ != nullptr && (revents & POLLRDHUP) != 0)
      revents = static_cast<short>(revents | static_cast<int>(poll_mask() & readable));
    const verdict v = test(revents);
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
