// Sockets of the outside world: blocking, by plain calls, and pairs of a stream of ours with such a peer. All
// on loopback, on ports that the kernel chooses.
#pragma once

#include <doctest/doctest.h>
#include <keel/base/unique_fd.hpp>
#include <keel/net/endpoint.hpp>
#include <keel/net/tcp_stream.hpp>

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstdint>
#include <netinet/in.h>
#include <ostream>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/time.h>
#include <utility>

namespace keel::test {

inline sockaddr_in loopback(std::uint16_t port) noexcept {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(port);
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return at;
}

inline net::endpoint loopback_endpoint(std::uint16_t port) noexcept {
  return net::endpoint(net::address::v4_loopback(), port);
}

// A connected socket that blocks, though not for ever: a peer that does what a test needs.
class raw_socket {
 public:
  explicit raw_socket(unique_fd fd) noexcept : fd_(std::move(fd)) {
    const timeval patience{30, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  }

  static raw_socket connected_to(std::uint16_t port, int receive_buffer = 0) {
    unique_fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(fd);
    if (receive_buffer != 0)
      ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    const sockaddr_in at = loopback(port);
    REQUIRE(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
    return raw_socket(std::move(fd));
  }

  int fd() const noexcept { return fd_.get(); }
  std::uint16_t port() const noexcept {
    sockaddr_in at{};
    socklen_t size = sizeof at;
    ::getsockname(fd(), reinterpret_cast<sockaddr*>(&at), &size);
    return ntohs(at.sin_port);
  }
  net::endpoint local() const noexcept { return loopback_endpoint(port()); }
  unique_fd release() noexcept { return std::move(fd_); }

  // False when the connection is broken.
  bool send(std::string_view bytes) noexcept {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  // What comes until there are `size_max` bytes, the peer stops, or an error.
  std::string receive(std::size_t size_max) { return receive(size_max, 0); }
  // What has come already, up to `size_max` bytes.
  std::string receive_ready(std::size_t size_max) { return receive(size_max, MSG_DONTWAIT); }
  std::string receive(std::size_t size_max, int flags) {
    std::string got;
    char buffer[65536];
    while (got.size() < size_max) {
      const ssize_t n = ::recv(fd(), buffer, std::min(sizeof buffer, size_max - got.size()), flags);
      if (n <= 0) break;
      got.append(buffer, static_cast<std::size_t>(n));
    }
    return got;
  }
  // Whether the peer has closed in good order: waits for that.
  bool at_end() noexcept {
    char byte = 0;
    return ::recv(fd(), &byte, 1, 0) == 0;
  }
  // The error with which the next receive ends, or 0: waits for it.
  int receive_error() noexcept {
    char byte = 0;
    return ::recv(fd(), &byte, 1, 0) < 0 ? errno : 0;
  }

  void shutdown_send() noexcept { ::shutdown(fd(), SHUT_WR); }
  void close() noexcept { fd_.reset(); }
  // Closes with an RST.
  void reset() noexcept {
    const linger at_once{1, 0};
    ::setsockopt(fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    fd_.reset();
  }

 private:
  unique_fd fd_;
};

// A listening socket that blocks.
class raw_listener {
 public:
  explicit raw_listener(int backlog = 64) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in at = loopback(0);
    REQUIRE(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
    REQUIRE(::listen(fd_.get(), backlog) == 0);
    socklen_t size = sizeof at;
    REQUIRE(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&at), &size) == 0);
    port_ = ntohs(at.sin_port);
  }

  std::uint16_t port() const noexcept { return port_; }
  net::endpoint local() const noexcept { return loopback_endpoint(port_); }
  int fd() const noexcept { return fd_.get(); }
  void close() noexcept { fd_.reset(); }
  unique_fd accept() {
    unique_fd fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    REQUIRE(fd);
    return fd;
  }

 private:
  unique_fd fd_;
  std::uint16_t port_ = 0;
};

struct socket_pair {
  socket_pair(raw_socket a, unique_fd b) noexcept : ours(std::move(b)), theirs(std::move(a)) {}
  net::tcp_stream ours;
  raw_socket theirs;
};

// A stream of ours and its blocking peer.
inline socket_pair connected_to_raw(int receive_buffer = 0) {
  raw_listener listener;
  raw_socket theirs = raw_socket::connected_to(listener.port(), receive_buffer);
  return socket_pair(std::move(theirs), listener.accept());
}

struct stream_pair {
  explicit stream_pair(socket_pair pair) noexcept
      : ours(std::move(pair.ours)), theirs(net::tcp_stream(pair.theirs.release())) {}
  net::tcp_stream ours;
  net::tcp_stream theirs;
};

// Two streams that are connected with each other.
inline stream_pair connected_pair() { return stream_pair(connected_to_raw()); }

}  // namespace keel::test
