#include <keel/runtime/condition.hpp>

namespace keel {

condition::wait_op::wait_op(condition& wanted, mutex::guard& held) noexcept
    : queued_wait(&stopped),
      condition_(wanted),
      mutex_((KEEL_ASSERT(held, "who waits for a condition holds the mutex: this guard holds none"),
              *held.mutex_)) {}

std::coroutine_handle<> condition::wait_op::start(waiter& up, stop_context& context) noexcept {
  // Where it does not wait, the waiter may have gone on, and this object with its frame.
  mutex* unlocks = context.stopped(threshold) ? nullptr : &mutex_;
  const std::coroutine_handle<> then = wait_in(condition_.line_, up, context);
  if (unlocks != nullptr) unlocks->unlock();
  return then;
}

void condition::wait_op::stopped(stop_callback& self, stop_level) noexcept {
  auto& me = static_cast<wait_op&>(self);
  me.canceled_ = true;
  static_cast<place_in_line&>(me).unlink();
  relock(me);
}

// A stop does not reach it any more.
void condition::relock(wait_op& wait) noexcept {
  mutex& wanted = wait.mutex_;
  if (wanted.locked_) {
    wait.home().note_wait(wait.context().node(), wanted.line_.what());
    wanted.line_.push(wait);
  } else {
    wanted.locked_ = true;
    wait.wake();
  }
}

void condition::notify_one() noexcept {
  if (!line_.empty()) relock(static_cast<wait_op&>(line_.take_first()));
}

void condition::notify_all() noexcept {
  while (!line_.empty()) notify_one();
}

}  // namespace keel
