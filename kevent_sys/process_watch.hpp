// Private to kevent_sys: a descriptor that the process has once, polled by each queue that needs it.
#pragma once

#include "shared_queue.hpp"

namespace keel::kevent_sys {

// A queue's poll of such a descriptor, for all its registrations of one type. In the queue's hidden registry
// while somebody uses it.
class process_watch : public registration {
 public:
  // REQUIRES: `fd` stays open while this polls
  process_watch(shared_queue& home, std::uint32_t type, int fd) noexcept;

  // The queue's watch for `type`, or null.
  static process_watch* of(shared_queue& home, std::uint32_t type) noexcept;

  // Puts it into the registry and begins. False: no memory.
  bool begin() noexcept;
  void join() noexcept { ++users_; }
  // The last one that leaves ends it.
  void leave() noexcept;

  // The process has news for the queue that the descriptor does not tell.
  void look() noexcept { activity(); }

  void start() noexcept override { home().submit(poll_); }
  void stop() noexcept override;
  bool busy() const noexcept override { return poll_.in_flight(); }

 private:
  struct polling : operation {
    explicit polling(process_watch& of, int fd) noexcept;
    process_watch& owner;
  };

  // The descriptor has become readable, perhaps several times.
  virtual void activity() noexcept = 0;

  static void answered(operation& self, answer a) noexcept;

  polling poll_;
  std::uint32_t users_ = 0;
  bool ended_ = false;
};

}  // namespace keel::kevent_sys
