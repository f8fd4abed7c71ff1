#include <keel/runtime/handle.hpp>

#include <keel/runtime/futex.hpp>

#include "door.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace keel {

handle runtime::handle(unsigned index) noexcept {
  return keel::handle(*this, index);
}

handle::handle(runtime& rt, unsigned index) noexcept : door_(&rt.entrance()), index_(index) {
  KEEL_ASSERT(index < rt.size(), "a handle was made for a scheduler that the runtime does not have");
  door_->share();
}

handle::handle(const handle& other) noexcept : door_(other.door_), index_(other.index_) {
  door_->share();
}

handle& handle::operator=(const handle& other) noexcept {
  other.door_->share();
  door_->let_go();
  door_ = other.door_;
  index_ = other.index_;
  return *this;
}

handle::~handle() {
  door_->let_go();
}

bool handle::send(detail::errand& what) const noexcept {
  if (!door_->enter()) return false;
  runtime& rt = door_->owner();
  what.counted = rt.note_errand(index_);
  rt.at(index_).post(what);
  door_->leave();
  return true;
}

bool handle::request_stop(stop_level level) const noexcept {
  if (!door_->enter()) return false;
  door_->owner().request_stop(level);
  door_->leave();
  return true;
}

namespace detail {

void foreign_wait::check_thread() noexcept {
  KEEL_ASSERT(scheduler::current() == nullptr,
              "handle::run() blocks its thread: on a scheduler's, spawn the task and co_await its handle");
}

// std::atomic's own notify_one() uses the object after it has let the waiter go.
void foreign_wait::wait() const noexcept {
  while (done_.load(std::memory_order_acquire) == 0)
    ::syscall(SYS_futex, &done_, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
}

void foreign_wait::finish() noexcept {
  // The waiting thread may see the word before it is woken, and be gone then: a wake needs no more than an
  // address.
  const std::atomic<std::uint32_t>& word = done_;
  done_.store(1, std::memory_order_release);
  futex_wake(word);
}

}  // namespace detail
}  // namespace keel
