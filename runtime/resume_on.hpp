// Moving a task to another scheduler.
#pragma once

#include <keel/runtime/awaitable.hpp>
#include <keel/runtime/scheduler.hpp>

#include <new>

namespace keel {

// What resume_on returns.
class resume_on_op {
 public:
  explicit resume_on_op(scheduler& to) noexcept : to_(to) {}
  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  void take() const {
    if (out_of_memory_) throw std::bad_alloc();
  }

 private:
  scheduler& to_;
  bool out_of_memory_ = false;
};

// Goes on with this task on the scheduler `to`, until it goes elsewhere or ends; whoever joins it is told
// where it was spawned. What the task has made on this scheduler (streams, mutexes, handles of tasks) stays
// here and is not to be used from there.
//
// Errors:    none.
// Cancelled: not; a stop that comes meanwhile is seen by the next wait.
// Threads:   a scheduler's; afterwards, that of `to`.
// REQUIRES:  `to` is of this runtime; the task was spawned, and awaits this itself or through tasks: not
//            inside with_timeout, graceful, the body of a scope, when_all, when_any, a fiber.
// Throws:    std::bad_alloc, the first time.
[[nodiscard]] inline resume_on_op resume_on(scheduler& to) noexcept {
  return resume_on_op(to);
}

}  // namespace keel
