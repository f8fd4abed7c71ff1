// What a stream's receive() rests on: one multishot receive, and the buffers it has filled.
#pragma once

#include <keel/base/unique_fd.hpp>
#include <keel/kevent_sys/buffer_pool.hpp>
#include <keel/kevent_sys/operation.hpp>
#include <keel/runtime/frame_allocator.hpp>
#include <keel/runtime/scheduler.hpp>

namespace keel::net {

class chunk_awaiter;

// Apart from the stream, so that a stream may move, or go, while the kernel holds the operation.
//
// Life cycle: made by the first receive() -> armed and idle in turns -> abandon() with its stream: it closes
// the descriptor and goes after the operation's last event.
// INVARIANT: buffers leave in the order in which the kernel filled them; none is lost when a wait is
//            cancelled.
// INVARIANT: while the pool's buffers are scarce, what nobody waits for is copied out of them.
// Thread safety: its scheduler's thread.
class receiver final : private kevent_sys::operation, public detail::recycled {
 public:
  // Filled buffers that may wait for a reader; with more, the kernel is asked to stop.
  static constexpr std::uint32_t queued_max = 8;

  receiver(scheduler& home, int fd) noexcept;

  // Whether take() would give something: a buffer, the end, or an error.
  bool ready() const noexcept { return !front_.empty() || !queue_.empty() || ended_; }
  // The next buffer; an empty lease at the end of the stream. REQUIRES: ready()
  result<kevent_sys::buffer_lease> take() noexcept;
  // Copies at most target.size() bytes out; what is left of a buffer stays first. 0 at the end. REQUIRES:
  // ready()
  result<std::size_t> copy(byte_span target) noexcept;

  // Tells `who` when ready(). REQUIRES: !ready() and nobody waits
  void wait(chunk_awaiter& who) noexcept;
  void forget(chunk_awaiter& who) noexcept;

  scheduler& home() const noexcept { return home_; }
  bool waited_for() const noexcept { return waiting_ != nullptr; }
  bool armed() const noexcept { return in_flight(); }
  // Stops the kernel; `then`, if not null, is made ready when it has let go of the descriptor. REQUIRES:
  // armed()
  void disarm(runnable* then) noexcept;
  // The stream is gone: closes `fd` and destroys *this as soon as the kernel is through with it.
  void abandon(unique_fd fd) noexcept;

 private:
  ~receiver() = default;
  static void event(kevent_sys::operation& self, kevent_sys::answer a) noexcept;
  void note(kevent_sys::answer a) noexcept;
  result<kevent_sys::buffer_lease> next() noexcept;
  void limit_queue(bool more) noexcept;
  void arm() noexcept;

  scheduler& home_;
  kevent_sys::buffer_queue queue_;
  kevent_sys::buffer_lease front_;  // what copy() left, or what was copied out of scarce buffers
  chunk_awaiter* waiting_ = nullptr;
  runnable* when_disarmed_ = nullptr;
  unique_fd abandoned_;
  int error_ = 0;
  bool ended_ = false;
  bool closing_ = false;
};

}  // namespace keel::net
