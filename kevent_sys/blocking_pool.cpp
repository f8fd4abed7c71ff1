#include <keel/kevent_sys/blocking_pool.hpp>

#include "engine_calls.hpp"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <new>
#include <utility>

namespace keel::kevent_sys {
namespace {

// Waits longer than this are as good as for ever, and the clock cannot overflow.
constexpr std::uint64_t idle_ns_max = 1'000'000'000'000'000;

}  // namespace

struct blocking_pool::state {
  explicit state(const blocking_pool_options& o) : options(o), owner(::getpid()) {
    options.threads_max = std::max(options.threads_max, 1u);
    options.queue_max = std::max(options.queue_max, 1u);
    options.idle_ns = std::min(options.idle_ns, idle_ns_max);
    cpus_known = ::sched_getaffinity(0, sizeof cpus, &cpus) == 0;
  }

  struct worker : list_hook {
    explicit worker(state& pool) noexcept : home(pool) {}
    state& home;
    pthread_t thread{};
    std::condition_variable called;
    bool wanted = false;
    worker* next_idle = nullptr;
  };

  bool forked() const noexcept { return ::getpid() != owner; }

  static void* thread_main(void* self);
  void work(worker& me) noexcept;
  operation& take_waiting(blocking_queue& from) noexcept;
  void serve(std::unique_lock<std::mutex>& lock) noexcept;
  void finish(blocking_queue& from, operation& op, std::int32_t value,
              std::unique_lock<std::mutex>& lock) noexcept;
  void refuse_all(std::unique_lock<std::mutex>& lock) noexcept;
  bool idle(worker& me, std::unique_lock<std::mutex>& lock) noexcept;
  void end(worker& me, std::unique_lock<std::mutex>& lock) noexcept;
  bool call_idle_worker() noexcept;
  bool start_thread() noexcept;
  static void join_all(intrusive_list<worker>& ended) noexcept;

  blocking_pool_options options;
  const pid_t owner;
  cpu_set_t cpus;
  bool cpus_known = false;

