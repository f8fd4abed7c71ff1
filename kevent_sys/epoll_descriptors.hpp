// Private to kevent_sys: an epoll descriptor, and what is known of each descriptor number in it.
#pragma once

#include <keel/base/intrusive_list.hpp>
#include <keel/base/result.hpp>
#include <keel/base/unique_fd.hpp>
#include <keel/kevent_sys/operation.hpp>

#include <sys/epoll.h>
#include <cstdint>

namespace keel::kevent_sys {

// A descriptor number, and the operations that wait for what it names.
struct watched_descriptor {
  intrusive_list<operation> waiting;
  int fd = -1;
  std::uint32_t generation = 0;  // of the newest registration; its events carry it
  std::uint32_t events = 0;      // what is registered for
  bool registered = false;       // as far as we know: closing the descriptor ends that without a word
  bool exclusive = false;        // with EPOLLEXCLUSIVE
  bool dry = false;              // the last read took all that was there
};

// Registrations are edge-triggered, and stay when nobody waits: until an edge comes that nobody wants. The
// kernel knows them by number and open file, so one may end, or name a file of the past, without our doing:
// each enroll() finds that out.
//
// A resource; not movable. Thread safety: none; the kernel's part by itself.
class epoll_set {
 public:
  epoll_set() noexcept = default;
  epoll_set(const epoll_set&) = delete;
  epoll_set& operator=(const epoll_set&) = delete;
  ~epoll_set();

  // Errors: what the kernel said.
  result<void> open() noexcept;
  int fd() const noexcept { return fd_.get(); }

  // Null when the number is new or negative.
  watched_descriptor* find(int fd) const noexcept;
  // Null when memory is short. REQUIRES: fd >= 0
  watched_descriptor* get(int fd) noexcept;
  // The descriptor that an event is about; null when it comes from a registration that has been replaced.
  watched_descriptor* of(const epoll_event& event) const noexcept;

  struct enrolled {
    int error = 0;          // 0 or a negative errno: -EPERM for a file that is always ready
    bool new_file = false;  // the number names another file than at the last enroll()
  };
  // Registers `d` for `events`. Whatever of them is there already is an edge, too.
  enrolled enroll(watched_descriptor& d, std::uint32_t events, bool exclusive) noexcept;
  // Ends a registration. Without one, nothing happens.
  void withdraw(watched_descriptor& d) noexcept;

  // Adds a descriptor of the engine's own, edge-triggered; its events carry `own_mark`.
  static constexpr std::uint64_t own_mark = ~std::uint64_t{0};
  result<void> add_own(int fd) noexcept;

  // Collects up to `size` events; sleeps at most `timeout_ns` (~0: no limit). Their number, or a negative
  // errno.
  int wait(epoll_event* events, int size, std::uint64_t timeout_ns) noexcept;

  // For kernels without epoll_pwait2 (before Linux 5.11): never early.
  static int milliseconds(std::uint64_t timeout_ns) noexcept;
  void use_milliseconds() noexcept { nanoseconds_ = false; }

 private:
  // Numbers are small and dense: a table of tables, made as numbers come.
  static constexpr std::uint32_t chunk_size = 64;

  int control(int what, watched_descriptor& d, std::uint32_t events) noexcept;
  bool grow(std::uint32_t chunks) noexcept;

  unique_fd fd_;
  watched_descriptor** chunks_ = nullptr;
  std::uint32_t chunks_size_ = 0;
  bool nanoseconds_ = true;
};

}  // namespace keel::kevent_sys
