#include "posix_timers.hpp"

#include "queue_table.hpp"

#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <cerrno>
#include <map>
#include <mutex>
#include <new>

namespace keel::kevent_sys {
namespace {

ukevent event_of(int id, void* cookie) noexcept {
  ukevent event{};
  event.id.raw[0] = static_cast<std::uint32_t>(id);
  event.type = KEVENT_POSIX_TIMER;
  event.event = KEVENT_MASK_ALL;
  event.req_flags = KEVENT_REQ_ALWAYS_QUEUE;
  event.ptr = cookie;
  return event;
}

}  // namespace

posix_timer::polling::polling(posix_timer& of) noexcept
    : operation({.code = opcode::poll, .multishot = true, .flags = POLLIN}, &answered), owner(of) {}

posix_timer::posix_timer(shared_queue& home, int id, int clock_id, void* cookie) noexcept
    : registration(home, event_of(id, cookie)), poll_(*this), clock_id_(clock_id) {}

int posix_timer::open() noexcept {
  timer_.reset(::timerfd_create(clock_id_, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer_) return -errno;
  poll_.asked.fd = timer_.get();
  return 0;
}

void posix_timer::stop() noexcept {
  ended_ = true;
  timer_table::remove(static_cast<int>(asked_.id.raw[0]));
  if (poll_.in_flight()) home().cancel(poll_);
}

int posix_timer::set(int flags, const itimerspec& value) noexcept {
  if ((flags & ~TIMER_ABSTIME) != 0) return -EINVAL;
  const int how = (flags & TIMER_ABSTIME) != 0 ? TFD_TIMER_ABSTIME : 0;
  // What has expired belongs to the old setting, unread or uncollected.
  if (::timerfd_settime(timer_.get(), how, &value, nullptr) != 0) return -errno;
  expiries_ = 0;
  home().take_back(*this);
  return 0;
}

void posix_timer::look() noexcept {
  std::uint64_t expired = 0;
  if (::read(timer_.get(), &expired, sizeof expired) != static_cast<ssize_t>(sizeof expired)) return;
  expiries_ += expired;
  home().set_ready(*this, verdict::done());
}

void posix_timer::answered(operation& self, answer a) noexcept {
  posix_timer& timer = static_cast<polling&>(self).owner;
  if (timer.ended_) {
    if (!a.more()) timer.home().released(timer);
    return;
  }
  if (!a.more()) timer.start();
  timer.look();
}

void posix_timer::delivered(ukevent& out) noexcept {
  const std::uint64_t overruns = expiries_ > 0 ? expiries_ - 1 : 0;
  out.ret_data[0] = static_cast<std::uint32_t>(std::min<std::uint64_t>(overruns, 0xffffffff));
  expiries_ = 0;
}

namespace timer_table {
namespace {

// The ids of this process; a child of fork() has none of them.
struct table {
  std::mutex mutex;
  std::map<int, int>* queues = nullptr;
  std::uint64_t process = 0;
  int last = 0;

  bool inherited() const noexcept { return process != queue_table::process_generation(); }
};
constinit table all;

}  // namespace

int add(int kevent_fd) noexcept {
  const std::lock_guard lock(all.mutex);
  try {
    if (all.queues == nullptr || all.inherited()) {
      all.queues = new std::map<int, int>();
      all.process = queue_table::process_generation();
    }
    do {
      all.last = all.last == 0x7fffffff ? 1 : all.last + 1;
    } while (all.queues->contains(all.last));
    all.queues->emplace(all.last, kevent_fd);
  } catch (const std::bad_alloc&) {
    return -ENOMEM;
  }
  return all.last;
}

int queue_of(int id) noexcept {
  const std::lock_guard lock(all.mutex);
  if (all.queues == nullptr || all.inherited()) return -EINVAL;
  const auto found = all.queues->find(id);
  return found == all.queues->end() ? -EINVAL : found->second;
}

void remove(int id) noexcept {
  const std::lock_guard lock(all.mutex);
  if (all.queues == nullptr) return;
  all.queues->erase(id);
  if (!all.queues->empty()) return;
  delete all.queues;
  all.queues = nullptr;
}

}  // namespace timer_table
}  // namespace keel::kevent_sys
