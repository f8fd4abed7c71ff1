// Private to kevent_sys: the operations of kevent_aio_*.
#pragma once

#include "shared_queue.hpp"

namespace keel::kevent_sys {

// The longest socket address.
inline constexpr std::size_t address_bytes_max = 128;

// One operation in flight, whose end is one event. Found by the caller's `user` until then.
class aio_operation final : public registration {
 public:
  // `type`: KEVENT_NAIO or KEVENT_AIO.
  aio_operation(shared_queue& home, std::uint32_t type, const request& what, void* user) noexcept;

  // Copies the address of a connect. REQUIRES: bytes <= address_bytes_max
  void keep_address(const void* address, std::size_t bytes) noexcept;

  void start() noexcept override { home().submit(work_); }
  void stop() noexcept override;
  bool busy() const noexcept override { return work_.in_flight(); }
  void delivered(ukevent& out) noexcept override;

  // Asks the oldest one with this `user` to end: 0 or -ENOENT.
  static int cancel(shared_queue& home, void* user) noexcept;

 private:
  struct working : operation {
    working(aio_operation& of, const request& what) noexcept;
    aio_operation& owner;
  };

  static void answered(operation& self, answer a) noexcept;
  void on_answer(int value) noexcept;

  working work_;
  const std::uint32_t type_;
  int undelivered_ = -1;  // an accepted descriptor that nobody has yet
  bool ended_ = false;    // it has nobody to tell any more
  alignas(8) std::byte address_[address_bytes_max];
};

}  // namespace keel::kevent_sys
