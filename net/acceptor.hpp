// What a listener rests on: one multishot accept, and the connections it has brought.
#pragma once

#include <keel/base/unique_fd.hpp>
#include <keel/kevent_sys/queue.hpp>
#include <keel/net/tcp_listener.hpp>
#include <keel/runtime/frame_allocator.hpp>
#include <keel/runtime/scheduler.hpp>

#include <deque>

namespace keel::net {

// Life cycle: made by listen() -> armed by the first accept() -> abandon() with its listener: it goes after
// the operation's last event.
// The kernel is asked to stop as soon as it brings a connection that nobody waits for: a server that takes no
// more keeps its descriptors, and the clients stay in the kernel's backlog.
// INVARIANT: while somebody waits, the accept is armed, or the pause timer is, or a cancel is under way.
// INVARIANT: an accepted descriptor is in backlog_, delivered, or closed (also when there is no memory to
//            keep it).
// Thread safety: its scheduler's thread.
class acceptor final : private kevent_sys::operation, private descriptor_waiter {
 public:
  // Throws std::bad_alloc.
  acceptor(scheduler& home, unique_fd listening, bool ahead);

  bool ready() const noexcept { return !backlog_.empty() || error_ != 0; }
  // REQUIRES: ready()
  result<tcp_stream> take() noexcept;
  // Tells `who` when ready(). REQUIRES: !ready() and nobody waits
  void wait(accept_op& who) noexcept;
  void forget(accept_op& who) noexcept;
  void abandon() noexcept;

  scheduler& home() const noexcept { return home_; }
  int fd() const noexcept { return listening_.get(); }

 private:
  struct pause_timer : kevent_sys::timer {
    explicit pause_timer(acceptor& a) noexcept : timer(&pause_over), self(a) {}
    acceptor& self;
  };

  ~acceptor() = default;
  static void event(kevent_sys::operation& self, kevent_sys::answer a) noexcept;
  static void pause_over(kevent_sys::operation& self, kevent_sys::answer a) noexcept;
  static void descriptor_freed(descriptor_waiter& self) noexcept;
  void note(int value) noexcept;
  void keep(unique_fd accepted) noexcept;
  void arm() noexcept;
  void pause() noexcept;
  void end_pause() noexcept;
  void end() noexcept;

  scheduler& home_;
  unique_fd listening_;
  std::deque<unique_fd> backlog_;
  accept_op* waiting_ = nullptr;
  pause_timer pause_{*this};
  std::uint64_t pause_ns_ = 0;  // of the current run of failures; 0 = none
  int error_ = 0;
  bool abandoned_ = false;
};

}  // namespace keel::net
