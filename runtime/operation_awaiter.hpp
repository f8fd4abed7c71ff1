// What co_await of a single operation on the queue consists of.
#pragma once

#include <keel/base/result.hpp>
#include <keel/kevent_sys/operation.hpp>
#include <keel/runtime/wait_point.hpp>

#include <cstdint>

namespace keel {

class operation_awaiter;

// One direction of an object with operations: one at a time. Part of the object, which does not move
// meanwhile.
struct io_direction {
  operation_awaiter* busy = nullptr;

  // Asks the operation in flight, if there is one, to end: after the step that it is at.
  void cancel() noexcept;
  // Makes `then` ready when the operation in flight has ended. REQUIRES: busy != nullptr
  void tell_when_free(runnable& then) noexcept;
};

// An operation and its waiter, in the awaiting frame: nothing is allocated, nothing is submitted before
// start().
//
// INVARIANT: the waiter is told exactly once per start(), after the operation's last event, cancelled or not.
class operation_awaiter : private kevent_sys::operation, private stop_callback, private wait_point {
 public:
  operation_awaiter(operation_awaiter&& other) noexcept;
  operation_awaiter& operator=(operation_awaiter&&) = delete;
  ~operation_awaiter() = default;

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;

 protected:
  explicit operation_awaiter(const kevent_sys::request& what) noexcept;

  kevent_sys::request& asked() noexcept { return operation::asked; }
  kevent_sys::answer answered() const noexcept { return answer_; }
  std::int32_t value() const noexcept { return answer_.value; }
  // The answer as bytes or as an error of `doing`.
  result<std::size_t> size_or_error(const char* doing) const noexcept;
  result<void> void_or_error(const char* doing) const noexcept;

  // Answers without asking the kernel: for what is known before start().
  void answer_now(std::int32_t value) noexcept;
  // The operation occupies `direction`, which is free when it starts (asserted).
  void occupy(io_direction& direction) noexcept { direction_ = &direction; }
  // The level of a stop that ends the wait; hard unless said otherwise.
  void stop_at(stop_level level) noexcept { threshold = level; }
  // No stop ends the wait, nor keeps it from starting.
  void never_stop() noexcept { stoppable_ = false; }

  // For operations of several steps: called with each answer, true to go on with asked() as changed by it. A
  // stop between two steps ends the operation.
  using next_step = bool (*)(operation_awaiter& self) noexcept;
  void steps_with(next_step next) noexcept { next_step_ = next; }

 private:
  friend struct io_direction;
  static void completed(kevent_sys::operation& self, kevent_sys::answer a) noexcept;
  static void stopped(stop_callback& self, stop_level level) noexcept;

  kevent_sys::answer answer_;
  bool immediate_ = false;
  bool stoppable_ = true;
  bool last_step_ = false;
  io_direction* direction_ = nullptr;
  runnable* when_free_ = nullptr;
  next_step next_step_ = nullptr;
};

}  // namespace keel
