// The attempts of epoll_engine: one step of each operation, as far as it gets without waiting.

#include "epoll_engine.hpp"
#include "epoll_requests.hpp"
#include "file_transfer.hpp"

#include <sys/socket.h>
#include <algorithm>
#include <cerrno>

namespace keel::kevent_sys {
namespace {

// What one operation may do in a turn before others have theirs.
constexpr int answers_per_turn = 16;

// How long a connect leaves a peer alone whose backlog is full: nothing tells when it has room.
constexpr std::uint64_t retry_delay_ns = 2'000'000;

constexpr std::uint8_t step_start = 0;
constexpr std::uint8_t step_begun = 1;

}  // namespace

bool epoll_engine::attempt(operation& op) noexcept {
  switch (op.asked.code) {
    case opcode::nop: finish(op, 0); return false;
    case opcode::wake:
      wakes_.push_back(op);
      if (woken_) tell_woken();
      return false;
    // Registering is asking: what is ready already comes back as an edge.
    case opcode::poll: return true;
    case opcode::accept: return attempt_accept(op);
    case opcode::connect: return attempt_connect(op);
    case opcode::recv: return attempt_recv(op);
    case opcode::receive:
    case opcode::drain: return attempt_receive(op);
    case opcode::send: return attempt_send(op);
    case opcode::sendfile: return attempt_sendfile(op);
    case opcode::read: return attempt_read(op);
    case opcode::write: return attempt_write(op);
    case opcode::close: close_descriptor(op); return false;
    case opcode::open: hand_to_pool(op); return false;
    case opcode::futex: wait_for_word(op); return false;
    case opcode::call:
    case opcode::timer: break;
  }
  KEEL_ASSERT(false, "timers belong to the queue, and calls to the pool");
  return false;
}

bool epoll_engine::ended_unless_blocked(operation& op, int value) noexcept {
  const bool sockets_own = op.asked.code == opcode::recv || op.asked.code == opcode::send;
  if (value == -EAGAIN && !(sockets_own && (op.asked.flags & MSG_DONTWAIT) != 0)) return true;
  finish(op, value);
  return false;
}

bool epoll_engine::attempt_accept(operation& op) noexcept {
  for (int i = 0; i < answers_per_turn && (sink_.room() > 0 || !op.asked.multishot); ++i) {
    const int value = accept_now(op.asked);
    if (value < 0 || !op.asked.multishot) return ended_unless_blocked(op, value);
    publish(op, answer{value, answer::more_flag});
  }
  ready_.push_back(op);
  return false;
}

bool epoll_engine::attempt_connect(operation& op) noexcept {
  const int value = connect_now(op.asked, step(op) == step_begun);
  if (value == -EAGAIN) step(op) = step_begun;
  if (value != -EBUSY) return ended_unless_blocked(op, value);
  retrying_.push_back(op);
  retry_ns_ = std::min(retry_ns_, do_now_ns() + retry_delay_ns);
  if (options_.shared && !ringing_) arm_timer();
  return false;
}

void epoll_engine::retry_connects() noexcept {
  if (do_now_ns() < retry_ns_) return;
  retry_ns_ = never;
  ready_.splice_back(retrying_);
}

// After a read that took all there was, the next one would be in vain more often than not: it asks first.
bool epoll_engine::attempt_recv(operation& op) noexcept {
  watched_descriptor* d = set_.find(op.asked.fd);
  const bool first = step(op) == step_start;
  step(op) = step_begun;
  if (first) progress(op) = 0;
  if (first && d != nullptr && d->dry && (op.asked.flags & MSG_DONTWAIT) == 0) return true;
  const auto done = static_cast<std::uint32_t>(progress(op));
  const int value = recv_now(op.asked, done);
  if (d != nullptr && value >= 0) d->dry = static_cast<std::uint32_t>(value) < op.asked.size_bytes - done;
  return waits_for_rest(op, value);
}

bool epoll_engine::attempt_send(operation& op) noexcept {
  if (step(op) == step_start) progress(op) = 0;
  step(op) = step_begun;
  return waits_for_rest(op, send_now(op.asked, static_cast<std::uint32_t>(progress(op))));
}

// With MSG_WAITALL part of it is no answer, unless the rest cannot come. True when `op` has to wait.
bool epoll_engine::waits_for_rest(operation& op, int value) noexcept {
  std::int32_t& done = progress(op);
  if (value <= 0 && value != -EAGAIN && done > 0) value = 0;
  if (value < 0) return ended_unless_blocked(op, value);
  done += value;
  const bool all = value == 0 || static_cast<std::uint32_t>(done) == op.asked.size_bytes;
  if (!all && wants_all(op.asked)) {
    // There may be more already; what a registration sees is asked for in the next turn.
    step(op) = step_begun;
    ready_.push_back(op);
    return false;
  }
  finish(op, done);
  return false;
}

bool epoll_engine::attempt_receive(operation& op) noexcept {
  if (pool_ == nullptr) {
    finish(op, -ENOBUFS);
    return false;
  }
  // A buffer is for what is there: a thousand that ask at once would find none.
  if (step(op) == step_start) {
    step(op) = step_begun;
    return true;
  }
  for (int i = 0; i < answers_per_turn && sink_.room() > 0; ++i) {
    const int id = pool_->take();
    if (id < 0) {
      starve(op);
      return false;
    }
    const auto buffer = static_cast<std::uint16_t>(id);
    const auto read = op.asked.code == opcode::drain ? &drain_into : &recv_into;
    const int value = read(op.asked.fd, pool_->data(buffer), pool_->buffer_bytes());
    if (value <= 0) {
      pool_->give_back(buffer);
      return ended_unless_blocked(op, value);
    }
    const std::uint32_t flags = answer::buffer_flag | std::uint32_t{buffer} << 16;
    publish(op, answer{value, op.asked.multishot ? flags | answer::more_flag : flags});
    if (!op.asked.multishot) return false;
  }
  ready_.push_back(op);
  return false;
}

// All buffers are with readers: `op` waits for one to come home, unless the pool may grow.
void epoll_engine::starve(operation& op) noexcept {
  ++counters_.starved;
  starved_.push_back(op);
  pool_->set_starving(true);
  const std::uint32_t room = options_.buffers_limit - std::min(options_.buffers_limit, pool_->size());
  for (std::uint32_t grown = 0, want = std::min(room, std::max(pool_->size(), 1u)); grown < want; ++grown) {
    const int id = pool_->grow();
    if (id < 0) break;
    pool_->adopt(static_cast<std::uint16_t>(id));
  }
}

void epoll_engine::unpark() noexcept {
  if (starved_.empty()) return;
  // One receive per buffer at home: the others would only starve again.
  for (std::uint32_t home = pool_->at_home(); home > 0 && !starved_.empty(); --home)
    ready_.push_back(starved_.pop_front());
  if (starved_.empty()) pool_->set_starving(false);
}

bool epoll_engine::attempt_sendfile(operation& op) noexcept {
  const request& asked = op.asked;
  const auto bytes = static_cast<std::uint32_t>(std::min<std::uint64_t>(asked.count, transfer_slice));
  if (step(op) == step_start && !in_page_cache(asked.file_fd, asked.offset, bytes)) {
    hand_to_pool(op);
    return false;
  }
  step(op) = step_begun;
  return ended_unless_blocked(op, send_slice(asked.fd, asked.file_fd, asked.offset, bytes));
}

bool epoll_engine::attempt_read(operation& op) noexcept {
  if (step(op) == step_start && is_file(op.asked.fd)) {
    const int value = read_cached(op.asked);
    if (value != -EAGAIN) {
      finish(op, value);
    } else {
      hand_to_pool(op);
    }
    return false;
  }
  step(op) = step_begun;
  return ended_unless_blocked(op, read_stream_now(op.asked));
}

bool epoll_engine::attempt_write(operation& op) noexcept {
  if (step(op) == step_start && is_file(op.asked.fd)) {
    hand_to_pool(op);
    return false;
  }
  step(op) = step_begun;
  return ended_unless_blocked(op, write_stream_now(op.asked));
}

void epoll_engine::hand_to_pool(operation& op) noexcept {
  set_on_thread(op, true);
  calls_->submit(op);
}

// On a thread of the pool.
std::int32_t epoll_engine::perform(operation& op) noexcept {
  switch (op.asked.code) {
    case opcode::call: return engine_calls::call(op);
    case opcode::open: return open_file(op.asked);
    case opcode::read: return read_file(op.asked);
    case opcode::write: return write_file(op.asked);
    case opcode::sendfile: return warm_up(op.asked, transfer_slice);
    default: break;
  }
  KEEL_ASSERT(false, "no request that blocks");
  return -EINVAL;
}

void epoll_engine::came_from_pool(operation& op, int value) noexcept {
  set_on_thread(op, false);
  // No thread can be had: it is better done here than not at all.
  if (value == -EAGAIN && op.asked.code != opcode::call) value = perform(op);
  if (op.asked.code != opcode::sendfile || value < 0) {
    finish(op, value);
  } else if (op.canceling()) {
    finish(op, -ECANCELED);
  } else {
    step(op) = step_begun;
    ready_.push_back(op);
  }
}

void epoll_engine::wait_for_word(operation& op) noexcept {
  if (!futexes_) futexes_.emplace(&ring_bell, this);
  const int value = futexes_->add(op);
  if (value != -EINPROGRESS) finish(op, value);
}

// What other threads have answered.
void epoll_engine::collect_answers() noexcept {
  calls_->collect([this](operation& op, int value) { came_from_pool(op, value); });
  if (futexes_) futexes_->collect([this](operation& op) { finish(op, 0); });
}

void epoll_engine::close_descriptor(operation& op) noexcept {
  // Its registration first: the file may live on under another number.
  if (watched_descriptor* d = set_.find(op.asked.fd)) {
    set_.withdraw(*d);
    orphans_.splice_back(d->waiting);
  }
  finish(op, close_file(op.asked));
}

}  // namespace keel::kevent_sys
