#include <keel/runtime/sync_wait.hpp>

namespace keel::detail {
namespace {

// How often a lock is looked at before its owner is taken to have lost its CPU.
constexpr int spins = 64;

}  // namespace

void short_lock::lock_slowly() noexcept {
  for (int i = 0; i < spins; ++i) {
    std::uint32_t expected = 0;
    if (state_.load(std::memory_order_relaxed) == 0 &&
        state_.compare_exchange_weak(expected, 1, std::memory_order_acquire, std::memory_order_relaxed))
      return;
  }
  while (state_.exchange(2, std::memory_order_acquire) != 0) state_.wait(2, std::memory_order_relaxed);
}

void sync_wait::begin(waiter& up, stop_context& context, const char* what, short_lock& lock,
                      sync_place& place) noexcept {
  wait_point::begin(up, context, what);
  context.add(*this);
  lock_ = &lock;
  place_ = &place;
  place.owner = this;
}

void sync_wait::told(sync_waker& self) noexcept {
  auto& me = static_cast<sync_wait&>(self);
  scheduler& to = me.home();
  if (scheduler::current() == &to) {
    static_cast<stop_callback&>(me).unlink();
    me.wake();
  } else {
    to.post(me);
  }
}

void sync_wait::delivered(message& self, scheduler&) noexcept {
  auto& me = static_cast<sync_wait&>(self);
  // Whoever posted this holds the lock until it has left our scheduler and the object.
  me.lock_->lock();
  me.lock_->unlock();
  static_cast<stop_callback&>(me).unlink();
  me.wake();
}

void sync_wait::stopped(stop_callback& self, stop_level) noexcept {
  auto& me = static_cast<sync_wait&>(self);
  {
    const holding here(*me.lock_);
    if (me.place_->how != outcome::none) return;
    me.place_->unlink();
    me.place_->how = outcome::canceled;
  }
  me.wake();
}

thread_wait::thread_wait() noexcept : sync_waker(&told) {
  KEEL_ASSERT(scheduler::current() == nullptr,
              "this would block a scheduler: tasks use co_await, plain threads the calls that block");
}

void thread_wait::told(sync_waker& self) noexcept {
  auto& me = static_cast<thread_wait&>(self);
  me.told_.store(1, std::memory_order_release);
  me.told_.notify_one();
}

void thread_wait::block(short_lock& lock) noexcept {
  told_.wait(0, std::memory_order_acquire);
  // Whoever told us holds the lock until it has left this object.
  lock.lock();
  lock.unlock();
}

}  // namespace keel::detail
