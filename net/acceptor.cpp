#include "acceptor.hpp"

#include "socket_calls.hpp"

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

namespace keel::net {
namespace {

constexpr std::uint64_t pause_min_ns = 5'000'000;
constexpr std::uint64_t pause_max_ns = 100'000'000;

// Errors after which this socket will never accept again. All others concern one connection, or a shortage.
bool fatal(int error) noexcept {
  return error == EBADF || error == EINVAL || error == ENOTSOCK || error == EOPNOTSUPP || error == EFAULT;
}

}  // namespace

acceptor::acceptor(scheduler& home, unique_fd listening, bool ahead)
    : operation({.code = kevent_sys::opcode::accept, .multishot = ahead, .fd = listening.get()}, &event),
      descriptor_waiter(&descriptor_freed),
      home_(home),
      listening_(std::move(listening)) {}

result<tcp_stream> acceptor::take() noexcept {
  if (backlog_.empty()) return failure(kernel_error(error_), "accept");
  tcp_stream stream(std::move(backlog_.front()), tcp_stream::already_nonblocking());
  backlog_.pop_front();
  return stream;
}

void acceptor::wait(accept_op& who) noexcept {
  KEEL_ASSERT(waiting_ == nullptr, "one accept at a time: somebody waits on this listener already");
  waiting_ = &who;
  if (!in_flight() && !pause_.in_flight()) arm();
}

void acceptor::forget(accept_op& who) noexcept {
  if (waiting_ == &who) waiting_ = nullptr;
}

void acceptor::abandon() noexcept {
  KEEL_ASSERT(waiting_ == nullptr, "a listener was destroyed while somebody accepts");
  end_pause();
  if (!in_flight()) {
    end();
    return;
  }
  backlog_.clear();
  abandoned_ = true;
  home_.note_detached(1);
  home_.queue().cancel(*this);
}

void acceptor::end() noexcept {
  scheduler& home = home_;
  delete this;
  home.note_descriptor_freed();
}

void acceptor::arm() noexcept { home_.queue().submit(*this); }

// Without it, a listener with connections waiting and no descriptor left would fail a million times a second.
void acceptor::pause() noexcept {
  if (pause_.in_flight()) return;
  pause_ns_ = std::clamp(pause_ns_ * 2, pause_min_ns, pause_max_ns);
  home_.queue().arm_after(pause_, pause_ns_);
  home_.wait_for_descriptor(*this);
}

void acceptor::end_pause() noexcept {
  home_.queue().disarm(pause_);
  static_cast<descriptor_waiter&>(*this).unlink();
}

void acceptor::pause_over(kevent_sys::operation& self, kevent_sys::answer) noexcept {
  acceptor& me = static_cast<pause_timer&>(self).self;
  me.end_pause();
  if (!me.in_flight()) me.arm();
}

void acceptor::descriptor_freed(descriptor_waiter& self) noexcept {
  auto& me = static_cast<acceptor&>(self);
  me.end_pause();
  if (!me.in_flight()) me.arm();
}

void acceptor::keep(unique_fd accepted) noexcept {
  try {
    backlog_.push_back(std::move(accepted));
  } catch (const std::bad_alloc&) {
    // It is closed with this call.
  }
}

void acceptor::note(int value) noexcept {
  if (value >= 0) {
    keep(unique_fd(value));
    pause_ns_ = 0;
  } else if (fatal(-value)) {
    error_ = value;
  } else if (value != -ECANCELED && value != -ECONNABORTED && value != -EINTR && !abandoned_) {
    pause();
  }
}

void acceptor::event(kevent_sys::operation& self, kevent_sys::answer a) noexcept {
  auto& me = static_cast<acceptor&>(self);
  me.note(a.value);
  if (me.abandoned_) {
    me.backlog_.clear();
    if (a.more()) return;
    me.home_.note_detached(-1);
    me.end();
    return;
  }
  if (me.waiting_ == nullptr) {
    if (a.more()) me.home_.queue().cancel(me);
    return;
  }
  if (me.ready()) {
    std::exchange(me.waiting_, nullptr)->connection_ready();
  } else if (!a.more() && !me.pause_.in_flight()) {
    me.arm();
  }
}

}  // namespace keel::net
