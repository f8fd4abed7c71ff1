#include "user_ring.hpp"

#include <cerrno>

namespace keel::kevent_sys {

void user_ring::push(const ukevent& event) noexcept {
  KEEL_ASSERT(room() > 0);
  reinterpret_cast<ukevent*>(ring_ + 1)[kidx_] = event;
  kidx_ = kidx_ + 1 == size_ ? 0 : kidx_ + 1;
  ++used_;
  // The entry first, then the index: a thread that polls the index sees whole entries.
  __atomic_store_n(&ring_->ring_kidx, kidx_, __ATOMIC_RELEASE);
}

int user_ring::commit(std::uint32_t index, std::uint32_t over) noexcept {
  if (index >= size_) return -EINVAL;
  if (over != over_) return -EOVERFLOW;
  const std::uint32_t freed = index >= uidx_ ? index - uidx_ : size_ - uidx_ + index;
  if (freed > used_) return -EINVAL;
  if (index < uidx_) __atomic_store_n(&ring_->ring_over, ++over_, __ATOMIC_RELEASE);
  uidx_ = index;
  used_ -= freed;
  return static_cast<int>(freed);
}

}  // namespace keel::kevent_sys
