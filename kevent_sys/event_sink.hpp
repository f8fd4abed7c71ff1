// Where events go: the shared ring, and behind it the list of what found no room.
#pragma once

#include <keel/kevent_sys/kevent.h>
#include <keel/kevent_sys/operation.hpp>

namespace keel::kevent_sys {

// The producer and consumer sides of one kevent_ring, for the thread that owns both.
//
// INVARIANT: an operation has its last event exactly once: in the ring or in the late list.
// INVARIANT: produced_ - consumed_ <= size(): the counters run on for ever, only their low bits are
//            published.
// Thread safety: the owner; others may read the ring's memory (the index is stored after the entry).
class event_sink {
 public:
  // `events` is rounded up to a power of two, the size. The counters start at `start`, a multiple of the
  // size: so that tests see them wrap. Throws std::bad_alloc.
  explicit event_sink(std::uint32_t events, std::uint32_t start = 0);
  event_sink(const event_sink&) = delete;
  event_sink& operator=(const event_sink&) = delete;
  ~event_sink();

  std::uint32_t size() const noexcept { return mask_ + 1; }
  std::uint32_t room() const noexcept { return size() - (produced_ - consumed_); }
  std::uint32_t waiting() const noexcept { return produced_ - consumed_; }
  bool empty() const noexcept { return produced_ == consumed_ && late_.empty(); }
  const kevent_ring& shared() const noexcept { return *ring_; }

  // Engines: writes an event of `op`. Without room, an operation's last answer waits in the late list.
  // REQUIRES: room() > 0 when a.more()
  void publish(operation& op, answer a) noexcept;

  // Moves what waits in the late list into the ring, as far as there is room.
  void settle() noexcept;

  // Takes back the last event of `op`, published but not consumed: `op` is idle afterwards.
  void withdraw(operation& op) noexcept;

  // The oldest event that is not consumed, then consumes it: tells its operation. An event that was withdrawn
  // is passed over. REQUIRES: waiting() > 0
  void consume_one() noexcept;

  // How many events were published since the start.
  std::uint64_t published() const noexcept { return published_; }

 private:
  ukevent* event(std::uint32_t index) const noexcept { return events_ + (index & mask_); }
  void write(operation& op, answer a) noexcept;

  kevent_ring* ring_;
  ukevent* events_;
  std::uint32_t mask_;
  std::uint32_t produced_;
  std::uint32_t consumed_;
  std::uint64_t published_ = 0;
  intrusive_list<operation> late_;
};

}  // namespace keel::kevent_sys
