// Waiting until a number of things are done.
#pragma once

#include <keel/runtime/wait_list.hpp>

#include <cstddef>

namespace keel {

// Counts down to zero, once, and lets go on who waits for that. A resource; not movable.
//
// Life cycle: made with its count -> destroyed when nobody waits (asserted): right after the last
// count_down() is allowed.
// Thread safety: tasks of one scheduler.
class latch {
 public:
  class wait_op;

  // `name` is a literal: what a task is said to wait for.
  explicit latch(std::size_t count, const char* name = "a latch") noexcept : line_(name), count_(count) {}

  std::size_t count() const noexcept { return count_; }
  bool is_open() const noexcept { return count_ == 0; }
  void count_down(std::size_t by = 1) noexcept {
    KEEL_ASSERT(by <= count_, "a latch is counted down more often than it was made for");
    count_ -= by;
    if (count_ == 0) line_.grant_all();
  }

  // Waits until the count is zero.
  //
  // Errors:    operation_canceled.
  // Cancelled: at once. A latch that is open is not waited for, in a stopped task either.
  // Lifetime:  *this must live until the count is zero, or the co_await returns.
  [[nodiscard]] wait_op wait() noexcept;
  // Counts down by one, then waits.
  //
  // Errors:    operation_canceled.
  // Cancelled: at once, and the count stays down: what is done is done, and who waits for it need not know
  //            that somebody else does no longer wait. So it is in a task that was stopped before.
  // Lifetime:  as wait().
  [[nodiscard]] wait_op arrive_and_wait() noexcept;

 private:
  wait_list line_;
  std::size_t count_;
};

class latch::wait_op : public queued_wait {
 public:
  wait_op(latch& wanted, bool arrives) noexcept : latch_(wanted), arrives_(arrives) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    if (arrives_) latch_.count_down();
    return latch_.is_open() ? go_on(up, context) : wait_in(latch_.line_, up, context);
  }
  result<void> take() noexcept { return outcome("wait for a latch"); }

 private:
  latch& latch_;
  bool arrives_;
};

inline auto latch::wait() noexcept -> wait_op {
  return wait_op(*this, false);
}

inline auto latch::arrive_and_wait() noexcept -> wait_op {
  return wait_op(*this, true);
}

}  // namespace keel
