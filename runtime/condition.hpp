// Waiting for a change of what a mutex protects.
#pragma once

#include <keel/runtime/closures.hpp>
#include <keel/runtime/mutex.hpp>

#include <concepts>

namespace keel {

// Where tasks that hold a mutex wait, unlocking it meanwhile, until somebody says that something has changed.
// Where no mutex is needed, because nothing is awaited between a look and a change, an event is enough. A
// resource; not movable.
//
// Each notify_one() is for one wait, the first; none is made up. A wait that was notified stands in the line
// of the mutex, and runs when it holds that: no crowd wakes up to fight for it.
//
// Life cycle: made -> destroyed when nobody waits (asserted): right after notify_all() is allowed.
// Thread safety: tasks of one scheduler.
class condition {
 public:
  class wait_op;
  template <class Predicate>
  class predicate_op;

  // `name` is a literal: what a task is said to wait for.
  explicit condition(const char* name = "a condition") noexcept : line_(name) {}

  // Unlocks, waits to be notified, and locks again.
  //
  // Errors:    operation_canceled.
  // Cancelled: the guard holds its mutex then, too: what it protects may be looked at, in every case. So a
  //            stopped wait still waits for the mutex. A notification that had come is not lost: it is
  //            reported; one that comes later is for the next in line.
  // Lifetime:  *this and the guard's mutex must live until the co_await returns; *this only until notified.
  // REQUIRES:  the guard holds a mutex, and stays where it is.
  [[nodiscard]] wait_op wait(mutex::guard& held) noexcept;
  // Waits until `predicate()`, which is asked while the mutex is held: now, and after each notification.
  //
  // Errors:    operation_canceled.
  // Cancelled: as wait(held); a predicate that is true then beats the stop.
  // Lifetime:  as wait(held), and what the predicate refers to.
  // REQUIRES:  as wait(held); the predicate does not throw.
  template <std::predicate<> Predicate>
  [[nodiscard]] predicate_op<std::decay_t<Predicate>> wait(mutex::guard& held, Predicate&& predicate) {
    KEEL_CHECK_CLOSURE(Predicate);
    return predicate_op<std::decay_t<Predicate>>(*this, held, std::forward<Predicate>(predicate));
  }

  void notify_one() noexcept;
  void notify_all() noexcept;

 private:
  // The wait has been notified or stopped: now it waits for its mutex.
  static void relock(wait_op& wait) noexcept;

  wait_list line_;
};

class condition::wait_op : public queued_wait {
 public:
  wait_op(condition& wanted, mutex::guard& held) noexcept;

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  result<void> take() noexcept { return outcome("wait for a condition"); }

 private:
  friend class condition;
  static void stopped(stop_callback& self, stop_level level) noexcept;

  condition& condition_;
  mutex& mutex_;
};

template <class Predicate>
class condition::predicate_op : private waiter {
 public:
  template <class P>
  predicate_op(condition& wanted, mutex::guard& held, P&& predicate)
      : waiter(&locked_again), wait_(wanted, held), predicate_(std::forward<P>(predicate)) {}
  predicate_op(predicate_op&& other) noexcept
      : waiter(&locked_again), wait_(other.wait_), predicate_(std::move(other.predicate_)) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    if (predicate_()) return wait_.go_on(up, context);
    up_ = &up;
    context_ = &context;
    return wait_.start(*this, context);
  }
  result<void> take() noexcept { return wait_.take(); }

 private:
  static std::coroutine_handle<> locked_again(waiter* self) noexcept {
    auto& me = *static_cast<predicate_op*>(self);
    const bool satisfied = me.predicate_();
    if (satisfied) me.wait_.canceled_ = false;
    if (satisfied || me.wait_.canceled_) return me.up_->next(me.up_);
    me.wait_.reuse();
    return me.wait_.start(me, *me.context_);
  }

  wait_op wait_;
  Predicate predicate_;
  waiter* up_ = nullptr;
  stop_context* context_ = nullptr;
};

inline auto condition::wait(mutex::guard& held) noexcept -> wait_op {
  return wait_op(*this, held);
}

}  // namespace keel
