// Private to kevent_sys: opcode::futex for an engine that cannot wait for futexes itself.
#pragma once

#include <keel/kevent_sys/operation.hpp>

#include <atomic>
#include <cstdint>

namespace keel::kevent_sys {

// A thread that waits for up to `futexes_max` words at once, started with the first of them: by futex_waitv,
// so from Linux 5.16 on. It looks at the words, and never at the operations.
//
// A word that no longer holds what it must counts as woken. A wake-up that changes no word is missed when it
// comes while the thread takes note of another one, or of a new word: the waker is told that nobody was
// woken.
//
// A resource; not movable. Thread safety: the engine's thread.
class futex_waits {
 public:
  static constexpr std::uint32_t futexes_max = 127;

  // `bell` is called with `context` by the thread when there is something to collect, until *this is gone.
  futex_waits(void (*bell)(void* context) noexcept, void* context) noexcept;
  futex_waits(const futex_waits&) = delete;
  futex_waits& operator=(const futex_waits&) = delete;
  // REQUIRES: nothing waits
  ~futex_waits();

  // -EINPROGRESS: `op` waits. Else the answer to it: -EAGAIN when the word holds something else, -EFAULT,
  // -EINVAL, -ENOSYS before Linux 5.16; -ENOSPC when there are too many.
  int add(operation& op) noexcept;
  // False when `op` has been woken, and comes out of collect().
  bool remove(operation& op) noexcept;

  // Tells `publish(operation&)` who was woken.
  template <class Publish>
  void collect(Publish publish) noexcept {
    if (!news_.load(std::memory_order_acquire)) return;
    while (operation* op = take_woken()) publish(*op);
  }

 private:
  struct state;

  operation* take_woken() noexcept;

  std::atomic<bool> news_{false};
  state* state_ = nullptr;  // made with the thread
  void (*bell_)(void* context) noexcept;
  void* context_;
};

}  // namespace keel::kevent_sys
