// Private to kevent_sys: KEVENT_PROC.
#pragma once

#include <keel/base/unique_fd.hpp>

#include "shared_queue.hpp"

namespace keel::kevent_sys {

// The end of a process, by pidfd: no pid that was given to somebody else meanwhile, and nobody is reaped.
class process_event final : public registration {
 public:
  process_event(shared_queue& home, const ukevent& asked) noexcept
      : registration(home, asked), poll_(*this) {}

  int open() noexcept override;
  probe to_poll() const noexcept override;
  verdict test(short revents) noexcept override;
  void start() noexcept override;
  void stop() noexcept override;
  bool busy() const noexcept override { return poll_.in_flight(); }

 private:
  struct polling : operation {
    explicit polling(process_event& of) noexcept;
    process_event& owner;
  };

  int pidfd() const noexcept { return own_ ? own_.get() : static_cast<int>(asked_.id.raw[0]); }
  static void answered(operation& self, answer a) noexcept;

  unique_fd own_;  // where the caller gave a pid
  polling poll_;
  bool ended_ = false;
};

}  // namespace keel::kevent_sys
