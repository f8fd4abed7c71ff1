#include <keel/runtime/semaphore.hpp>

namespace keel {

void semaphore::grant() noexcept {
  while (!line_.empty()) {
    const std::size_t wanted = static_cast<acquire_op&>(line_.first()).count_;
    if (wanted > available_) return;
    available_ -= wanted;
    line_.grant_first();
  }
}

void semaphore::acquire_op::stopped(stop_callback& self, stop_level level) noexcept {
  leave(self, level);
  // Those behind may want less.
  static_cast<acquire_op&>(self).semaphore_.grant();
}

}  // namespace keel
