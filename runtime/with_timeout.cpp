#include <keel/runtime/with_timeout.hpp>

namespace keel::detail {

stop_context& deadline::begin(stop_context& outer) noexcept {
  context_.attach(outer);
  outer.home().queue().arm_after(*this, delay_ns_);
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
