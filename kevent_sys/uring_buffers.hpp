// Private to kevent_sys: a buffer pool that the kernel takes receive buffers from.
#pragma once

#include <keel/kevent_sys/buffer_pool.hpp>

#include "uring_ring.hpp"

namespace keel::kevent_sys {

// The ring of provided buffers in front of a buffer_pool. A resource; not movable.
class uring_buffers {
 public:
  static constexpr std::uint16_t group = 0;

  uring_buffers() noexcept = default;
  uring_buffers(const uring_buffers&) = delete;
  uring_buffers& operator=(const uring_buffers&) = delete;
  ~uring_buffers() { close(); }

  // Registers a ring for all of `pool` and gives the kernel the buffers at home.
  // Errors: what the kernel said (memory that may be locked is limited): receives then go without.
  result<void> open(uring_ring& ring, buffer_pool& pool) noexcept;
  void close() noexcept;
  bool registered() const noexcept { return memory_ != nullptr; }

  // Buffer `id` is the kernel's from now on.
  void offer(std::uint16_t id) noexcept;
  // How many buffers the kernel can choose from.
  std::uint32_t offered() const noexcept { return offered_; }
  void took_one() noexcept { --offered_; }

 private:
  io_uring_buf_ring* memory_ = nullptr;
  uring_ring* ring_ = nullptr;
  buffer_pool* pool_ = nullptr;
  std::uint32_t offered_ = 0;
};

}  // namespace keel::kevent_sys
