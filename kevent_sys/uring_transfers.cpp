// The operations of uring_engine that take more than one request: receives into pool buffers, and sendfile.

#include "file_transfer.hpp"
#include "uring_engine.hpp"
#include "uring_requests.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <algorithm>
#include <cerrno>
#include <new>

namespace keel::kevent_sys {
namespace {

// The steps of a sendfile.
constexpr std::uint8_t step_start = 0;
constexpr std::uint8_t step_warming = 1;  // a read brings the range into the page cache
constexpr std::uint8_t step_warm = 2;     // it is there as far as it can be
constexpr std::uint8_t step_waiting = 3;  // for room in the socket

std::uint32_t answer_flags(const io_uring_cqe& cqe) noexcept {
  std::uint32_t flags = (cqe.flags & IORING_CQE_F_MORE) != 0 ? answer::more_flag : 0;
  if ((cqe.flags & IORING_CQE_F_BUFFER) != 0) flags |= answer::buffer_flag | (cqe.flags & 0xffff0000u);
  return flags;
}

}  // namespace

void uring_engine::buffer_arrived(void* self, std::uint16_t id) noexcept {
  static_cast<uring_engine*>(self)->buffers_.offer(id);
}

void uring_engine::complete_receive(operation& op, const io_uring_cqe& cqe) noexcept {
  if (!here_.provided_buffers) {
    receive_by_call(op, cqe.res);
    return;
  }
  std::uint32_t flags = answer_flags(cqe);
  // The buffer first: it is ours whatever else the answer says.
  if ((flags & answer::buffer_flag) != 0) {
    buffers_.took_one();
    pool_->taken(static_cast<std::uint16_t>(flags >> 16));
    // A read at the end of a pipe names the buffer that it did not fill.
    if (cqe.res <= 0) {
      pool_->give_back(static_cast<std::uint16_t>(flags >> 16));
      flags &= answer::more_flag;
    }
  }
  if (cqe.res == -ENOBUFS) {
    ++counters_.starved;
    // Being cancelled, it must not say that the stream has failed.
    if (op.canceling()) {
      finish(op, -ECANCELED);
    } else {
      park(op);
    }
    return;
  }
  KEEL_ASSERT(cqe.res <= static_cast<int>(pool_->buffer_bytes()),
              "the kernel received more than a buffer holds");
  publish(op, answer{cqe.res, flags});
}

// Without provided buffers: the descriptor polled readable, or the poll failed.
void uring_engine::receive_by_call(operation& op, int ready) noexcept {
  if (ready < 0) {
    finish(op, ready);
    return;
  }
  if (op.canceling()) {
    finish(op, -ECANCELED);
    return;
  }
  const int id = pool_->take();
  if (id < 0) {
    ++counters_.starved;
    park(op);
    return;
  }
  const auto buffer = static_cast<std::uint16_t>(id);
  const iovec target{pool_->data(buffer), pool_->buffer_bytes()};
  const ssize_t n = op.asked.code == opcode::receive
                        ? ::recv(op.asked.fd, target.iov_base, target.iov_len, MSG_DONTWAIT)
                        : ::preadv2(op.asked.fd, &target, 1, -1, RWF_NOWAIT);
  const int error = n < 0 ? errno : 0;
  if (n > 0) {
    publish(op, answer{static_cast<int>(n), answer::buffer_flag | std::uint32_t{buffer} << 16});
    return;
  }
  pool_->give_back(buffer);
  if (error == EAGAIN || error == EINTR) {
    submit_again(op);
  } else {
    finish(op, -error);
  }
}

// All buffers are with readers: `op` waits for one to come home, unless the pool may grow.
void uring_engine::park(operation& op) noexcept {
  parked_.push_back(op);
  pool_->set_starving(true);
  const std::uint32_t room = options_.buffers_limit - std::min(options_.buffers_limit, pool_->size());
  for (std::uint32_t grown = 0, want = std::min(room, std::max(pool_->size(), 1u)); grown < want; ++grown) {
    const int id = pool_->grow();
    if (id < 0) break;
    pool_->adopt(static_cast<std::uint16_t>(id));
  }
}

void uring_engine::unpark() noexcept {
  if (parked_.empty()) return;
  // One receive per buffer at home: the others would only come back with ENOBUFS.
  std::uint32_t home = info_.provided_buffers ? buffers_.offered() : pool_->at_home();
  while (home-- > 0 && !parked_.empty()) {
    submit_again(parked_.pop_front());
  }
  if (parked_.empty()) pool_->set_starving(false);
}

void uring_engine::run_transfers() noexcept {
  intrusive_list<operation> round;
  round.splice_back(transfers_);
  while (!round.empty()) transfer(round.pop_front());
}

void uring_engine::transfer(operation& op) noexcept {
  const request& asked = op.asked;
  const auto bytes = static_cast<std::uint32_t>(std::min<std::uint64_t>(asked.count, transfer_slice));
  if (step(op) == step_start && !in_page_cache(asked.file_fd, asked.offset, bytes) && warm_up(op)) return;
  const int moved = send_slice(asked.fd, asked.file_fd, asked.offset, bytes);
  if (moved != -EAGAIN) {
    finish(op, moved);
    return;
  }
  step(op) = step_waiting;
  submit_again(op);
}

// False when it cannot be done: then the send waits for the disk itself.
bool uring_engine::warm_up(operation& op) noexcept {
  if (scratch_ == nullptr) scratch_ = new (std::nothrow) std::byte[transfer_slice];
  io_uring_sqe* sqe = scratch_ == nullptr ? nullptr : next_sqe();
  if (sqe == nullptr) return false;
  const auto bytes = static_cast<std::uint32_t>(std::min<std::uint64_t>(op.asked.count, transfer_slice));
  fill_warm_up(*sqe, op.asked.file_fd, op.asked.offset, scratch_, bytes);
  sqe->user_data = user_data_of(op);
  step(op) = step_warming;
  return true;
}

void uring_engine::complete_transfer(operation& op, int value) noexcept {
  const bool paused = step(op) == step_pausing;
  if (op.canceling() || (value < 0 && !paused)) {
    finish(op, op.canceling() ? -ECANCELED : value);
    return;
  }
  if (step(op) == step_waiting && pauses(op, value)) return;
  if (paused) step(op) = step_waiting;
  if (step(op) == step_warming) step(op) = step_warm;
  transfers_.push_back(op);
}

}  // namespace keel::kevent_sys
