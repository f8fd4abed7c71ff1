#include <keel/runtime/with_timeout.hpp>

namespace keel::detail {

stop_context& deadline::begin(stop_context& outer) noexcept {
  context_.attach(outer);
  scheduler& home = outer.home();
  if (relative_) {
    home.queue().arm_after(*this, time_ns_);
    context_.narrow_deadline(later(home.now(), time_ns_).since_boot_ns());
  } else {
    home.queue().arm_at(*this, time_ns_);
    context_.narrow_deadline(time_ns_);
  }
  return context_;
}

void deadline::end() noexcept {
  context_.home().queue().disarm(*this);
  context_.detach();
}

void deadline::fired_at(kevent_sys::operation& self, kevent_sys::answer) noexcept {
  auto& me = static_cast<deadline&>(self);
  if (me.context_.stopped()) return;
  me.passed_ = true;
  me.context_.request_stop(stop_level::hard);
}

}  // namespace keel::detail
