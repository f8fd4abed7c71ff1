#include <keel/runtime/shared_mutex.hpp>

namespace keel {

void shared_mutex::grant() noexcept {
  while (!line_.empty() && try_take(static_cast<wait&>(line_.first()).shared_)) line_.grant_first();
}

void shared_mutex::wait::stopped(stop_callback& self, stop_level level) noexcept {
  leave(self, level);
  // A writer that leaves may have kept readers from others that are in.
  static_cast<wait&>(self).mutex_.grant();
}

}  // namespace keel
