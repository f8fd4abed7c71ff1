// An event that any thread may set, for tasks of any scheduler.
#pragma once

#include <keel/base/result.hpp>
#include <keel/runtime/sync_wait.hpp>

namespace keel {

class sync_event;

// What sync_event::wait returns.
class sync_event_op : private detail::sync_place {
 public:
  explicit sync_event_op(sync_event& what) noexcept : event_(&what) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  result<void> take() noexcept;

 private:
  sync_event* event_;
  detail::sync_wait wait_;
};

// Set or not; it stays set until it is reset. A resource; not movable.
//
// Life cycle: destroyed when nobody waits (asserted). Somebody whose wait has ended may destroy it: whoever
// set it does not touch it any more.
// Thread safety: any thread.
class sync_event {
 public:
  sync_event() noexcept = default;
  sync_event(const sync_event&) = delete;
  sync_event& operator=(const sync_event&) = delete;
  ~sync_event();

  // Wakes all who wait.
  void set() noexcept;
  void reset() noexcept;
  bool is_set() noexcept;

  // Waits until it is set; what was set while somebody waited counts, though it has been reset since.
  //
  // Errors:    operation_canceled.
  // Cancelled: at once; a wait that had already been ended by set() succeeds.
  // Lifetime:  *this must live until the co_await returns.
  // Threads:   any scheduler.
  [[nodiscard]] sync_event_op wait() noexcept { return sync_event_op(*this); }
  // For threads without a scheduler.
  void wait_blocking() noexcept;

 private:
  friend sync_event_op;

  detail::short_lock lock_;
  intrusive_list<detail::sync_place> waiters_;
  bool set_ = false;
};

}  // namespace keel
