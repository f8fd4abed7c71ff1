// What kevent_ctl does on a queue.

#include "registration_types.hpp"
#include "shared_queue.hpp"

#include <poll.h>
#include <algorithm>
#include <cerrno>

namespace keel::kevent_sys {
namespace {

constexpr std::uint32_t known_req_flags = KEVENT_REQ_ONESHOT | KEVENT_REQ_WAKEUP_ALL | KEVENT_REQ_ET |
                                          KEVENT_REQ_LAST_CHECK | KEVENT_REQ_ALWAYS_QUEUE | KEVENT_REQ_READY;

constexpr std::uint32_t failed_flags = KEVENT_RET_DONE | KEVENT_RET_BROKEN;

void say_failed(ukevent& entry, int error) noexcept {
  entry.ret_flags = failed_flags;
  entry.ret_data[0] = 0;
  entry.ret_data[1] = static_cast<std::uint32_t>(error);
}

}  // namespace

// So many entries of ADD are tested with one poll(2).
struct shared_queue::batch {
  static constexpr std::uint32_t entries_max = 64;

  explicit batch(ukevent* to) noexcept : out(to) {}
  bool has(const registration* r) const noexcept { return std::find(made, made + size, r) != made + size; }
  void hand_back(const ukevent& entry) noexcept {
    *out++ = entry;
    ++handed_back;
  }

  std::uint32_t size = 0;
  registration* made[entries_max];  // null: it failed
  ukevent failed[entries_max];
  pollfd polled[entries_max];
  ukevent* out;  // behind what was handed back; the caller's array, whose entries were copied before
  int handed_back = 0;
};

// 0, or why an ADD or MODIFY is refused that says so.
int shared_queue::check_change(const ukevent& asked) const noexcept {
  if ((asked.req_flags & ~known_req_flags) != 0) return -EINVAL;
  return (asked.event & known_events(asked.type)) != 0 ? 0 : -EINVAL;
}

void shared_queue::take_in(batch& b, const ukevent& asked) noexcept {
  int error = may_be_added(asked.type) ? check_change(asked) : -ENOSYS;
  if (error == 0 && asked.type != KEVENT_TIMER) {
    const registration* twin = find(asked.type, asked.id.raw_u64);
    if (twin != nullptr && b.has(twin)) {
      // It may be handed back, and then there is none: one after the other.
      decide(b);
      twin = find(asked.type, asked.id.raw_u64);
    }
    if (twin != nullptr) error = -EEXIST;
  }
  registration* made = nullptr;
  if (error == 0) {
    made = registry_.reserve() ? make_registration(*this, asked) : nullptr;
    error = made != nullptr ? made->open() : -ENOMEM;
  }
  if (error != 0) {
    delete made;
    made = nullptr;
    b.failed[b.size] = asked;
    say_failed(b.failed[b.size], error);
  } else {
    registry_.insert(*made);
  }
  const probe look = made != nullptr ? made->to_poll() : probe{};
  b.polled[b.size] = pollfd{look.fd, look.events, 0};
  b.made[b.size++] = made;
}

// Tests what was taken in: it is handed back, or watched.
void shared_queue::decide(batch& b) noexcept {
  const auto asks = [](const pollfd& each) { return each.fd >= 0; };
  if (std::any_of(b.polled, b.polled + b.size, asks)) {
    while (::poll(b.polled, b.size, 0) < 0 && errno == EINTR) {
    }
  }
  for (std::uint32_t i = 0; i < b.size; ++i) {
    if (b.made[i] == nullptr) {
      b.hand_back(b.failed[i]);
      continue;
    }
    registration& r = *b.made[i];
    verdict v = r.test(b.polled[i].revents);
    if (r.has(KEVENT_REQ_READY)) {
      v.flags |= KEVENT_RET_DONE;
    } else if (v.ready() && !r.has(KEVENT_REQ_ALWAYS_QUEUE)) {
      ukevent back = r.asked();
      back.ret_flags = v.flags;
      back.ret_data[0] = v.data[0];
      back.ret_data[1] = v.data[1];
      b.hand_back(back);
      retire(r);
      continue;
    }
    r.start();
    if (v.ready()) set_ready(r, v);
  }
  b.size = 0;
}

int shared_queue::add(ukevent* entries, unsigned num) noexcept {
  const locked lock(mutex_);
  if (closed_) return -EBADF;
  // What has happened before comes before.
  collect();
  batch b(entries);
  for (unsigned i = 0; i < num; ++i) {
    // Copied once: the caller's array may change meanwhile, and its front is written to.
    ukevent asked = entries[i];
    asked.ret_flags = 0;
    asked.ret_data[0] = asked.ret_data[1] = 0;
    take_in(b, asked);
    if (b.size == batch::entries_max) decide(b);
  }
  decide(b);
  settle();
  return b.handed_back;
}

int shared_queue::remove(ukevent* entries, unsigned num) noexcept {
  const locked lock(mutex_);
  if (closed_) return -EBADF;
  if (num > registry_.size()) return -EINVAL;
  for (unsigned i = 0; i < num; ++i) {
    ukevent& entry = entries[i];
    registration* r = may_be_added(entry.type) ? find(entry.type, entry.id.raw_u64) : nullptr;
    entry.ret_flags = r != nullptr ? KEVENT_RET_DONE : failed_flags;
    if (r != nullptr) retire(*r);
  }
  settle();
  return 0;
}

int shared_queue::modify(ukevent* entries, unsigned num) noexcept {
  const locked lock(mutex_);
  if (closed_) return -EBADF;
  if (num > registry_.size()) return -EINVAL;
  collect();
  for (unsigned i = 0; i < num; ++i) {
    const ukevent asked = entries[i];
    registration* r = may_be_added(asked.type) ? find(asked.type, asked.id.raw_u64) : nullptr;
    const int error = r == nullptr ? -ENOENT : check_change(asked);
    if (error != 0) {
      say_failed(entries[i], error);
      continue;
    }
    entries[i].ret_flags = KEVENT_RET_DONE;
    r->asked_.event = asked.event;
    r->asked_.req_flags = asked.req_flags;
    if (r->tests_again()) take_back(*r);
    r->change();
    verdict v;
    if (r->tests_again()) {
      const probe look = r->to_poll();
      pollfd polled{look.fd, look.events, 0};
      if (look.fd >= 0) ::poll(&polled, 1, 0);
      v = r->test(polled.revents);
    }
    if (r->has(KEVENT_REQ_READY)) v.flags |= KEVENT_RET_DONE;
    if (v.ready()) set_ready(*r, v);
  }
  settle();
  return 0;
}

int shared_queue::make_ready(ukevent* entries, unsigned num) noexcept {
  const locked lock(mutex_);
  if (closed_) return -EBADF;
  if (num > registry_.size()) return -EINVAL;
  collect();
  if (num == 0) leave_ = true;
  ukevent* out = entries;
  for (unsigned i = 0; i < num; ++i) {
    const ukevent asked = entries[i];
    registration* r = may_be_added(asked.type) ? find(asked.type, asked.id.raw_u64) : nullptr;
    if (r != nullptr) {
      set_ready(*r, verdict{KEVENT_RET_DONE, {r->asked().ret_data[0], r->asked().ret_data[1]}});
    } else {
      *out++ = asked;
    }
  }
  settle();
  return static_cast<int>(num) - static_cast<int>(out - entries);
}

}  // namespace keel::kevent_sys
