#include <keel/runtime/shared_task.hpp>

namespace keel::detail {

void shared_state_base::begin(scheduler& home) noexcept {
  begun_ = true;
  share();
  try {
    runner_.emplace(spawn_runner(home));
  } catch (...) {
    fail(std::current_exception());
    finish();
  }
}

void shared_state_base::finish() noexcept {
  done_ = true;
  while (!waits_.empty()) {
    auto& wait = static_cast<shared_wait&>(waits_.front());
    wait.leave();
    wait.wake();
  }
  release();
}

shared_wait::shared_wait(shared_state_base& state) noexcept : stop_callback(&stopped), state_(&state) {
  state.share();
}

std::coroutine_handle<> shared_wait::start(waiter& up, stop_context& context) noexcept {
  KEEL_ASSERT(!begun(), "a wait for a shared task is awaited once");
  if (!state_->done_ && context.stopped()) {
    canceled_ = true;
    return give_up(up, context);
  }
  if (!state_->begun_) state_->begin(context.home());
  if (state_->done_) return go_on(up, context);
  begin(up, context, "a shared task");
  context.add(*this);
  state_->waits_.push_back(*this);
  return std::noop_coroutine();
}

void shared_wait::leave() noexcept {
  static_cast<shared_waiter&>(*this).unlink();
  static_cast<stop_callback&>(*this).unlink();
}

void shared_wait::stopped(stop_callback& self, stop_level) noexcept {
  auto& me = static_cast<shared_wait&>(self);
  me.leave();
  me.canceled_ = true;
  if (me.state_->waits_.empty()) me.state_->runner_->request_stop();
  me.wake();
}

}  // namespace keel::detail
