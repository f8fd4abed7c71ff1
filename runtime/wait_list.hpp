// Waiting in line for what other tasks of the same scheduler give: what event, mutex, shared_mutex,
// semaphore, latch, barrier and condition share, and the rules that they all follow.
//
// Order:     first come, first served. A grant names who gets it: nobody takes it on the way, so a task that
//            asks again and again cannot overtake those who wait.
// Stop:      what can be had at once is had, in a task that was asked to stop, too: what is complete beats
//            the stop. A wait that would have to wait ends with operation_canceled.
// Races:     a grant that was made is delivered, though a stop may come before its receiver runs. Who was
//            stopped has left the line at once: the next grant is for the next one.
// No effect: a wait that was cancelled has taken nothing and changed nothing. (A latch counts it; a condition
//            locks its mutex again: they say so.)
// Calls:     nobody is resumed inside set(), unlock(), release() or notify(): who was granted runs in his
//            turn. Once granted, a wait does not touch its object again, which may go.
// Threads:   those who use an object at the same time are tasks of one scheduler (asserted where one waits).
//            For several there are messages, sync_channel and sync_event.
// Memory:    none: the links are in the awaiting frames.
#pragma once

#include <keel/base/result.hpp>
#include <keel/runtime/wait_point.hpp>

namespace keel {

// Where a wait stands in its line. A type of its own: a wait is in the list of its stop context, too.
class place_in_line : public list_hook {};

class wait_list;

// One wait. Base of what lock(), acquire() and their kin return; movable until it is started.
//
// Life cycle: wait_in() -> granted by its list, or stopped -> its waiter runs.
class queued_wait : public place_in_line, protected stop_callback, protected wait_point {
 public:
  queued_wait(const queued_wait&) noexcept = default;
  queued_wait& operator=(const queued_wait&) = delete;

 protected:
  explicit queued_wait(stop_callback::function stopped = &leave) noexcept : stop_callback(stopped) {}
  ~queued_wait() = default;

  // What start() returns when the wait has to wait.
  std::coroutine_handle<> wait_in(wait_list& line, waiter& up, stop_context& context) noexcept;
  // The default of what a stop does. Who does more calls it first.
  static void leave(stop_callback& self, stop_level level) noexcept;

  bool canceled() const noexcept { return canceled_; }
  result<void> outcome(const char* doing) const noexcept {
    if (canceled_) return failure(errc::operation_canceled, doing);
    return {};
  }

 private:
  friend class wait_list;
  friend class condition;

  bool canceled_ = false;
};

// The waits for one thing. A resource.
//
// INVARIANT: whoever is in it is suspended, was not stopped, and is a task of home_.
// Thread safety: that scheduler's thread.
class wait_list {
 public:
  // `what` is a literal: what a task is said to wait for.
  explicit wait_list(const char* what) noexcept : what_(what) {}
  wait_list(const wait_list&) = delete;
  wait_list& operator=(const wait_list&) = delete;
  ~wait_list() {
    KEEL_ASSERT(waits_.empty(),
                "a mutex, event, semaphore or the like was destroyed while somebody waits for it: let the "
                "waits end before, or stop and join those tasks");
  }

  const char* what() const noexcept { return what_; }
  bool empty() const noexcept { return waits_.empty(); }
  // REQUIRES: !empty()
  queued_wait& first() noexcept { return static_cast<queued_wait&>(waits_.front()); }

  // The first one has what it waits for.
  // REQUIRES: !empty(); called on the thread of those who wait.
  void grant_first() noexcept;
  void grant_all() noexcept {
    while (!waits_.empty()) grant_first();
  }

 private:
  friend class queued_wait;
  friend class condition;

  void push(queued_wait& wait) noexcept;
  // As grant_first(), but it still has to wait for something else.
  queued_wait& take_first() noexcept;

  intrusive_list<place_in_line> waits_;
  const char* what_;
  scheduler* home_ = nullptr;
  const void* thread_ = nullptr;
};

}  // namespace keel
