#include "receiver.hpp"

#include <keel/net/stream_ops.hpp>

#include "socket_calls.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace keel::net {

receiver::receiver(scheduler& home, int fd) noexcept
    : operation({.code = kevent_sys::opcode::receive, .multishot = true, .fd = fd}, &event),
      home_(home),
      queue_(home.queue().buffers()) {}

result<kevent_sys::buffer_lease> receiver::take() noexcept {
  auto chunk = next();
  if (chunk && home_.queue().buffers().scarce()) chunk->keep_copy();
  return chunk;
}

result<kevent_sys::buffer_lease> receiver::next() noexcept {
  if (!front_.empty()) return std::move(front_);
  if (!queue_.empty()) return queue_.pop();
  KEEL_ASSERT(ended_);
  if (error_ != 0) return failure(kernel_error(error_), "receive");
  return kevent_sys::buffer_lease();
}

result<std::size_t> receiver::copy(byte_span target) noexcept {
  auto chunk = next();
  if (!chunk) return chunk.why();
  const std::size_t n = std::min(target.size(), chunk->size());
  if (n == 0) return n;
  std::memcpy(target.data(), chunk->data(), n);
  chunk->remove_prefix(n);
  front_ = *std::move(chunk);
  if (front_.empty()) front_.reset();
  if (home_.queue().buffers().scarce()) front_.keep_copy();
  return n;
}

void receiver::wait(chunk_awaiter& who) noexcept {
  KEEL_ASSERT(waiting_ == nullptr, "one reader at a time: somebody waits for this stream already");
  waiting_ = &who;
  if (!in_flight()) arm();
}

void receiver::forget(chunk_awaiter& who) noexcept {
  if (waiting_ == &who) waiting_ = nullptr;
}

void receiver::arm() noexcept { home_.queue().submit(*this); }

void receiver::disarm(runnable* then) noexcept {
  KEEL_ASSERT(in_flight());
  closing_ = true;
  when_disarmed_ = then;
  home_.queue().cancel(*this);
}

void receiver::abandon(unique_fd fd) noexcept {
  KEEL_ASSERT(waiting_ == nullptr, "a stream was destroyed while somebody waits for it");
  if (!in_flight()) {
    fd.reset();
    note_descriptor_freed();
    delete this;
    return;
  }
  KEEL_ASSERT(scheduler::current() == &home_, "a stream that receives is destroyed on its own scheduler");
  abandoned_ = std::move(fd);
  home_.note_detached(1);
  disarm(nullptr);
}

void receiver::note(kevent_sys::answer a) noexcept {
  // The buffer first: it is ours even when the rest is an error.
  if (a.has_buffer()) {
    if (a.value > 0) {
      queue_.push(a.buffer(), static_cast<std::uint32_t>(a.value));
    } else {
      home_.queue().buffers().give_back(a.buffer());
    }
  }
  if (a.value > 0) return;
  // We stopped it ourselves: the stream goes on with the next wait.
  if (a.value == -ECANCELED && !closing_) return;
  ended_ = true;
  error_ = a.value;
}

// A stream that nobody reads stops receiving after a few buffers; at once, and without holding any, when
// others need them.
void receiver::limit_queue(bool more) noexcept {
  const bool scarce = waiting_ == nullptr && home_.queue().buffers().scarce();
  if (more && (scarce || queue_.count() >= queued_max)) home_.queue().cancel(*this);
  if (!more && scarce && !queue_.empty()) queue_.join(front_);
}

void receiver::event(kevent_sys::operation& self, kevent_sys::answer a) noexcept {
  auto& me = static_cast<receiver&>(self);
  me.note(a);
  if (me.closing_) {
    if (a.more()) return;
    if (me.abandoned_) {
      me.home_.note_detached(-1);
      me.abandoned_.reset();
      me.home_.note_descriptor_freed();
      delete &me;
      return;
    }
    if (me.when_disarmed_ != nullptr) me.home_.make_ready(*std::exchange(me.when_disarmed_, nullptr));
    // Whoever waits hears of it before the stream is closed.
    if (me.waiting_ != nullptr) std::exchange(me.waiting_, nullptr)->chunk_ready();
    return;
  }
  me.limit_queue(a.more());
  if (me.waiting_ == nullptr) return;
  if (me.ready()) {
    std::exchange(me.waiting_, nullptr)->chunk_ready();
  } else if (!a.more()) {
    me.arm();
  }
}

}  // namespace keel::net
