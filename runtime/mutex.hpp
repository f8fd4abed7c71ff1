// One at a time, across waits.
#pragma once

#include <keel/runtime/wait_list.hpp>

namespace keel {

// Excludes the other tasks of a scheduler from what lies between lock() and the end of the guard: needed only
// where something is awaited there, since nobody else runs meanwhile. A resource; not movable.
//
// It is handed over: an unlock() gives the mutex to the first who waits, and it stays locked until he has
// run. If it were open meanwhile, a task that locks it in a loop would take it each time, and those who wait
// would not get it at all.
//
// Life cycle: made unlocked -> destroyed when nobody holds it or waits for it (asserted). A task that locks
// it twice waits for itself.
// Thread safety: tasks of one scheduler.
class mutex {
 public:
  class guard;
  class lock_op;

  // `name` is a literal: what a task is said to wait for.
  explicit mutex(const char* name = "a mutex") noexcept : line_(name) {}
  mutex(const mutex&) = delete;
  mutex& operator=(const mutex&) = delete;
  ~mutex() { KEEL_ASSERT(!locked_, "a mutex was destroyed while it is locked: its guard has to go before"); }

  // Waits until the mutex is ours. Yields result<mutex::guard>.
  //
  // Errors:    operation_canceled.
  // Cancelled: the mutex is not locked, and the next in line gets it. shielded(m.lock()) cannot be stopped.
  // Lifetime:  *this must live until the guard has gone.
  [[nodiscard]] lock_op lock() noexcept;
  // A guard that holds the mutex, or nothing.
  [[nodiscard]] guard try_lock() noexcept;
  bool locked() const noexcept { return locked_; }

 private:
  friend class condition;

  void unlock() noexcept {
    if (line_.empty()) {
      locked_ = false;
    } else {
      line_.grant_first();
    }
  }

  wait_list line_;
  bool locked_ = false;
};

// Holds a mutex, and unlocks it at its end. Movable: another task may unlock what this one has locked. After
// a move, or unlock(), it holds nothing.
class [[nodiscard]] mutex::guard {
 public:
  guard() noexcept = default;
  guard(guard&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
  guard& operator=(guard&& other) noexcept {
    if (this == &other) return *this;
    if (mutex_ != nullptr) mutex_->unlock();
    mutex_ = std::exchange(other.mutex_, nullptr);
    return *this;
  }
  ~guard() {
    if (mutex_ != nullptr) mutex_->unlock();
  }

  explicit operator bool() const noexcept { return mutex_ != nullptr; }
  void unlock() noexcept {
    KEEL_ASSERT(mutex_ != nullptr, "this guard holds no mutex: it was moved from, or unlocked already");
    std::exchange(mutex_, nullptr)->unlock();
  }

 private:
  friend class mutex;
  friend class condition;
  explicit guard(mutex& held) noexcept : mutex_(&held) {}

  mutex* mutex_ = nullptr;
};

class mutex::lock_op : public queued_wait {
 public:
  explicit lock_op(mutex& wanted) noexcept : mutex_(wanted) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    if (mutex_.locked_) return wait_in(mutex_.line_, up, context);
    mutex_.locked_ = true;
    return go_on(up, context);
  }
  result<guard> take() noexcept {
    if (canceled()) return failure(errc::operation_canceled, "lock a mutex");
    return guard(mutex_);
  }

 private:
  mutex& mutex_;
};

inline auto mutex::lock() noexcept -> lock_op {
  return lock_op(*this);
}

inline mutex::guard mutex::try_lock() noexcept {
  if (locked_) return guard();
  locked_ = true;
  return guard(*this);
}

}  // namespace keel
