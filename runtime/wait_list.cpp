#include <keel/runtime/wait_list.hpp>

namespace keel {
namespace {

// Its address tells threads apart.
thread_local constinit char this_thread = 0;

}  // namespace

std::coroutine_handle<> queued_wait::wait_in(wait_list& line, waiter& up, stop_context& context) noexcept {
  if (context.stopped(threshold)) {
    canceled_ = true;
    return give_up(up, context);
  }
  begin(up, context, line.what_);
  line.push(*this);
  context.add(*this);
  return std::noop_coroutine();
}

void queued_wait::leave(stop_callback& self, stop_level) noexcept {
  auto& me = static_cast<queued_wait&>(self);
  me.canceled_ = true;
  static_cast<place_in_line&>(me).unlink();
  me.wake();
}

void wait_list::push(queued_wait& wait) noexcept {
  scheduler& home = wait.home();
  KEEL_ASSERT(
      waits_.empty() || home_ == &home,
      "a mutex, event, semaphore or the like belongs to the scheduler whose tasks use it: for several "
      "take messages, a sync_channel or a sync_event");
  home_ = &home;
  thread_ = &this_thread;
  waits_.push_back(wait);
}

queued_wait& wait_list::take_first() noexcept {
  KEEL_ASSERT(
      thread_ == &this_thread,
      "what tasks of a scheduler wait for is given on its own thread: from elsewhere post a message, or "
      "take a sync_channel or a sync_event");
  auto& wait = static_cast<queued_wait&>(waits_.pop_front());
  static_cast<stop_callback&>(wait).unlink();
  return wait;
}

void wait_list::grant_first() noexcept {
  take_first().wake();
}

}  // namespace keel
