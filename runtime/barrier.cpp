#include <keel/runtime/barrier.hpp>

namespace keel {

// Whether that ended the phase.
bool barrier::arrive() noexcept {
  KEEL_ASSERT(missing_ > 0, "more tasks arrive at a barrier than it was made for");
  if (--missing_ != 0) return false;
  end_phase();
  return true;
}

void barrier::end_phase() noexcept {
  if (on_phase_ != nullptr) on_phase_(on_phase_context_);
  missing_ = participants_;
  ++phase_;
  line_.grant_all();
}

void barrier::arrive_and_drop() noexcept {
  KEEL_ASSERT(participants_ > 0, "more tasks leave a barrier than it was made for");
  --participants_;
  arrive();
}

std::coroutine_handle<> barrier::wait_op::start(waiter& up, stop_context& context) noexcept {
  if (barrier_.arrive()) return go_on(up, context);
  if (context.stopped(threshold)) ++barrier_.missing_;
  return wait_in(barrier_.line_, up, context);
}

void barrier::wait_op::stopped(stop_callback& self, stop_level level) noexcept {
  leave(self, level);
  ++static_cast<wait_op&>(self).barrier_.missing_;
}

}  // namespace keel
