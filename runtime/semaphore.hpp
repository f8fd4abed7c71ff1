// A number of permits, taken and given back.
#pragma once

#include <keel/runtime/wait_list.hpp>

#include <cstddef>
#include <cstdint>

namespace keel {

// Permits that tasks take and release. A resource; not movable.
//
// First come, first served: who wants many is not overtaken by those who want few, and is not starved.
//
// Life cycle: made with its permits -> destroyed when nobody waits (asserted), and after the permit objects.
// INVARIANT: while somebody waits, there are less permits than the first in line wants.
// Thread safety: tasks of one scheduler.
class semaphore {
 public:
  class permit;
  class acquire_op;
  class hold_op;

  static constexpr std::size_t permits_max = SIZE_MAX / 2;

  // `name` is a literal: what a task is said to wait for.
  explicit semaphore(std::size_t permits, const char* name = "a semaphore") noexcept
      : line_(name), available_(permits) {
    KEEL_ASSERT(permits <= permits_max, "so many permits cannot be counted");
  }

  std::size_t available() const noexcept { return available_; }

  // Takes `count` permits, when they are there and those who came before have theirs.
  //
  // Errors:    operation_canceled.
  // Cancelled: no permit is taken; those behind in line get what there is.
  // Lifetime:  *this must live until the wait was granted, or the co_await returns.
  [[nodiscard]] acquire_op acquire(std::size_t count = 1) noexcept;
  // The same; yields result<semaphore::permit>, which releases them at its end.
  //
  // Errors:    operation_canceled.
  // Cancelled: as acquire().
  // Lifetime:  *this must live until the permit has gone.
  [[nodiscard]] hold_op hold(std::size_t count = 1) noexcept;
  // Takes them if they are there and nobody waits.
  [[nodiscard]] bool try_acquire(std::size_t count = 1) noexcept {
    if (count > available_ || !line_.empty()) return false;
    available_ -= count;
    return true;
  }
  // Gives permits back, or adds new ones.
  void release(std::size_t count = 1) noexcept {
    KEEL_ASSERT(count <= permits_max - available_,
                "a semaphore has more permits than can be counted: release what was acquired, and once");
    available_ += count;
    if (!line_.empty()) grant();
  }

 private:
  void grant() noexcept;

  wait_list line_;
  std::size_t available_;
};

class semaphore::acquire_op : public queued_wait {
 public:
  acquire_op(semaphore& from, std::size_t count) noexcept
      : queued_wait(&stopped), semaphore_(from), count_(count) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    if (semaphore_.try_acquire(count_)) return go_on(up, context);
    return wait_in(semaphore_.line_, up, context);
  }
  result<void> take() noexcept { return outcome("acquire from a semaphore"); }

 protected:
  friend class semaphore;
  static void stopped(stop_callback& self, stop_level level) noexcept;

  semaphore& semaphore_;
  std::size_t count_;
};

// Permits of a semaphore, released at its end. Movable; after a move or a release() it holds none.
class [[nodiscard]] semaphore::permit {
 public:
  permit() noexcept = default;
  permit(permit&& other) noexcept
      : semaphore_(std::exchange(other.semaphore_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  permit& operator=(permit&& other) noexcept {
    if (this == &other) return *this;
    release();
    semaphore_ = std::exchange(other.semaphore_, nullptr);
    count_ = std::exchange(other.count_, 0);
    return *this;
  }
  ~permit() { release(); }

  explicit operator bool() const noexcept { return semaphore_ != nullptr; }
  std::size_t count() const noexcept { return count_; }
  // Now instead of at the end.
  void release() noexcept {
    if (semaphore_ != nullptr) std::exchange(semaphore_, nullptr)->release(std::exchange(count_, 0));
  }

 private:
  friend class hold_op;
  permit(semaphore& from, std::size_t count) noexcept : semaphore_(&from), count_(count) {}

  semaphore* semaphore_ = nullptr;
  std::size_t count_ = 0;
};

class semaphore::hold_op : public acquire_op {
 public:
  using acquire_op::acquire_op;

  result<permit> take() noexcept {
    if (canceled()) return failure(errc::operation_canceled, "acquire from a semaphore");
    return permit(semaphore_, count_);
  }
};

inline auto semaphore::acquire(std::size_t count) noexcept -> acquire_op {
  return acquire_op(*this, count);
}

inline auto semaphore::hold(std::size_t count) noexcept -> hold_op {
  return hold_op(*this, count);
}

}  // namespace keel
