#include <keel/net/tcp_stream.hpp>

#include "receiver.hpp"
#include "socket_calls.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <new>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <utility>

namespace keel::net {

tcp_stream::tcp_stream(unique_fd connected) noexcept : fd_(std::move(connected)) {
  // Otherwise a sendfile would wait in its call. An error is that of a descriptor that is none.
  int on = 1;
  if (fd_) ::ioctl(fd_.get(), FIONBIO, &on);
}

tcp_stream::tcp_stream(unique_fd connected, already_nonblocking) noexcept : fd_(std::move(connected)) {}

tcp_stream::tcp_stream(tcp_stream&& other) noexcept {
  KEEL_ASSERT(!other.in_use(), "a stream was moved while it is in use");
  fd_ = std::move(other.fd_);
  receiver_ = std::exchange(other.receiver_, nullptr);
}

tcp_stream& tcp_stream::operator=(tcp_stream&& other) noexcept {
  KEEL_ASSERT(!other.in_use(), "a stream was moved while it is in use");
  if (this == &other) return *this;
  close_now();
  fd_ = std::move(other.fd_);
  receiver_ = std::exchange(other.receiver_, nullptr);
  return *this;
}

tcp_stream::~tcp_stream() { close_now(); }

void tcp_stream::close_now() noexcept {
  KEEL_ASSERT(in_.busy == nullptr && out_.busy == nullptr,
              "a stream was destroyed while an operation is in flight");
  if (receiver_ != nullptr) {
    std::exchange(receiver_, nullptr)->abandon(std::move(fd_));
  } else if (fd_) {
    fd_.reset();
    note_descriptor_freed();
  }
}

bool tcp_stream::in_use() const noexcept {
  return in_.busy != nullptr || out_.busy != nullptr || (receiver_ != nullptr && receiver_->waited_for());
}

receiver* tcp_stream::receiver_on(scheduler& home) noexcept {
  if (receiver_ == nullptr) {
    try {
      receiver_ = new receiver(home, fd_.get());
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
  }
  KEEL_ASSERT(&receiver_->home() == &home, "a stream belongs to the scheduler of its first operation");
  return receiver_;
}

send_op tcp_stream::send(const_byte_span bytes, send_options options) noexcept {
  return send_op(*this, bytes, options.more ? MSG_MORE : 0);
}

send_all_op tcp_stream::send_all(const_byte_span bytes, send_options options) noexcept {
  return send_all_op(*this, bytes, options.more ? MSG_MORE : 0);
}

sendfile_op tcp_stream::sendfile(borrowed_fd file, std::uint64_t offset, std::uint64_t count) noexcept {
  return sendfile_op(*this, file, offset, count);
}

result<void> tcp_stream::shutdown_send() noexcept {
  if (::shutdown(fd_.get(), SHUT_WR) != 0) return last_error("shutdown");
  return {};
}

result<endpoint> tcp_stream::local() const noexcept { return local_endpoint(fd_.get()); }
result<endpoint> tcp_stream::peer() const noexcept { return peer_endpoint(fd_.get()); }

result<void> tcp_stream::set_no_delay(bool on) noexcept {
  return set_option(fd_.get(), IPPROTO_TCP, TCP_NODELAY, on);
}
result<void> tcp_stream::set_keep_alive(bool on) noexcept {
  return set_option(fd_.get(), SOL_SOCKET, SO_KEEPALIVE, on);
}
result<void> tcp_stream::set_send_buffer(int bytes) noexcept {
  return set_option(fd_.get(), SOL_SOCKET, SO_SNDBUF, bytes);
}
result<void> tcp_stream::set_receive_buffer(int bytes) noexcept {
  return set_option(fd_.get(), SOL_SOCKET, SO_RCVBUF, bytes);
}
result<void> tcp_stream::set_reset_on_close() noexcept {
  const linger at_once{1, 0};
  if (::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) != 0)
    return last_error("setsockopt");
  return {};
}

}  // namespace keel::net
