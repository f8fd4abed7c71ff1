// Private to kevent_sys: the queue behind a descriptor of kevent_init.
#pragma once

#include <keel/kevent_sys/queue.hpp>

#include "registry.hpp"
#include "time_limit.hpp"
#include "user_ring.hpp"

#include <atomic>
#include <mutex>
#include <span>

namespace keel::kevent_sys {

// The types of the keys in a shared queue's hidden registry; the ids depend on it.
enum hidden_key : std::uint32_t {
  key_completion = 100,  // kevent_aio_*: the caller's `user`
  key_file_send,         // aio_sendfile: the socket's inode
  key_watch,             // a process_watch: the type that it serves
};

// A place in a shared queue's timing wheel.
class queue_timer : public timer_node {
 public:
  virtual void expired(std::uint64_t now_ns) noexcept = 0;

 protected:
  ~queue_timer() = default;
};

// The shared flavour of the event queue: registrations of all types, a list of those that are ready, and any
// number of threads that change and collect. One lock guards all of it. Of the threads that wait, one (the
// leader) blocks in the engine without the lock; the others wait for it to hand them an event or the lead.
//
// Calls answer as the kevent calls of kevent.h do: a count, or a negative errno.
//
// Life cycle: create -> calls on any thread -> close() -> no thread is inside any more -> destroyed.
// INVARIANT: a registration is in the ready list at most once; ready_count_ is how many events wait.
// INVARIANT: where threads wait, one leads, or one that was woken is about to look.
// INVARIANT: what was submitted is handed to the kernel before the lock is given up, and fd() is readable
//            whenever something is ready then.
// Thread safety: any thread, but for what registrations use.
class shared_queue {
 public:
  struct options {
    engine_options engine = {};
    std::uint32_t events = 256;  // of the engine that are looked at in one go
    engine_factory factory = {};
  };

  // Null with `error` set to a negative errno when it cannot be made.
  static shared_queue* create(const user_ring& ring, const options& how, int& error) noexcept;
  shared_queue(const shared_queue&) = delete;
  shared_queue& operator=(const shared_queue&) = delete;
  // Cancels what is in flight and waits for it. REQUIRES: close() was called and no thread is inside
  ~shared_queue();

  int fd() const noexcept { return engine_->fd(); }
  const engine& used_engine() const noexcept { return *engine_; }
  const user_ring& ring() const noexcept { return ring_; }

  int add(ukevent* entries, unsigned num) noexcept;
  int remove(ukevent* entries, unsigned num) noexcept;
  int modify(ukevent* entries, unsigned num) noexcept;
  int make_ready(ukevent* entries, unsigned num) noexcept;

  // `limit`: null when the caller's text says no time, which only a queue with O_NONBLOCK forgives.
  int get_events(unsigned min_nr, unsigned max_nr, const time_limit* limit, ukevent* buffer) noexcept;
  int wait(unsigned num, unsigned old_uidx, const time_limit* limit) noexcept;
  int commit(unsigned new_uidx, unsigned over) noexcept;

  // Takes over `made` (null: no memory) and starts it, by a call of its own; it is `hidden`, or counts as one
  // of the caller's. 0, or a negative errno: then it is deleted.
  int take_over(registration* made, bool hidden) noexcept;
  // Runs `f` under the lock, and then does what every change needs.
  template <class F>
  auto change(F f) noexcept {
    const std::lock_guard lock(mutex_);
    auto answer = f();
    settle();
    return answer;
  }

  // Makes it look soon at what the process has for it besides its engine: what another queue has read, or
  // left to it. Any thread, under any lock; calls of the queue take the locks of others, never the reverse.
  void nudge() noexcept {
    if (!nudged_.exchange(true)) engine_->wake();
  }
  // Every thread that waits returns -EBADF.
  void close() noexcept;
  // The queue behind `fd` was closed: what polls it is broken.
  void forget_nested(int fd) noexcept;

