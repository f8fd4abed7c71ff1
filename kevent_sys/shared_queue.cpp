#include "shared_queue.hpp"

#include "process_watch.hpp"
#include "readiness_events.hpp"

#include <cerrno>
#include <new>

namespace keel::kevent_sys {
namespace {

// The kernel finds what is to be cancelled in a hash table with a bucket for each 32 completions: with the
// engine's default, a REMOVE among 100,000 registrations walks over 3,000 others.
constexpr std::uint32_t completions = 4096;

// How often one call looks again because answers led to new requests.
constexpr int rounds_max = 4;

}  // namespace

shared_queue* shared_queue::create(const user_ring& ring, const options& how, int& error) noexcept {
  try {
    auto* made = new shared_queue(ring, how.events);
    if (how.factory.make != nullptr) {
      made->engine_ = how.factory.make(made->sink_, how.factory.context);
      return made;
    }
    engine_options shared = how.engine;
    shared.shared = true;
    shared.buffers = 0;
    if (shared.completions == 0) shared.completions = completions;
    const auto engine = make_engine(made->sink_, shared);
    if (engine) {
      made->engine_ = *engine;
      return made;
    }
    delete made;
    const std::error_code why = engine.error();
    error = why.category() == std::system_category() ? -why.value() : -ENOSYS;
  } catch (const std::bad_alloc&) {
    error = -ENOMEM;
  }
  return nullptr;
}

shared_queue::~shared_queue() {
  KEEL_ASSERT(waiters_.empty() && !leader_, "a queue was destroyed while threads wait in it");
  forget_all(registry_);
  forget_all(hidden_);
  while (!ready_.empty()) retire(ready_.front());
  if (engine_ == nullptr) return;
  collect();
  // The last look may have published more than its rounds consumed.
  while (engine_->in_flight() != 0 || !sink_.empty()) {
    if (sink_.empty()) engine_->block(never);
    collect();
  }
  KEEL_ASSERT(wheel_.empty());
  delete engine_;
}

void shared_queue::forget_all(registry& all) noexcept {
  while (registration* each = all.any()) retire(*each);
}

// Hands over what was submitted, and lets what has happened become ready.
void shared_queue::collect() noexcept {
  unfinished_ = true;
  for (int round = 0; round < rounds_max && unfinished_; ++round) {
    unflushed_ = false;
    engine_->poll(0);
    const std::uint32_t events = sink_.waiting();
    while (sink_.waiting() > 0) sink_.consume_one();
    hear_nudge();
    unfinished_ = unflushed_ || events == sink_.size();
  }
  if (unflushed_) engine_->poll(0);
  unflushed_ = false;
  // Its wake may have been taken by the poll just now.
  if (nudged_.load(std::memory_order_relaxed)) unfinished_ = true;
  if (!wheel_.empty()) fire_timers();
}

// Only after a poll(): it takes the wake that came with the nudge.
void shared_queue::hear_nudge() noexcept {
  if (!nudged_.load(std::memory_order_relaxed) || !nudged_.exchange(false)) return;
  if (process_watch* watch = process_watch::of(*this, KEVENT_INODE)) watch->look();
  readiness_event::take_over_all(*this);
}

void shared_queue::fire_timers() noexcept {
  const std::uint64_t now = engine_->now_ns();
  if (wheel_.next_ns() > now) return;
  intrusive_list<timer_node> due;
  wheel_.advance(now, due);
  while (!due.empty()) static_cast<queue_timer&>(due.pop_front()).expired(now);
}

void shared_queue::flush() noexcept {
  if (unflushed_ || nudged_.load(std::memory_order_relaxed)) collect();
  // The rest is for the next look, which comes soon.
  if (unfinished_) engine_->ring();
  if (!wheel_.empty()) engine_->set_alarm(wheel_.next_ns());
}

// What is submitted goes to the kernel, and fd() says what is ready. Wakes the leader, if there is one.
void shared_queue::settle() noexcept {
  flush();
  if (ready_count_ != 0 || leave_) engine_->ring();
}

void shared_queue::set_ready(registration& r, const verdict& v) noexcept {
  KEEL_ASSERT(v.ready());
  r.asked_.ret_flags |= v.flags;
  r.asked_.ret_data[0] = v.data[0];
  r.asked_.ret_data[1] = v.data[1];
  if (r.linked() || r.stopped_) return;
  enlist(r);
  ++ready_count_;
}

void shared_queue::enlist(registration& r) noexcept {
  ready_.push_back(r);
  r.check_counted_ = r.checks_last();
  checking_ += r.check_counted_ ? 1 : 0;
}

void shared_queue::unlist(registration& r) noexcept {
  r.unlink();
  checking_ -= r.check_counted_ ? 1 : 0;
}

void shared_queue::add_ready(registration& r, const verdict& v) noexcept {
  const bool waits = r.linked();
  set_ready(r, v);
  if (!waits || r.one_shot()) return;
  ++r.further_;
  ++ready_count_;
}

void shared_queue::take_back(registration& r) noexcept {
  r.asked_.ret_flags = 0;
  if (!r.linked()) return;
  unlist(r);
  ready_count_ -= 1 + r.further_;
  r.further_ = 0;
}

void shared_queue::retire(registration& r) noexcept {
  if (r.listed_in_ != nullptr) r.listed_in_->erase(r);
  take_back(r);
  r.stopped_ = true;
  r.stop();
  released(r);
}

void shared_queue::released(registration& r) noexcept {
  if (r.stopped_ && !r.busy()) delete &r;
}

int shared_queue::take_over(registration* made, bool hidden) noexcept {
  const std::lock_guard lock(mutex_);
  registry& to = hidden ? hidden_ : registry_;
  int error = made == nullptr || !to.reserve() ? -ENOMEM : 0;
  if (closed_) error = -EBADF;
  if (error == 0) error = made->open();
  if (error != 0) {
    delete made;
    return error;
  }
  collect();
  to.insert(*made);
  made->start();
  settle();
  return 0;
}

void shared_queue::close() noexcept {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  engine_->ring();
  hand_over();
}

void shared_queue::forget_nested(int fd) noexcept {
  const std::lock_guard lock(mutex_);
  registry_.for_each([&](registration& r) {
    if (!r.watches_queue() || r.asked().id.raw[0] != static_cast<std::uint32_t>(fd)) return;
    r.stop();
    set_ready(r, verdict{KEVENT_RET_DONE | KEVENT_RET_BROKEN, {0, 0}});
  });
  settle();
}

}  // namespace keel::kevent_sys
