// How threads wait in a queue, and how its events leave it.

#include "shared_queue.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <ctime>
#include <utility>

namespace keel::kevent_sys {

// A thread that waits while another one leads. In the list until it is woken or gives up.
struct shared_queue::waiter : list_hook {
  explicit waiter(const demand& d) noexcept : wanted(d) {}

  const demand& wanted;
  std::uint64_t promised = 0;           // events that it was woken for
  std::atomic<std::uint32_t> woken{0};  // 1: it is out of the list, and looks
};

bool shared_queue::nonblocking() const noexcept {
  const int flags = ::fcntl(fd(), F_GETFL);
  return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

bool shared_queue::satisfied(const demand& d) const noexcept {
  if (d.has_index && d.index != ring_.consumer_index()) return true;
  return ready_count_ >= d.need && (!d.ring_room || ring_.room() > 0);
}

// Waits for what `d` says. 0: it is so, or the limit has passed, or somebody asked this call to return;
// -EBADF: the queue was closed; -EINVAL: there is no limit, and no O_NONBLOCK that makes that good.
int shared_queue::await(locked& lock, const demand& d, const time_limit* limit) noexcept {
  if (limit == nullptr && !nonblocking()) return -EINVAL;
  bool may_block = limit != nullptr && !limit->at_once();
  bool asked = false;
  for (;;) {
    if (closed_) return -EBADF;
    collect();
    check_last(d.most);
    const bool leaves = std::exchange(leave_, false);
    if (leaves || satisfied(d) || !may_block) return 0;
    if (!std::exchange(asked, true) && nonblocking()) may_block = false;
    if (!may_block || limit->passed()) return 0;
    const std::uint64_t until_ns = limit->next_look_ns();
    if (leader_) {
      follow(lock, d, until_ns);
    } else {
      lead(lock, until_ns);
    }
  }
}

void shared_queue::lead(locked& lock, std::uint64_t until_ns) noexcept {
  leader_ = true;
  const std::uint64_t known = ready_count_;
  // fd() is not made readable for events that are too few for this thread: that would wake it at once, for
  // ever.
  flush();
  // What the flush made ready may be enough for it: the engine would not tell of that again.
  if (ready_count_ == known) {
    // Others may go on while this thread blocks.
    hand_over();
    lock.unlock();
    engine_->block(until_ns);
    lock.lock();
  }
  leader_ = false;
}

void shared_queue::follow(locked& lock, const demand& d, std::uint64_t until_ns) noexcept {
  waiter me(d);
  waiters_.push_back(me);
  lock.unlock();
  timespec until{};
  until.tv_sec = static_cast<time_t>(until_ns / 1'000'000'000);
  until.tv_nsec = static_cast<long>(until_ns % 1'000'000'000);
  long answer = 0;
  while (me.woken.load(std::memory_order_acquire) == 0 && (answer == 0 || errno != ETIMEDOUT)) {
    answer = ::syscall(SYS_futex, &me.woken, FUTEX_WAIT_BITSET_PRIVATE, 0,
                       until_ns == never ? nullptr : &until, nullptr, FUTEX_BITSET_MATCH_ANY);
  }
  lock.lock();
  me.unlink();
  promised_ -= me.promised;
}

void shared_queue::wake(waiter& w) noexcept {
  w.unlink();
  w.promised = std::min<std::uint64_t>(w.wanted.most, unpromised());
  promised_ += w.promised;
  // `w` may be gone once it has seen this: the kernel does not look into the word that it wakes.
  w.woken.store(1, std::memory_order_release);
  ::syscall(SYS_futex, &w.woken, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

// Wakes who can go on: as many as there are events for; and one to lead, where nobody does.
void shared_queue::hand_over() noexcept {
  bool woke = false;
  for (waiter* each = waiters_.empty() ? nullptr : &waiters_.front(); each != nullptr;) {
    waiter* next = waiters_.next(*each);
    const demand& d = each->wanted;
    const bool can = unpromised() >= d.need && (!d.ring_room || ring_.room() > 0);
    if (can || closed_ || (d.has_index && d.index != ring_.consumer_index()) || (leave_ && !woke)) {
      wake(*each);
      woke = true;
    }
    each = next;
  }
  if (!leader_ && !woke && !waiters_.empty()) wake(waiters_.front());
}

// Drops events of the first `most` that are not true any more, if their registrations want that.
void shared_queue::check_last(std::uint32_t most) noexcept {
  constexpr std::uint32_t batch_max = 64;
  registration* each = checking_ == 0 ? nullptr : &ready_.front();
  while (each != nullptr && most > 0) {
    registration* looked_at[batch_max];
    pollfd polled[batch_max];
    std::uint32_t size = 0;
    for (; each != nullptr && most > 0 && size < batch_max; each = ready_.next(*each), --most) {
      if (!each->checks_last() || (each->asked().ret_flags & KEVENT_RET_BROKEN) != 0) continue;
      const probe look = each->to_poll();
      if (look.fd < 0) continue;
      looked_at[size] = each;
      polled[size++] = pollfd{look.fd, look.events, 0};
    }
    if (size == 0) continue;
    while (::poll(polled, size, 0) < 0 && errno == EINTR) {
    }
    for (std::uint32_t i = 0; i < size; ++i) {
      registration& r = *looked_at[i];
      const verdict v = r.test(polled[i].revents);
      if (v.ready()) {
        set_ready(r, v);
      } else {
        // Where the walk goes on is in the list still: it lies behind all that were looked at.
        ++most;
        take_back(r);
        r.dropped();
      }
    }
  }
}

// Moves up to `most` events out of the ready list: into `buffer`, and into the ring as far as there is one
// with room. Without a buffer, no more than the ring takes.
int shared_queue::deliver(std::uint32_t most, ukevent* buffer) noexcept {
  int count = 0;
  while (most-- > 0 && ready_count_ != 0 && (buffer != nullptr || ring_.room() > 0)) {
    registration& r = ready_.front();
    unlist(r);
    if (!ready_.empty()) __builtin_prefetch(&ready_.front(), 1);
    --ready_count_;
    ukevent out = r.asked();
    r.delivered(out);
    const bool room = ring_.present() && ring_.room() > 0;
    if (room) ring_.push(out);
    if (buffer != nullptr) {
      if (ring_.present() && !room) out.ret_flags |= KEVENT_RET_COPY_FAILED;
      buffer[count] = out;
    }
    ++count;
    if (r.one_shot()) {
      retire(r);
    } else if (r.further_ > 0) {
      --r.further_;
      enlist(r);
    } else {
      r.asked_.ret_flags = 0;
    }
  }
  return count;
}

int shared_queue::get_events(unsigned min_nr, unsigned max_nr, const time_limit* limit,
                             ukevent* buffer) noexcept {
  locked lock(mutex_);
  const std::uint32_t need = std::min(min_nr, max_nr);
  int count = await(lock, {.need = need, .most = max_nr}, limit);
  if (count == 0) count = deliver(max_nr, buffer);
  settle();
  hand_over();
  return count;
}

int shared_queue::wait(unsigned num, unsigned old_uidx, const time_limit* limit) noexcept {
  locked lock(mutex_);
  if (!ring_.present() || num > ring_.size()) return -EINVAL;
  const demand d{.need = 1, .most = num, .ring_room = true, .has_index = true, .index = old_uidx};
  int count = await(lock, d, limit);
  if (count == 0) count = deliver(num, nullptr);
  settle();
  hand_over();
  return count;
}

int shared_queue::commit(unsigned new_uidx, unsigned over) noexcept {
  const locked lock(mutex_);
  if (closed_) return -EBADF;
  if (!ring_.present()) return 0;
  const int freed = ring_.commit(new_uidx, over);
  // A leader that waits for room sleeps in the engine, the others in the list.
  if (freed > 0) {
    if (leader_) engine_->ring();
    hand_over();
  }
  return freed;
}

}  // namespace keel::kevent_sys
