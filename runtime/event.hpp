// Something that has happened, for those who wait for it.
#pragma once

#include <keel/runtime/wait_list.hpp>

namespace keel {

// A door: while it is set, nobody waits. A resource; not movable.
//
// set() lets all go on who wait now; set() and reset() in a row let exactly those go on.
//
// Life cycle: made not set -> destroyed when nobody waits (asserted): right after set() is allowed.
// Thread safety: tasks of one scheduler.
class event {
 public:
  class wait_op;

  // `name` is a literal: what a task is said to wait for.
  explicit event(const char* name = "an event") noexcept : line_(name) {}

  void set() noexcept {
    set_ = true;
    line_.grant_all();
  }
  void reset() noexcept { set_ = false; }
  bool is_set() const noexcept { return set_; }

  // Waits until it is set.
  //
  // Errors:    operation_canceled.
  // Cancelled: at once. An event that is set is not waited for, in a stopped task either.
  // Lifetime:  *this must live until it is set, or the co_await returns.
  [[nodiscard]] wait_op wait() noexcept;

 private:
  wait_list line_;
  bool set_ = false;
};

class event::wait_op : public queued_wait {
 public:
  explicit wait_op(event& wanted) noexcept : event_(wanted) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    return event_.set_ ? go_on(up, context) : wait_in(event_.line_, up, context);
  }
  result<void> take() noexcept { return outcome("wait for an event"); }

 private:
  event& event_;
};

inline auto event::wait() noexcept -> wait_op {
  return wait_op(*this);
}

// A turnstile: each set() lets one go on, who waits now or comes next. Sets that nobody has used are one. A
// resource; not movable.
//
// Life cycle: as event.
// Thread safety: tasks of one scheduler.
class auto_event {
 public:
  class wait_op;

  explicit auto_event(const char* name = "an event") noexcept : line_(name) {}

  void set() noexcept {
    if (line_.empty()) {
      set_ = true;
    } else {
      line_.grant_first();
    }
  }
  void reset() noexcept { set_ = false; }
  bool is_set() const noexcept { return set_; }

  // Waits for a set() of its own.
  //
  // Errors:    operation_canceled.
  // Cancelled: at once; the next set() is for the next in line.
  // Lifetime:  *this must live until the wait was granted, or the co_await returns.
  [[nodiscard]] wait_op wait() noexcept;

 private:
  wait_list line_;
  bool set_ = false;
};

class auto_event::wait_op : public queued_wait {
 public:
  explicit wait_op(auto_event& wanted) noexcept : event_(wanted) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    if (!event_.set_) return wait_in(event_.line_, up, context);
    event_.set_ = false;
    return go_on(up, context);
  }
  result<void> take() noexcept { return outcome("wait for an event"); }

 private:
  auto_event& event_;
};

inline auto auto_event::wait() noexcept -> wait_op {
  return wait_op(*this);
}

}  // namespace keel
