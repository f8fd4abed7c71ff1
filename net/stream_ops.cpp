#include <keel/net/stream_ops.hpp>

#include <keel/net/tcp_stream.hpp>

#include "receiver.hpp"

#include <sys/socket.h>
#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

namespace keel::net {
namespace {

// The kernel moves at most this many bytes in one call.
constexpr std::size_t transfer_max = 0x7ffff000;

std::uint32_t clamped(std::size_t bytes) noexcept {
  return static_cast<std::uint32_t>(std::min(bytes, transfer_max));
}

kevent_sys::request send_request(int fd, const_byte_span bytes, std::uint32_t flags) noexcept {
  return {.code = kevent_sys::opcode::send,
          .fd = fd,
          .size_bytes = clamped(bytes.size()),
          .flags = flags,
          .data = bytes.data()};
}

}  // namespace

chunk_awaiter::chunk_awaiter() noexcept : stop_callback(&chunk_awaiter::stopped) {}

std::coroutine_handle<> chunk_awaiter::start(receiver& from, waiter& up, stop_context& context) noexcept {
  // What has come already is given even to a task that is being stopped: it cannot be given back.
  reuse();
  if (from.ready()) return go_on(up, context);
  if (context.stopped()) {
    canceled_ = true;
    return give_up(up, context);
  }
  from_ = &from;
  begin(up, context, "bytes");
  context.add(*this);
  from.wait(*this);
  return std::noop_coroutine();
}

void chunk_awaiter::chunk_ready() noexcept {
  static_cast<stop_callback&>(*this).unlink();
  resume();
}

void chunk_awaiter::stopped(stop_callback& self, stop_level) noexcept {
  auto& me = static_cast<chunk_awaiter&>(self);
  me.canceled_ = true;
  me.from_->forget(me);
  me.wake();
}

std::coroutine_handle<> receive_op::start(waiter& up, stop_context& context) noexcept {
  KEEL_ASSERT(stream_.in_.busy == nullptr, "one reader at a time: a recv is in flight on this stream");
  receiver* from = stream_.receiver_on(context.home());
  return from != nullptr ? chunk_.start(*from, up, context) : up.next(&up);
}

result<buffer_lease> receive_op::take() {
  if (chunk_.canceled()) return failure(errc::operation_canceled, "receive");
  if (stream_.receiver_ == nullptr) throw std::bad_alloc();
  return stream_.receiver_->take();
}

recv_op::recv_op(tcp_stream& stream, byte_span target, bool exactly) noexcept
    : operation_awaiter({.code = kevent_sys::opcode::recv,
                         .fd = stream.fd(),
                         .size_bytes = clamped(target.size()),
                         .data = target.data()}),
      waiter(&chunk_ended),
      stream_(stream),
      target_(target),
      exactly_(exactly) {
  KEEL_ASSERT(!target.empty(), "a receive needs room for at least one byte");
  occupy(stream.in_);
  steps_with(&received);
}

recv_op::recv_op(recv_op&& other) noexcept
    : operation_awaiter(std::move(other)),
      waiter(&chunk_ended),
      stream_(other.stream_),
      target_(other.target_),
      exactly_(other.exactly_) {}

std::coroutine_handle<> recv_op::start(waiter& up, stop_context& context) noexcept {
  if (stream_.receiver_ == nullptr) return operation_awaiter::start(up, context);
  up_ = &up;
  context_ = &context;
  return go_on();
}

// Counts what came; true when that is all.
bool recv_op::enough(std::size_t received) noexcept {
  filled_ += received;
  if (received == 0 && exactly_) error_ = errc::end_of_stream;
  return received == 0 || !exactly_ || filled_ == target_.size();
}

// Without a receiver: one step of the operation.
bool recv_op::received(operation_awaiter& self) noexcept {
  auto& me = static_cast<recv_op&>(self);
  if (me.value() < 0) {
    me.error_ = kernel_error(me.value());
    return false;
  }
  if (me.enough(static_cast<std::size_t>(me.value()))) return false;
  me.asked().data = me.target_.data() + me.filled_;
  me.asked().size_bytes = clamped(me.target_.size() - me.filled_);
  return true;
}

// With a receiver: takes what it has until that is enough.
std::coroutine_handle<> recv_op::go_on() noexcept {
  receiver& from = *stream_.receiver_;
  while (from.ready()) {
    const auto n = from.copy(target_.subspan(filled_));
    if (!n) error_ = n.error();
    if (!n || enough(*n)) return up_->next(up_);
  }
  chunk_.~chunk_awaiter();
  ::new (&chunk_) chunk_awaiter();
  return chunk_.start(from, *this, *context_);
}

std::coroutine_handle<> recv_op::chunk_ended(waiter* self) noexcept {
  auto& me = *static_cast<recv_op*>(self);
  if (!me.chunk_.canceled()) return me.go_on();
  me.error_ = errc::operation_canceled;
  return me.up_->next(me.up_);
}

result<std::size_t> recv_op::take() noexcept {
  // A stop between two steps, or before the first.
  if (up_ == nullptr && value() < 0 && !error_) error_ = kernel_error(value());
  if (error_) return failure(error_, "recv");
  return filled_;
}

send_op::send_op(tcp_stream& stream, const_byte_span bytes, std::uint32_t flags) noexcept
    : operation_awaiter(send_request(stream.fd(), bytes, flags)) {
  KEEL_ASSERT(!bytes.empty(), "a send needs at least one byte");
  occupy(stream.out_);
}

send_all_op::send_all_op(tcp_stream& stream, const_byte_span bytes, std::uint32_t flags) noexcept
    : operation_awaiter(send_request(stream.fd(), bytes, flags)), left_(bytes) {
  occupy(stream.out_);
  steps_with(&sent);
  if (bytes.empty()) answer_now(0);
}

bool send_all_op::sent(operation_awaiter& self) noexcept {
  auto& me = static_cast<send_all_op&>(self);
  if (me.value() < 0) return false;
  me.left_ = me.left_.subspan(static_cast<std::size_t>(me.value()));
  if (me.left_.empty()) return false;
  me.asked().data = me.left_.data();
  me.asked().size_bytes = clamped(me.left_.size());
  return true;
}

sendfile_op::sendfile_op(tcp_stream& stream, borrowed_fd file, std::uint64_t offset,
                         std::uint64_t count) noexcept
    : operation_awaiter({.code = kevent_sys::opcode::sendfile,
                         .fd = stream.fd(),
                         .file_fd = file.get(),
                         .offset = offset,
                         .count = count}),
      count_(count) {
  occupy(stream.out_);
  steps_with(&sent);
  if (count == 0) answer_now(0);
}

bool sendfile_op::sent(operation_awaiter& self) noexcept {
  auto& me = static_cast<sendfile_op&>(self);
  if (me.value() < 0) return false;
  const auto moved = static_cast<std::uint64_t>(me.value());
  me.file_ended_ = moved == 0;
  me.asked().offset += moved;
  me.asked().count -= moved;
  return moved != 0 && me.asked().count != 0;
}

result<std::uint64_t> sendfile_op::take() noexcept {
  if (value() < 0) return failure(kernel_error(value()), "sendfile");
  if (file_ended_) return failure(errc::unexpected_end_of_file, "sendfile");
  return count_;
}

connect_op::connect_op(const endpoint& to) noexcept
    : operation_awaiter({.code = kevent_sys::opcode::connect}), to_(to) {}

connect_op::connect_op(const result<endpoint>& to) noexcept
    : operation_awaiter({.code = kevent_sys::opcode::connect}), bad_address_(to.error()) {
  if (to) to_ = *to;
}

std::coroutine_handle<> connect_op::start(waiter& up, stop_context& context) noexcept {
  if (bad_address_) {
    answer_now(-EINVAL);
    return operation_awaiter::start(up, context);
  }
  socket_ = unique_fd(::socket(to_.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  asked().fd = socket_.get();
  asked().data = address_;
  asked().size_bytes = static_cast<std::uint32_t>(to_.to_sockaddr(address_));
  if (!socket_) answer_now(-errno);
  return operation_awaiter::start(up, context);
}

result<tcp_stream> connect_op::take() noexcept {
  if (bad_address_) return failure(bad_address_, "connect");
  if (value() < 0) return failure(kernel_error(value()), "connect");
  return tcp_stream(std::move(socket_), tcp_stream::already_nonblocking());
}

std::coroutine_handle<> close_op::start(waiter& up, stop_context& context) noexcept {
  // What begins from now on finds no descriptor.
  fd_ = std::move(stream_.fd_);
  stream_.in_.cancel();
  stream_.out_.cancel();
  if (step()) return up.next(&up);
  begin(up, context, "the end of what is in flight");
  return std::noop_coroutine();
}

// Closes when nothing is in flight; otherwise comes back when the next of them has ended.
bool close_op::step() noexcept {
  if (stream_.in_.busy != nullptr) {
    stream_.in_.tell_when_free(*this);
  } else if (stream_.out_.busy != nullptr) {
    stream_.out_.tell_when_free(*this);
  } else if (stream_.receiver_ != nullptr && stream_.receiver_->armed()) {
    stream_.receiver_->disarm(this);
  } else {
    stream_.fd_ = std::move(fd_);
    stream_.close_now();
    return true;
  }
  return false;
}

void close_op::freed(runnable& self) noexcept {
  auto& me = static_cast<close_op&>(self);
  if (me.step()) me.resume();
}

}  // namespace keel::net
