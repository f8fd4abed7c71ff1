// Private to kevent_sys: the ring in the memory of a caller of kevent_init.
#pragma once

#include <keel/kevent_sys/kevent.h>
#include <keel/base/assert.hpp>

#include <cstdint>

namespace keel::kevent_sys {

// The producer's side of a kevent_ring, and the consumer index that commits move. The caller's memory is only
// written: what is read back from there could have been changed by anybody. A value; whoever has it locks.
//
// INVARIANT: used_ <= size_; kidx_ == (uidx_ + used_) mod size_.
class user_ring {
 public:
  user_ring() noexcept = default;
  // REQUIRES: `size` entries behind `ring`, size >= 2
  user_ring(kevent_ring* ring, std::uint32_t size) noexcept : ring_(ring), size_(size) {
    KEEL_ASSERT(ring != nullptr && size >= 2);
  }

  bool present() const noexcept { return ring_ != nullptr; }
  std::uint32_t size() const noexcept { return size_; }
  std::uint32_t room() const noexcept { return size_ - used_; }
  // Where the consumer is: entries before it are free.
  std::uint32_t consumer_index() const noexcept { return uidx_; }

  // REQUIRES: room() > 0
  void push(const ukevent& event) noexcept;

  // Frees the entries before `index`. Returns how many, -EOVERFLOW when `over` is stale, or -EINVAL.
  int commit(std::uint32_t index, std::uint32_t over) noexcept;

 private:
  kevent_ring* ring_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t kidx_ = 0;
  std::uint32_t uidx_ = 0;
  std::uint32_t used_ = 0;
  std::uint32_t over_ = 0;
};

}  // namespace keel::kevent_sys
