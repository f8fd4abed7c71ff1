// Private to kevent_sys: who of this process listens to which socket or pipe, for engines whose polls do not
// choose among listeners.
#pragma once

#include <keel/base/intrusive_list.hpp>

#include <sys/types.h>
#include <cstdint>

namespace keel::kevent_sys {

class shared_queue;

namespace listener_table {

struct table;

// The ways in which an object becomes ready. Of those who listen to one, one alone hears it.
enum direction : std::uint32_t {
  incoming = 1,
  urgent = 2,
  outgoing = 4,
};

// The place of a listener that does not want to hear everything. A member of its registration.
//
// INVARIANT: of the places of one object, each direction that is wanted belongs to exactly one.
// Thread safety: the table's lock; what is const, and `queue`, any thread.
struct place : list_hook {
  place(shared_queue& of, dev_t device_number, ino_t inode_number) noexcept
      : queue(of), device(device_number), inode(inode_number) {}

  shared_queue& queue;
  const dev_t device;
  const ino_t inode;
  table* listed_in = nullptr;
  std::uint32_t wanted = 0;
  std::uint32_t owned = 0;
  // Listed while directions have come to it that its queue has not seen yet.
  struct notice_hook : list_hook {
    explicit notice_hook(place& of) noexcept : owner(of) {}
    place& owner;
  } notice{*this};
};

// Wants these directions from now on, and gives back the others; answers which of them are its own. The place
// of a newcomer is behind all others. No memory for the table: all are its own.
std::uint32_t want(place& p, std::uint32_t directions) noexcept;

// Everything it has goes to the next ones, whose queues are nudged. Twice is once.
void leave(place& p) noexcept;

// A place of the queue to which directions have come, or null. `owned`: all that it has now. REQUIRES: the
// queue's lock is held, for as long as the place is used
place* take_notice(const shared_queue& queue, std::uint32_t& owned) noexcept;

}  // namespace listener_table
}  // namespace keel::kevent_sys