  // For registrations, which are called under the lock.
  void submit(operation& op) noexcept {
    engine_->submit(op);
    unflushed_ = true;
  }
  void cancel(operation& op) noexcept {
    engine_->cancel(op);
    unflushed_ = true;
  }
  // `r` is ready, or is once more: another activity before collection changes nothing but the flags and data.
  void set_ready(registration& r, const verdict& v) noexcept;
  // The same, as an event of its own.
  void add_ready(registration& r, const verdict& v) noexcept;
  void take_back(registration& r) noexcept;
  // `r` ends: without a further event; deleted now or when it is not busy any more.
  void retire(registration& r) noexcept;
  // An operation of `r` has ended. `r` may be gone afterwards.
  void released(registration& r) noexcept;
  void arm(queue_timer& t, std::uint64_t at_ns) noexcept { wheel_.insert(t, at_ns); }
  void disarm(queue_timer& t) noexcept { wheel_.erase(t); }
  std::uint64_t now_ns() noexcept { return engine_->now_ns(); }
  registration* find(std::uint32_t type, std::uint64_t id) const noexcept { return registry_.find(type, id); }
  // What is no registration of the caller's: each kind has a key of its own (hidden_key).
  registry& hidden() noexcept { return hidden_; }

 private:
  struct batch;
  struct waiter;
  // What a wait call waits for.
  struct demand {
    std::uint32_t need = 1;  // events
    std::uint32_t most = 1;  // events that it would take
    bool ring_room = false;
    bool has_index = false;  // it does not wait unless the ring's consumer is at `index`
    std::uint32_t index = 0;
  };
  using locked = std::unique_lock<std::mutex>;

  shared_queue(const user_ring& ring, std::uint32_t events) : ring_(ring), sink_(events) {}

  // shared_queue.cpp
  void collect() noexcept;
  void hear_nudge() noexcept;
  void fire_timers() noexcept;
  void flush() noexcept;
  void settle() noexcept;
  void forget_all(registry& all) noexcept;

  // shared_queue_ctl.cpp
  int check_change(const ukevent& asked) const noexcept;
  void take_in(batch& b, const ukevent& asked) noexcept;
  void decide(batch& b) noexcept;

  // shared_queue_wait.cpp
  bool nonblocking() const noexcept;
  bool satisfied(const demand& d) const noexcept;
  std::uint64_t unpromised() const noexcept {
    return ready_count_ > promised_ ? ready_count_ - promised_ : 0;
  }
  int await(locked& lock, const demand& d, const time_limit* limit) noexcept;
  void lead(locked& lock, std::uint64_t until_ns) noexcept;
  void follow(locked& lock, const demand& d, std::uint64_t until_ns) noexcept;
  void hand_over() noexcept;
  void wake(waiter& w) noexcept;
  void check_last(std::uint32_t most) noexcept;
  void enlist(registration& r) noexcept;
  void unlist(registration& r) noexcept;
  int deliver(std::uint32_t most, ukevent* buffer) noexcept;

  std::mutex mutex_;
  user_ring ring_;
  event_sink sink_;
  engine* engine_ = nullptr;
  timing_wheel wheel_;
  registry registry_;
  registry hidden_;
  intrusive_list<registration> ready_;
  std::uint64_t ready_count_ = 0;
  std::uint64_t checking_ = 0;  // registrations in the list that look again before they are delivered
  std::uint64_t promised_ = 0;  // of these, to waiters that were woken and have not looked yet
  intrusive_list<waiter> waiters_;
  bool leader_ = false;
  bool leave_ = false;       // KEVENT_CTL_READY with num 0: one wait call returns
  bool unflushed_ = false;   // the engine has what it has not handed over
  bool unfinished_ = false;  // there was more to do than one call does
  bool closed_ = false;
  std::atomic<bool> nudged_{false};
};

}  // namespace keel::kevent_sys
