#include "epoll_engine.hpp"

#include "epoll_requests.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <ctime>
#include <new>

namespace keel::kevent_sys {
namespace {

// Collected by one call; the kernel hands out the others next time, and the last ones first.
constexpr int events_max = 128;

timespec time_of(std::uint64_t ns) noexcept {
  timespec time{};
  time.tv_sec = static_cast<time_t>(ns / 1'000'000'000);
  time.tv_nsec = static_cast<long>(ns % 1'000'000'000);
  return time;
}

}  // namespace

epoll_engine::epoll_engine(event_sink& sink, const engine_options& options) noexcept
    : engine(sink), options_(options) {
  calls_.emplace(options.pool, &ring_bell, this, &perform);
}

epoll_engine::~epoll_engine() {
  KEEL_ASSERT(in_flight() == 0, "an engine was destroyed with operations in flight");
  // Their threads may still ring the bell.
  futexes_.reset();
  calls_.reset();
  if (pool_ != nullptr) pool_->detach();
}

result<void> epoll_engine::open() noexcept {
  if (auto opened = set_.open(); !opened) return opened;
  info_.name = "epoll";
  info_.entries = options_.entries;
  if (options_.shared) {
    timer_.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (!timer_) return failure(kernel_error(errno), "timerfd_create");
    hidden_fd_ = timer_.get();
    return set_.add_own(hidden_fd_);
  }
  unique_fd wake_fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_fd) return failure(kernel_error(errno), "eventfd");
  hidden_fd_ = wake_fd.get();
  if (auto added = set_.add_own(hidden_fd_); !added) return added;
  try {
    pool_ = new buffer_pool(options_.buffers, options_.buffer_bytes, std::move(wake_fd));
    pool_->set_limit(std::max(options_.buffers, options_.buffers_limit));
  } catch (const std::bad_alloc&) {
    return failure(kernel_error(ENOMEM), "allocate receive buffers");
  }
  return {};
}

void epoll_engine::bind_to_this_thread() noexcept {
  if (options_.shared) return;
  if (!bound_) {
    bound_ = true;
    owner_ = ::pthread_self();
    pool_->attach(nullptr, this);
  }
  KEEL_ASSERT(::pthread_equal(owner_, ::pthread_self()) != 0,
              "an engine belongs to one thread: was it used from a second thread?");
}

void epoll_engine::do_submit(operation& op) noexcept {
  // A function begins at once; whatever asks the kernel waits for the turn.
  if (op.asked.code == opcode::call) {
    hand_to_pool(op);
  } else {
    ready_.push_back(op);
  }
}

void epoll_engine::do_cancel(operation& op) noexcept {
  if (on_thread(op)) {
    // What has begun is waited for.
    if (!calls_->take_back(op)) return;
    set_on_thread(op, false);
  } else if (!op.linked()) {
    // With the thread that waits for futexes; what it has woken already was not cancelled.
    KEEL_ASSERT(op.asked.code == opcode::futex && futexes_);
    if (!futexes_->remove(op)) return;
  }
  op.unlink();
  if (pool_ != nullptr && starved_.empty()) pool_->set_starving(false);
  ended_.push_back(op);
}

void epoll_engine::do_poll(std::uint64_t deadline_ns) noexcept {
  bind_to_this_thread();
  sink_.settle();
  if (options_.shared) hush();
  end_cancelled();
  if (pool_ != nullptr) {
    pool_->collect();
    unpark();
  }
  if (!retrying_.empty()) retry_connects();
  if (woken_ && !wakes_.empty()) tell_woken();
  run_ready();
  collect_answers();
  if (sink_.room() > 0) collect(deadline_ns);
  collect_answers();
  leave();
}

void epoll_engine::end_cancelled() noexcept {
  while (!ended_.empty()) {
    operation& op = ended_.pop_front();
    if (op.asked.code == opcode::poll && (op.asked.flags & poll_exclusive) != 0) {
      end_exclusive(op);
    } else if (has_part(op)) {
      finish(op, progress(op));  // no byte is lost
    } else {
      finish(op, -ECANCELED);
    }
  }
}

// Of a MSG_WAITALL: step 0 is one that was never tried.
bool epoll_engine::has_part(operation& op) noexcept {
  const bool counts = op.asked.code == opcode::recv || op.asked.code == opcode::send;
  return counts && step(op) != 0 && progress(op) > 0;
}

// An event that only we were told of must not vanish: another queue may wait for it.
void epoll_engine::end_exclusive(operation& op) noexcept {
  watched_descriptor* d = set_.find(op.asked.fd);
  int ready = 0;
  if (d != nullptr && d->exclusive && d->waiting.empty()) {
    set_.withdraw(*d);
    ready = poll_now(op.asked.fd, readiness_of(op.asked));
  }
  finish(op, ready > 0 ? ready : -ECANCELED);
}

void epoll_engine::run_ready() noexcept {
  intrusive_list<operation> round;
  round.splice_back(ready_);
  while (!round.empty()) {
    operation& op = round.pop_front();
    if (attempt(op)) park(op);
  }
}

bool epoll_engine::may_sleep() noexcept {
  if (!sink_.empty() || !ready_.empty()) return false;
  if (starved_.empty()) return true;
  // A buffer that came home between our look and the word that we starve rang no bell.
  pool_->collect();
  return pool_->at_home() == 0;
}

std::uint64_t epoll_engine::time_left(std::uint64_t deadline_ns) noexcept {
  deadline_ns = std::min(deadline_ns, retry_ns_);
  if (deadline_ns == never || deadline_ns == 0) return deadline_ns;
  const std::uint64_t now = do_now_ns();
  return deadline_ns > now ? deadline_ns - now : 0;
}

int epoll_engine::look(std::span<epoll_event> events, std::uint64_t timeout_ns) noexcept {
  const int n = set_.wait(events.data(), static_cast<int>(events.size()), timeout_ns);
  KEEL_ASSERT(n >= 0 || n == -EINTR, "epoll_wait refuses this queue: was its descriptor closed?");
  return n;
}

// Looks again and again, as long as that is likely to be answered before a sleep would be. 0: sleep.
int epoll_engine::spin(std::span<epoll_event> events, std::uint64_t timeout_ns) noexcept {
  if (options_.spin_ns == 0 || timeout_ns == 0 || !spin_.worth_trying()) return 0;
  const std::uint64_t start = do_now_ns();
  const std::uint64_t limit_ns = std::min<std::uint64_t>(options_.spin_ns, timeout_ns);
  int n = 0;
  std::uint64_t spun_ns = 0;
  do {
    n = look(events, 0);
    spun_ns = do_now_ns() - start;
  } while (n == 0 && spun_ns < limit_ns);
  counters_.spun_ns += spun_ns;
  // Looks that saw nothing are counted as time.
  if (n != 0) ++counters_.enters;
  if (n > 0) ++counters_.spins;
  // An answer after the limit came while somebody else had this CPU: whoever spins there is in the way.
  if (n > 0 && spun_ns <= limit_ns) {
    spin_.answered();
  } else if (limit_ns == options_.spin_ns) {
    spin_.in_vain();
  }
  return n;
}

void epoll_engine::collect(std::uint64_t deadline_ns) noexcept {
  epoll_event events[events_max];
  std::uint64_t timeout_ns = deadline_ns != 0 && may_sleep() ? time_left(deadline_ns) : 0;
  int n = spin(events, timeout_ns);
  if (n == 0) {
    // The spin may have come to the deadline.
    if (options_.spin_ns != 0 && timeout_ns != 0) timeout_ns = time_left(deadline_ns);
    ++counters_.enters;
    if (timeout_ns != 0) ++counters_.waits;
    n = look(events, timeout_ns);
  }
  for (int i = 0; i < n; ++i) {
    if (events[i].data.u64 == epoll_set::own_mark) {
      heard_bell();
    } else if (watched_descriptor* d = set_.of(events[i])) {
      serve(*d, events[i].events);
    } else {
      ++counters_.stale;
    }
  }
}

// Whoever watches fd() must see that there is more to do.
void epoll_engine::leave() noexcept {
  if (ready_.empty()) return;
  if (options_.shared) {
    do_ring();
  } else if (watched_) {
    ring_bell(this);
  }
}

void epoll_engine::heard_bell() noexcept {
  if (options_.shared) {
    bell_rung_.store(false, std::memory_order_seq_cst);
    if (alarm_ns_ <= do_now_ns()) alarm_ns_ = never;
    // Whoever rang has overwritten the timer.
    if (std::min(alarm_ns_, retry_ns_) != never) arm_timer();
  }
  // Buffers that came home, and answers of other threads, ring it too.
  if (wake_wanted_.exchange(false, std::memory_order_seq_cst)) tell_woken();
}

void epoll_engine::tell_woken() noexcept {
  woken_ = wakes_.empty();
  intrusive_list<operation> round;
  round.splice_back(wakes_);
  while (!round.empty()) {
    operation& op = round.pop_front();
    if (!op.asked.multishot) {
      finish(op, POLLIN);
      continue;
    }
    if (sink_.room() > 0) {
      publish(op, answer{POLLIN, answer::more_flag});
    } else {
      woken_ = true;
    }
    wakes_.push_back(op);
  }
}

void epoll_engine::do_wake() noexcept {
  wake_wanted_.store(true, std::memory_order_seq_cst);
  ring_bell(this);
}

// Any thread.
void epoll_engine::ring_bell(void* self) noexcept {
  auto& me = *static_cast<epoll_engine*>(self);
  if (me.options_.shared) {
    me.bell_rung_.store(true, std::memory_order_seq_cst);
    me.set_timer(1);
    return;
  }
  // The eventfd is never read: each write is a new edge, and a full counter has been ringing since long ago.
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(me.hidden_fd_, &one, sizeof one);
}

void epoll_engine::do_block(std::uint64_t deadline_ns) noexcept {
  KEEL_ASSERT(options_.shared, "an engine of one thread sleeps in poll()");
  timespec limit{};
  if (deadline_ns != never) {
    const std::uint64_t now = do_now_ns();
    if (deadline_ns <= now) return;
    limit = time_of(deadline_ns - now);
  }
  // Looks at the epoll descriptor from outside, and so takes nothing out of it.
  pollfd at{set_.fd(), POLLIN, 0};
  ::ppoll(&at, 1, deadline_ns != never ? &limit : nullptr, nullptr);
}

void epoll_engine::do_ring() noexcept {
  if (!options_.shared) {
    ring_bell(this);
    return;
  }
  if (ringing_) return;
  ringing_ = true;
  set_timer(1);
}

void epoll_engine::do_set_alarm(std::uint64_t deadline_ns) noexcept {
  KEEL_ASSERT(options_.shared);
  // One that comes too early is cheaper than to change it: whoever it wakes sets it anew.
  if (deadline_ns >= alarm_ns_) return;
  alarm_ns_ = deadline_ns;
  if (!ringing_) arm_timer();
}

void epoll_engine::hush() noexcept {
  if (ringing_) {
    ringing_ = false;
    arm_timer();
  }
  if (bell_rung_.load(std::memory_order_relaxed)) heard_bell();
}

void epoll_engine::arm_timer() noexcept {
  set_timer(std::min(alarm_ns_, retry_ns_));
  // A bell that rang before was just overwritten; one that rings now overwrites us.
  if (bell_rung_.load(std::memory_order_seq_cst)) set_timer(1);
}

// Also takes back an expiry that nobody has seen yet.
void epoll_engine::set_timer(std::uint64_t at_ns) noexcept {
  itimerspec when{};
  if (at_ns != never) when.it_value = time_of(std::max<std::uint64_t>(at_ns, 1));
  ::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

std::uint64_t epoll_engine::do_now_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

// Whatever is registered here is an edge to a loop that watches the epoll descriptor, too.
result<int> epoll_engine::do_pollable() noexcept {
  KEEL_ASSERT(!options_.shared, "the descriptor of a shared engine is fd()");
  if (!timer_) {
    unique_fd made(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (!made) return failure(kernel_error(errno), "timerfd_create");
    if (auto added = set_.add_own(made.get()); !added) return added.why();
    timer_ = std::move(made);
  }
  return do_fd();
}

void epoll_engine::do_rest(std::uint64_t deadline_ns) noexcept {
  // As with set_alarm(): early is cheaper than to change it.
  if (alarm_ns_ != never && alarm_ns_ <= do_now_ns()) alarm_ns_ = never;
  const std::uint64_t wanted_ns = std::min(deadline_ns, retry_ns_);
  if (wanted_ns < alarm_ns_) {
    alarm_ns_ = wanted_ns;
    set_timer(alarm_ns_);
  }
  if (!may_sleep()) ring_bell(this);
}

int epoll_engine::do_fd() const noexcept {
  watched_ = true;
  return set_.fd();
}

result<engine*> make_epoll_engine(event_sink& sink, const engine_options& options, const char* reason) {
  auto* made = new epoll_engine(sink, options);
  const auto opened = made->open();
  if (opened) {
    made->set_reason(reason);
    return made;
  }
  delete made;
  return opened.why();
}

}  // namespace keel::kevent_sys
