// One writer, or any number of readers, across waits.
#pragma once

#include <keel/runtime/wait_list.hpp>

#include <cstddef>

namespace keel {

// As mutex, but those who only read share it. A resource; not movable.
//
// First come, first served, and readers that stand next to one another in line are let in together. A reader
// that comes while a writer waits stands behind it: so a stream of readers does not starve writers, nor a
// stream of writers readers. A task that holds it shared and locks it shared again may wait for itself.
//
// Life cycle: made unlocked -> destroyed when nobody holds it or waits for it (asserted).
// INVARIANT: while somebody waits, the first in line cannot have it yet.
// Thread safety: tasks of one scheduler.
class shared_mutex {
 public:
  template <bool Shared>
  class guard_of;
  template <bool Shared>
  class lock_op_of;
  using guard = guard_of<false>;
  using shared_guard = guard_of<true>;
  using lock_op = lock_op_of<false>;
  using lock_shared_op = lock_op_of<true>;

  // `name` is a literal: what a task is said to wait for.
  explicit shared_mutex(const char* name = "a shared mutex") noexcept : line_(name) {}
  shared_mutex(const shared_mutex&) = delete;
  shared_mutex& operator=(const shared_mutex&) = delete;
  ~shared_mutex() {
    KEEL_ASSERT(!locked() && readers_ == 0,
                "a shared mutex was destroyed while it is locked: its guards have to go before");
  }

  // Waits until it is ours alone. Yields result<shared_mutex::guard>.
  //
  // Errors:    operation_canceled.
  // Cancelled: nothing is locked; readers that stood behind may go on at once.
  // Lifetime:  *this must live until the guard has gone.
  [[nodiscard]] lock_op lock() noexcept;
  // Waits until no writer has it, nor came before. Yields result<shared_mutex::shared_guard>.
  //
  // Errors:    operation_canceled.
  // Cancelled: nothing is locked.
  // Lifetime:  *this must live until the guard has gone.
  [[nodiscard]] lock_shared_op lock_shared() noexcept;
  // A guard that holds it, or nothing. They do not overtake those who wait.
  [[nodiscard]] guard try_lock() noexcept;
  [[nodiscard]] shared_guard try_lock_shared() noexcept;

  bool locked() const noexcept { return writer_; }
  std::size_t readers() const noexcept { return readers_; }

 private:
  // What both kinds of waits are to the line.
  class wait : public queued_wait {
   public:
    wait(shared_mutex& wanted, bool shared) noexcept
        : queued_wait(&stopped), mutex_(wanted), shared_(shared) {}

    std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
      if (mutex_.line_.empty() && mutex_.try_take(shared_)) return go_on(up, context);
      return wait_in(mutex_.line_, up, context);
    }

   protected:
    friend class shared_mutex;
    static void stopped(stop_callback& self, stop_level level) noexcept;

    shared_mutex& mutex_;
    bool shared_;
  };

  bool try_take(bool shared) noexcept {
    if (writer_ || (!shared && readers_ != 0)) return false;
    if (shared) {
      ++readers_;
    } else {
      writer_ = true;
    }
    return true;
  }
  void unlock(bool shared) noexcept {
    if (shared) {
      --readers_;
    } else {
      writer_ = false;
    }
    if (!line_.empty()) grant();
  }
  void grant() noexcept;

  wait_list line_;
  std::size_t readers_ = 0;
  bool writer_ = false;
};

// Holds a shared mutex, and unlocks it at its end. Movable; after a move, or unlock(), it holds nothing.
template <bool Shared>
class [[nodiscard]] shared_mutex::guard_of {
 public:
  guard_of() noexcept = default;
  guard_of(guard_of&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
  guard_of& operator=(guard_of&& other) noexcept {
    if (this == &other) return *this;
    if (mutex_ != nullptr) mutex_->unlock(Shared);
    mutex_ = std::exchange(other.mutex_, nullptr);
    return *this;
  }
  ~guard_of() {
    if (mutex_ != nullptr) mutex_->unlock(Shared);
  }

  explicit operator bool() const noexcept { return mutex_ != nullptr; }
  void unlock() noexcept {
    KEEL_ASSERT(mutex_ != nullptr, "this guard holds no mutex: it was moved from, or unlocked already");
    std::exchange(mutex_, nullptr)->unlock(Shared);
  }

 private:
  friend class shared_mutex;
  explicit guard_of(shared_mutex& held) noexcept : mutex_(&held) {}

  shared_mutex* mutex_ = nullptr;
};

template <bool Shared>
class shared_mutex::lock_op_of : public shared_mutex::wait {
 public:
  explicit lock_op_of(shared_mutex& wanted) noexcept : wait(wanted, Shared) {}

  result<guard_of<Shared>> take() noexcept {
    if (canceled()) return failure(errc::operation_canceled, "lock a shared mutex");
    return guard_of<Shared>(mutex_);
  }
};

inline auto shared_mutex::lock() noexcept -> lock_op {
  return lock_op(*this);
}

inline auto shared_mutex::lock_shared() noexcept -> lock_shared_op {
  return lock_shared_op(*this);
}

inline shared_mutex::guard shared_mutex::try_lock() noexcept {
  return line_.empty() && try_take(false) ? guard(*this) : guard();
}

inline shared_mutex::shared_guard shared_mutex::try_lock_shared() noexcept {
  return line_.empty() && try_take(true) ? shared_guard(*this) : shared_guard();
}

}  // namespace keel
