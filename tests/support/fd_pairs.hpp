// Pairs of descriptors that are connected, and plain non-blocking calls on them: below net's own sockets.
#pragma once

#include <doctest/doctest.h>
#include <keel/base/unique_fd.hpp>

#include <cstddef>
#include <fcntl.h>
#include <netinet/in.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <unistd.h>

namespace keel::test {

struct fd_pair {
  unique_fd ours;    // the reading end of a pipe
  unique_fd theirs;  // the writing end of a pipe

  // What the peer does; it does not wait.
  void put(std::string_view bytes) const {
    REQUIRE(::write(theirs.get(), bytes.data(), bytes.size()) == ssize_t(bytes.size()));
  }
  std::string get(std::size_t size_max = 65536) const {
    std::string bytes(size_max, '\0');
    const ssize_t n = ::read(theirs.get(), bytes.data(), bytes.size());
    bytes.resize(n < 0 ? 0 : std::size_t(n));
    return bytes;
  }
  // Closes the peer's end with an RST, if it is one of TCP.
  void reset_peer() {
    const linger at_once{1, 0};
    ::setsockopt(theirs.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    theirs.reset();
  }
};

inline fd_pair unix_pair() {
  int ends[2] = {-1, -1};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
  return {unique_fd(ends[0]), unique_fd(ends[1])};
}

inline fd_pair pipe_pair(int flags = 0) {
  int ends[2] = {-1, -1};
  REQUIRE(::pipe2(ends, O_CLOEXEC | flags) == 0);
  return {unique_fd(ends[0]), unique_fd(ends[1])};
}

// A listening socket on a port of loopback that the kernel chose.
struct listening_socket {
  listening_socket() : fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(fd.get(), address(), sizeof at) == 0);
    REQUIRE(::listen(fd.get(), 64) == 0);
    socklen_t size = sizeof at;
    REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&at), &size) == 0);
  }
  const sockaddr* address() const { return reinterpret_cast<const sockaddr*>(&at); }
  unique_fd connected(int flags = 0) const {
    unique_fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
    REQUIRE((::connect(client.get(), address(), sizeof at) == 0 || errno == EINPROGRESS));
    return client;
  }

  sockaddr_in at{};
  unique_fd fd;
};

inline fd_pair tcp_pair() {
  const listening_socket listener;
  unique_fd theirs = listener.connected();
  const int ours = ::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  REQUIRE(ours >= 0);
  ::fcntl(theirs.get(), F_SETFL, O_NONBLOCK);
  return {unique_fd(ours), std::move(theirs)};
}

}  // namespace keel::test
