#include <keel/runtime/sync_event.hpp>

namespace keel {

sync_event::~sync_event() {
  KEEL_ASSERT(waiters_.empty(),
              "a sync_event was destroyed while somebody waits for it: set it, and await them");
}

void sync_event::set() noexcept {
  const detail::holding here(lock_);
  set_ = true;
  while (!waiters_.empty()) waiters_.front().settle(outcome::done);
}

void sync_event::reset() noexcept {
  const detail::holding here(lock_);
  set_ = false;
}

bool sync_event::is_set() noexcept {
  const detail::holding here(lock_);
  return set_;
}

void sync_event::wait_blocking() noexcept {
  detail::thread_wait wait;
  detail::sync_place place;
  {
    const detail::holding here(lock_);
    if (set_) return;
    wait.begin(place);
    waiters_.push_back(place);
  }
  wait.block(lock_);
}

std::coroutine_handle<> sync_event_op::start(waiter& up, stop_context& context) noexcept {
  if (context.stopped()) {
    how = outcome::canceled;
    return wait_.give_up(up, context);
  }
  event_->lock_.lock();
  if (event_->set_) {
    event_->lock_.unlock();
    how = outcome::done;
    return wait_.go_on(up, context);
  }
  wait_.begin(up, context, "an event of any thread", event_->lock_, *this);
  event_->waiters_.push_back(*this);
  event_->lock_.unlock();
  return std::noop_coroutine();
}

result<void> sync_event_op::take() noexcept {
  if (how == outcome::canceled) return failure(errc::operation_canceled, "sync_event::wait");
  return {};
}

}  // namespace keel
