// Waiting for other threads: what sync_channel and sync_event share.
#pragma once

#include <keel/runtime/choice.hpp>

#include <atomic>
#include <cstdint>

namespace keel::detail {

// A lock for a few instructions. state_ values: 0 free; 1 held; 2 held, and somebody may sleep.
class short_lock {
 public:
  void lock() noexcept {
    std::uint32_t expected = 0;
    if (!state_.compare_exchange_strong(expected, 1, std::memory_order_acquire, std::memory_order_relaxed))
      lock_slowly();
  }
  void unlock() noexcept {
    if (state_.exchange(0, std::memory_order_release) == 2) state_.notify_one();
  }

 private:
  void lock_slowly() noexcept;

  std::atomic<std::uint32_t> state_{0};
};

class holding {
 public:
  explicit holding(short_lock& lock) noexcept : lock_(lock) { lock_.lock(); }
  holding(const holding&) = delete;
  holding& operator=(const holding&) = delete;
  ~holding() { lock_.unlock(); }

 private:
  short_lock& lock_;
};

// Whoever waits, told once, under the lock of what he waits for.
struct sync_waker {
  using function = void (*)(sync_waker& self) noexcept;
  explicit sync_waker(function f) noexcept : tell(f) {}
  function tell;
};

// A place in a queue that a lock guards, and so is `how`:
//
//     none       in the queue: whoever has the lock may settle it or withdraw it
//     done       settled, out of the queue; the value has been moved, and the waker has been told
//     closed     the same, without a value
//     canceled   withdrawn by its own scheduler's stop, out of the queue; nobody tells the waker
//
// `how` leaves none once. A stop that finds it settled does nothing: what is complete beats the stop, and the
// waiter goes on when it is told, so no message is on its way to somebody who has left.
struct sync_place : list_hook {
  void settle(outcome as) noexcept {
    unlink();
    how = as;
    owner->tell(*owner);
  }

  outcome how = outcome::none;
  sync_waker* owner = nullptr;
};

// A task that waits. It may be told on any thread; then a message brings it home:
//
//     waiting    place.how is none
//     told       on its own scheduler's thread: it is in the ready queue
//     on its way told by another thread: the message is posted; the stop callback is still registered
//     home       the message was delivered: it has taken and released the lock once, so that whoever told it
//                touches neither the object nor the scheduler any more; it is in the ready queue
//
// Copies have not begun.
class sync_wait : public wait_point, private sync_waker, private stop_callback, private message {
 public:
  sync_wait() noexcept : sync_waker(&told), stop_callback(&stopped), message(&delivered) {}
  sync_wait(const sync_wait& other) noexcept : sync_wait() {
    KEEL_ASSERT(!other.begun(), "what is awaited was moved after it had started");
  }

  // The caller holds `lock` and puts `place` into its queue. REQUIRES: !context.stopped()
  void begin(waiter& up, stop_context& context, const char* what, short_lock& lock,
             sync_place& place) noexcept;

 private:
  static void told(sync_waker& self) noexcept;
  static void stopped(stop_callback& self, stop_level level) noexcept;
  static void delivered(message& self, scheduler& home) noexcept;

  short_lock* lock_ = nullptr;
  sync_place* place_ = nullptr;
};

// A thread that waits, with everything that it does.
class thread_wait : private sync_waker {
 public:
  thread_wait() noexcept;
  thread_wait(const thread_wait&) = delete;
  thread_wait& operator=(const thread_wait&) = delete;

  // The caller holds the lock and puts `place` into its queue.
  void begin(sync_place& place) noexcept { place.owner = this; }
  // Blocks until it is told. The caller has released the lock.
  void block(short_lock& lock) noexcept;

 private:
  static void told(sync_waker& self) noexcept;

  std::atomic<std::uint32_t> told_{0};
};

}  // namespace keel::detail
