#include <doctest/doctest.h>
#include <keel/net/socket_calls.hpp>

#include <cerrno>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string_view>
#include <sys/socket.h>

#include "support/sockets.hpp"

using namespace keel;

namespace {

int option_of(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  CHECK(::getsockopt(fd, level, name, &value, &size) == 0);
  return value;
}

}  // namespace

TEST_CASE("last_error: errno, and what was being tried") {
  errno = ECONNREFUSED;
  const failure why = net::last_error("connect");
  CHECK(why.code == std::errc::connection_refused);
  CHECK(std::string_view(why.doing) == "connect");
}

TEST_CASE("local_endpoint, peer_endpoint: each end names the other") {
  test::raw_listener listener;
  const auto client = test::raw_socket::connected_to(listener.port());
  const unique_fd server = listener.accept();

  CHECK(net::local_endpoint(server.get()).value() == listener.local());
  CHECK(net::peer_endpoint(client.fd()).value() == listener.local());
  CHECK(net::local_endpoint(client.fd()).value() == net::peer_endpoint(server.get()).value());
}

TEST_CASE("local_endpoint, peer_endpoint: a descriptor without them is an error") {
  const unique_fd alone(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK(net::peer_endpoint(alone.get()).error() == std::errc::not_connected);
  CHECK(net::local_endpoint(-1).error() == std::errc::bad_file_descriptor);
}

TEST_CASE("set_option: sets, or says why not") {
  const unique_fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK(net::set_option(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1));
  CHECK(option_of(fd.get(), IPPROTO_TCP, TCP_NODELAY) != 0);
  CHECK(net::set_option(fd.get(), IPPROTO_TCP, TCP_NODELAY, 0));
  CHECK(option_of(fd.get(), IPPROTO_TCP, TCP_NODELAY) == 0);

  CHECK(net::set_option(fd.get(), SOL_SOCKET, -1, 1).error() == std::errc::no_protocol_option);
  CHECK(net::set_option(-1, SOL_SOCKET, SO_KEEPALIVE, 1).error() == std::errc::bad_file_descriptor);
}

TEST_CASE("note_descriptor_freed: outside a scheduler there is nobody to tell") {
  net::note_descriptor_freed();
}
