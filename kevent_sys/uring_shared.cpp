// What uring_engine does only for a queue of several threads.

#include "uring_engine.hpp"

#include <sys/socket.h>
#include <cerrno>

namespace keel::kevent_sys {

void uring_engine::do_block(std::uint64_t deadline_ns) noexcept {
  KEEL_ASSERT(options_.shared, "an engine of one thread sleeps in poll()");
  std::uint64_t limit_ns = never;
  if (deadline_ns != never) {
    const std::uint64_t now = do_now_ns();
    if (deadline_ns <= now) return;
    limit_ns = deadline_ns - now;
  }
  // Whatever it answers: whoever slept looks by himself.
  ring_.sleep(limit_ns);
}

// A completion that belongs to nobody.
void uring_engine::do_ring() noexcept {
  if (bell_) {
    ring_bell();
    return;
  }
  KEEL_ASSERT(options_.shared);
  if (ringing_) return;
  io_uring_sqe* sqe = next_sqe();
  if (sqe != nullptr) {
    sqe->opcode = IORING_OP_NOP;
    sqe->user_data = mark_ring;
    ringing_ = true;
  }
  // Without an entry the kernel has many, and many completions to come of them.
  enter(0, 0);
}

void uring_engine::do_set_alarm(std::uint64_t deadline_ns) noexcept {
  KEEL_ASSERT(options_.shared || bell_);
  // One that comes too early is cheaper than to change it: whoever it wakes sets it anew.
  if (deadline_ns >= alarm_ns_) return;
  alarm_time_.tv_sec = static_cast<long long>(deadline_ns / 1'000'000'000);
  alarm_time_.tv_nsec = static_cast<long long>(deadline_ns % 1'000'000'000);
  alarm_wanted_ = true;
  if (fill_alarm()) enter(0, 0);
}

bool uring_engine::fill_alarm() noexcept {
  io_uring_sqe* sqe = next_sqe();
  if (sqe == nullptr) return false;
  const auto time = reinterpret_cast<std::uintptr_t>(&alarm_time_);
  if (alarm_ns_ == never) {
    sqe->opcode = IORING_OP_TIMEOUT;
    sqe->addr = time;
    sqe->len = 1;
    sqe->timeout_flags = IORING_TIMEOUT_ABS;
    sqe->user_data = mark_alarm;
  } else {
    // When it has fired meanwhile this fails, and its completion sets the alarm anew.
    sqe->opcode = IORING_OP_TIMEOUT_REMOVE;
    sqe->addr = mark_alarm;
    sqe->addr2 = time;
    sqe->timeout_flags = IORING_TIMEOUT_UPDATE | IORING_TIMEOUT_ABS;
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = mark_nobody;
  }
  alarm_wanted_ = false;
  alarm_ns_ = static_cast<std::uint64_t>(alarm_time_.tv_sec) * 1'000'000'000 +
              static_cast<std::uint64_t>(alarm_time_.tv_nsec);
  return true;
}

void uring_engine::complete_mark(const io_uring_cqe& cqe) noexcept {
  switch (cqe.user_data) {
    case mark_ring: ringing_ = false; break;
    case mark_calls:
      if ((cqe.flags & IORING_CQE_F_MORE) == 0) calls_watched_ = false;
      break;
    case mark_alarm: alarm_ns_ = never; break;
    // mark_nobody: a cancel that came too late. The operation speaks for itself.
    default: break;
  }
}

// The kernel ends what a thread has submitted when that thread exits. That is no end for us: the next thread
// submits it again, and what has happened meanwhile is seen then.
bool uring_engine::goes_on_elsewhere(operation& op, const io_uring_cqe& cqe) noexcept {
  if (cqe.res != -ECANCELED || op.canceling()) return false;
  // Begun by the first attempt: a second one would be refused.
  if (op.asked.code == opcode::connect) step(op) = step_polling;
  submit_again(op);
  return true;
}

void uring_engine::complete_connect(operation& op, int value) noexcept {
  if (step(op) == step_polling && value >= 0) {
    int error = 0;
    socklen_t size = sizeof error;
    if (::getsockopt(op.asked.fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    value = -error;
  }
  finish(op, value);
}

}  // namespace keel::kevent_sys
