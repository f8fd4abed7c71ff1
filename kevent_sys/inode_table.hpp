// Private to kevent_sys: the inotify descriptor of this process, and what each registration has to hear.
#pragma once

#include "inode_events.hpp"

namespace keel::kevent_sys::inode_table {

// The descriptor, made for the first user. -errno on failure.
int take_descriptor() noexcept;
// The last user closes it.
void give_back_descriptor() noexcept;

// Watches what `fd` is open on: 0 or -errno. REQUIRES: take_descriptor() before
int add(inode_event::place& p, int fd) noexcept;
// The registration wants something else from now on.
void update(inode_event::place& p) noexcept;
void remove(inode_event::place& p) noexcept;

// Reads what inotify has to say, and notes it in every place that it concerns. The queues of those are
// nudged, but for the `reader`: the descriptor may tell only one that it was readable.
void read_all(const shared_queue& reader) noexcept;

// What was noted in `p`, which it forgets. False: nothing.
struct news {
  std::uint32_t happened = 0;
  bool died = false;
};
news take_news(inode_event::place& p) noexcept;

}  // namespace keel::kevent_sys::inode_table
