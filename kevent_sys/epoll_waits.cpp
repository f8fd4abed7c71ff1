// Where the operations of epoll_engine wait, and what an edge makes of them.

#include "epoll_engine.hpp"
#include "epoll_requests.hpp"

#include <cerrno>

namespace keel::kevent_sys {
namespace {

bool is_exclusive(const request& asked) noexcept {
  return asked.code == opcode::poll && (asked.flags & poll_exclusive) != 0;
}

// These end a wait whether asked for or not.
constexpr std::uint32_t always = EPOLLERR | EPOLLHUP;

struct interest {
  void add(const request& asked) noexcept {
    events |= readiness_of(asked);
    exclusive = exclusive && is_exclusive(asked);
  }
  void add(const intrusive_list<operation>& all) noexcept {
    if (all.empty()) return;
    for (const operation* op = &all.front(); op != nullptr; op = all.next(*op)) add(op->asked);
  }
  std::uint32_t events = 0;
  bool exclusive = true;
};

}  // namespace

void epoll_engine::park(operation& op) noexcept {
  const int fd = op.asked.fd;
  watched_descriptor* d = fd >= 0 ? set_.get(fd) : nullptr;
  if (d == nullptr) {
    finish(op, fd >= 0 ? -ENOMEM : -EBADF);
    return;
  }
  interest all;
  all.add(op.asked);
  // What those want that wait already is registered: a thousand on one descriptor are not asked each time. It
  // may be more than they want by now; the first edge in vain finds out.
  if (!d->waiting.empty()) {
    all.events |= d->events;
    all.exclusive = all.exclusive && d->exclusive;
  }
  const auto done = set_.enroll(*d, all.events, all.exclusive);
  // Closed under them. They are bound to the file that was, not to the one that has its number now.
  if (done.new_file) orphans_.splice_back(d->waiting);
  if (done.error == 0) {
    d->waiting.push_back(op);
  } else {
    cannot_park(op, done.error);
  }
}

void epoll_engine::cannot_park(operation& op, int error) noexcept {
  if (error != -EPERM) {
    finish(op, error);
  } else if (op.asked.code == opcode::poll) {
    finish(op, poll_now(op.asked.fd, readiness_of(op.asked)));
  } else if (attempt(op)) {
    finish(op, -EAGAIN);
  }
}

void epoll_engine::serve(watched_descriptor& d, std::uint32_t events) noexcept {
  intrusive_list<operation> round;
  intrusive_list<operation> behind;  // had its turn
  round.splice_back(d.waiting);
  bool wanted = false;
  bool exclusive_served = false;
  while (!round.empty()) {
    operation& op = round.pop_front();
    const std::uint32_t ready = events & (readiness_of(op.asked) | always);
    wanted = wanted || ready != 0;
    if (ready == 0 || (exclusive_served && is_exclusive(op.asked))) {
      d.waiting.push_back(op);
    } else if (op.asked.code == opcode::poll) {
      exclusive_served = exclusive_served || is_exclusive(op.asked);
      if (answer_poll(op, ready)) behind.push_back(op);
    } else if (attempt(op)) {
      d.waiting.push_back(op);
    }
  }
  d.waiting.splice_back(behind);
  // An exclusive registration that nobody uses would keep events from other queues.
  if (!wanted || (d.exclusive && d.waiting.empty())) forget_unwanted(d);
}

// True when it goes on.
bool epoll_engine::answer_poll(operation& op, std::uint32_t ready) noexcept {
  const auto value = static_cast<int>(ready);
  if (!op.asked.multishot) {
    finish(op, value);
    return false;
  }
  if (sink_.room() == 0) {
    // Parked anew in the next turn, it is told again what is ready.
    ready_.push_back(op);
    return false;
  }
  publish(op, answer{value, answer::more_flag});
  return true;
}

void epoll_engine::forget_unwanted(watched_descriptor& d) noexcept {
  if (d.waiting.empty()) {
    set_.withdraw(d);
    return;
  }
  interest left;
  left.add(d.waiting);
  if (set_.enroll(d, left.events, left.exclusive).new_file) orphans_.splice_back(d.waiting);
}

}  // namespace keel::kevent_sys
