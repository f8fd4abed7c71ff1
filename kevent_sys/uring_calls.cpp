// opcode::call of uring_engine: a thread of the blocking pool does it, and an eventfd ends the sleep.

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cerrno>

#include "uring_engine.hpp"

namespace keel::kevent_sys {

void uring_engine::submit_call(operation& op) noexcept {
  if (!calls_fd_) calls_fd_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (calls_fd_) {
    calls_.submit(op);
  } else {
    calls_.refuse(op, -errno);
  }
}

void uring_engine::cancel_call(operation& op) noexcept {
  if (calls_.take_back(op)) finish(op, -ECANCELED);
}

void uring_engine::collect_calls() noexcept {
  calls_.collect([this](operation& op, int value) { finish(op, value); });
}

// False when the end of a call would not end a sleep: the submission queue is full.
bool uring_engine::watch_calls() noexcept {
  if (calls_watched_ || calls_.out() == 0) return true;
  io_uring_sqe* sqe = next_sqe();
  if (sqe == nullptr) return false;
  // Not read, so each write is an edge; and a poll that is armed late finds it readable.
  sqe->opcode = IORING_OP_POLL_ADD;
  sqe->fd = calls_fd_.get();
  sqe->poll32_events = POLLIN;
  sqe->len = IORING_POLL_ADD_MULTI;
  sqe->user_data = mark_calls;
  calls_watched_ = true;
  return true;
}

// On a thread of the pool.
void uring_engine::call_finished(void* self) noexcept {
  const std::uint64_t one = 1;
  const auto& me = *static_cast<uring_engine*>(self);
  [[maybe_unused]] const auto written = ::write(me.calls_fd_.get(), &one, sizeof one);
  me.ring_bell();
}

}  // namespace keel::kevent_sys