  std::mutex mutex;                       // guards all of the following
  std::condition_variable changed;        // a thread ended, or a queue that leaves has nothing running
  intrusive_list<blocking_queue> asking;  // queues in which a call waits; they take turns
  worker* first_idle = nullptr;           // the last to become idle is the first to work: the others may end
  intrusive_list<worker> ended;           // to be joined by the next thread that ends, or at the end
  std::uint32_t queues = 0;
  bool stopping = false;
  blocking_pool_counters counters;
};

void* blocking_pool::state::thread_main(void* self) {
  auto& me = *static_cast<worker*>(self);
  ::pthread_setname_np(::pthread_self(), "keel-call");
  // Not where the thread that happened to call first is pinned.
  if (me.home.cpus_known) ::sched_setaffinity(0, sizeof me.home.cpus, &me.home.cpus);
  me.home.work(me);
  return nullptr;
}

void blocking_pool::state::work(worker& me) noexcept {
  std::unique_lock lock(mutex);
  me.thread = ::pthread_self();
  do {
    while (!asking.empty()) serve(lock);
  } while (!stopping && idle(me, lock));
  end(me, lock);
}

operation& blocking_pool::state::take_waiting(blocking_queue& from) noexcept {
  operation& op = from.waiting.pop_front();
  from.unlink();
  if (!from.waiting.empty()) asking.push_back(from);
  op.step_ = blocking_queue::step_begun;
  --counters.queued;
  ++from.running;
  return op;
}

void blocking_pool::state::serve(std::unique_lock<std::mutex>& lock) noexcept {
  blocking_queue& from = asking.front();
  operation& op = take_waiting(from);
  ++counters.running;
  lock.unlock();
  const std::int32_t value = from.perform(op);
  lock.lock();

  --counters.running;
  ++counters.completed;
  finish(from, op, value, lock);
  if (--from.running == 0) changed.notify_all();
}

// REQUIRES: from.running != 0, so that it does not go before it has been woken
void blocking_pool::state::finish(blocking_queue& from, operation& op, std::int32_t value,
                                  std::unique_lock<std::mutex>& lock) noexcept {
  op.late_answer_ = value;
  from.finished.push_back(op);
  if (from.news.exchange(true, std::memory_order_release)) return;
  lock.unlock();
  from.wake(from.context);
  lock.lock();
}

// There is no thread, and none can be had.
void blocking_pool::state::refuse_all(std::unique_lock<std::mutex>& lock) noexcept {
  while (counters.threads == 0 && !asking.empty()) {
    blocking_queue& from = asking.front();
    operation& op = take_waiting(from);
    ++counters.refused;
    finish(from, op, -EAGAIN, lock);
    if (--from.running == 0) changed.notify_all();
  }
}

// False when it was in vain for so long that the thread should end.
bool blocking_pool::state::idle(worker& me, std::unique_lock<std::mutex>& lock) noexcept {
  me.wanted = false;
  me.next_idle = std::exchange(first_idle, &me);
  ++counters.idle;
  const auto limit = std::chrono::steady_clock::now() + std::chrono::nanoseconds(options.idle_ns);
  me.called.wait_until(lock, limit, [&] { return me.wanted; });
  if (me.wanted) return true;
  worker** link = &first_idle;
  while (*link != &me) link = &(*link)->next_idle;
  *link = me.next_idle;
  --counters.idle;
  return false;
}

void blocking_pool::state::end(worker& me, std::unique_lock<std::mutex>& lock) noexcept {
  intrusive_list<worker> before;
  before.splice_back(ended);
  ended.push_back(me);
  --counters.threads;
  changed.notify_all();
  lock.unlock();
  join_all(before);
}

void blocking_pool::state::join_all(intrusive_list<worker>& ended) noexcept {
  while (!ended.empty()) {
    worker& gone = ended.pop_front();
    ::pthread_join(gone.thread, nullptr);
    delete &gone;
  }
}

bool blocking_pool::state::call_idle_worker() noexcept {
  if (first_idle == nullptr) return false;
  worker& called = *std::exchange(first_idle, first_idle->next_idle);
  --counters.idle;
  called.wanted = true;
  called.called.notify_one();
  return true;
}

bool blocking_pool::state::start_thread() noexcept {
  auto* made = new (std::nothrow) worker(*this);
  if (made == nullptr) return false;
  // Inherited: there is no moment at which the new thread could take a signal of the program's.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS}) ::sigdelset(&all, fault);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int error = ::pthread_create(&thread, nullptr, &thread_main, made);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) delete made;
  return error == 0;
}

blocking_pool::blocking_pool(const blocking_pool_options& options) : state_(new state(options)) {}

blocking_pool::~blocking_pool() {
  // Its lock may be held, and its threads waited for, by nobody who exists.
  if (state_->forked()) return;
  intrusive_list<state::worker> ended;
  {
    std::unique_lock lock(state_->mutex);
    KEEL_ASSERT(state_->queues == 0, "a blocking pool was destroyed before its engines");
    state_->stopping = true;
    while (state_->call_idle_worker()) {
    }
    state_->changed.wait(lock, [&] { return state_->counters.threads == 0; });
    ended.splice_back(state_->ended);
  }
  state::join_all(ended);
  delete state_;
}

blocking_pool_counters blocking_pool::counters() const noexcept {
  const std::lock_guard lock(state_->mutex);
  return state_->counters;
}

void blocking_pool::join(blocking_queue& from) noexcept {
  if (state_->forked()) return;
  const std::lock_guard lock(state_->mutex);
  KEEL_ASSERT(!from.linked());
  ++state_->queues;
}

void blocking_pool::leave(blocking_queue& from) noexcept {
  if (state_->forked()) return;
  std::unique_lock lock(state_->mutex);
  KEEL_ASSERT(from.waiting.empty() && from.finished.empty());
  // The thread that did its last call may still be waking it.
  state_->changed.wait(lock, [&] { return from.running == 0; });
  --state_->queues;
}

int blocking_pool::submit(blocking_queue& from, operation& op) noexcept {
  if (state_->forked()) return -EAGAIN;
  std::unique_lock lock(state_->mutex);
  blocking_pool_counters& counters = state_->counters;
  // What takes the place of a call of the kernel's is not refused: the kernel would not either.
  if (op.asked.code == opcode::call && counters.queued >= state_->options.queue_max) {
    ++counters.refused;
    return -EAGAIN;
  }
  op.step_ = blocking_queue::step_waiting;
  from.waiting.push_back(op);
  if (!from.linked()) state_->asking.push_back(from);
  ++counters.queued;
  if (state_->call_idle_worker() || counters.threads == state_->options.threads_max) return 0;

  ++counters.threads;
  lock.unlock();
  const bool started = state_->start_thread();
  lock.lock();
  if (started) {
    ++counters.started;
    counters.threads_peak = std::max(counters.threads_peak, counters.threads);
  } else if (--counters.threads == 0) {
    state_->refuse_all(lock);
  }
  return 0;
}

bool blocking_pool::take_back(blocking_queue& from, operation& op) noexcept {
  if (state_->forked()) return false;
  const std::lock_guard lock(state_->mutex);
  if (op.step_ != blocking_queue::step_waiting) return false;
  op.unlink();
  op.step_ = blocking_queue::step_begun;
  if (from.waiting.empty()) from.unlink();
  --state_->counters.queued;
  return true;
}

void blocking_pool::collect(blocking_queue& from, intrusive_list<operation>& finished) noexcept {
  const std::lock_guard lock(state_->mutex);
  finished.splice_back(from.finished);
  from.news.store(false, std::memory_order_relaxed);
}

}  // namespace keel::kevent_sys
