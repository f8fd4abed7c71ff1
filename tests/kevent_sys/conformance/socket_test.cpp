#include <doctest/doctest.h>
#include <keel/base/unique_fd.hpp>

#include <netinet/in.h>
#include <sys/socket.h>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/fd_pairs.hpp"

using namespace keel::test;

namespace {

constexpr std::uint32_t recv_or_accept = KEVENT_SOCKET_RECV | KEVENT_SOCKET_ACCEPT;

keel::unique_fd accepted(const listening_socket& listener) {
  return keel::unique_fd(::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

int socket_error(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

}  // namespace

TEST_CASE("case 111: a connection is one event of its listener, and accept succeeds") {
  const listening_socket listener;
  const event_queue queue;
  for (const std::uint32_t mask : {recv_or_accept, KEVENT_SOCKET_ACCEPT}) {
    const ukevent event = socket_event(listener.fd.get(), mask);
    REQUIRE(queue.add(event) == 0);
    const keel::unique_fd client = listener.connected();
    CHECK(queue.next().ret_flags == done);
    CHECK(queue.silent());
    CHECK(accepted(listener));
    CHECK(queue.remove(event).ret_flags == done);
  }
}

TEST_CASE("case 111: a listener with ET reports each connection") {
  const listening_socket listener;
  const event_queue queue;
  REQUIRE(queue.add(socket_event(listener.fd.get(), KEVENT_SOCKET_ACCEPT, KEVENT_REQ_ET)) == 0);
  for (int round = 0; round < 3; ++round) {
    const keel::unique_fd client = listener.connected();
    CHECK(queue.next().ret_flags == done);
    CHECK(accepted(listener));
  }
}

TEST_CASE("case 112: data in front of the end is DONE without BROKEN") {
  for (const bool tcp : {false, true}) {
    fd_pair pair = tcp ? tcp_pair() : unix_pair();
    const event_queue queue;
    const ukevent event = socket_event(pair.ours.get(), KEVENT_SOCKET_RECV);
    REQUIRE(queue.add(event) == 0);
    pair.put("bye");
    pair.theirs.reset();
    CHECK(queue.next().ret_flags == done);
    char bytes[8] = {};
    CHECK(::read(pair.ours.get(), bytes, sizeof bytes) == 3);
    while (::read(pair.ours.get(), bytes, sizeof bytes) == -1 && errno == EAGAIN) let_pass(1);
    CHECK(::read(pair.ours.get(), bytes, sizeof bytes) == 0);
  }
}

TEST_CASE("case 112: the end of the stream polls readable, and is DONE without BROKEN") {
  fd_pair pair = unix_pair();
  const event_queue queue;
  REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  REQUIRE(::shutdown(pair.theirs.get(), SHUT_WR) == 0);
  CHECK(queue.next().ret_flags == done);
}

TEST_CASE("case 113: a refused connect is writable, DONE without BROKEN") {
  const event_queue queue;
  const keel::unique_fd reserved(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  REQUIRE(::bind(reserved.get(), reinterpret_cast<const sockaddr*>(&at), size) == 0);
  REQUIRE(::getsockname(reserved.get(), reinterpret_cast<sockaddr*>(&at), &size) == 0);
  const keel::unique_fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  REQUIRE(::connect(client.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == -1);
  REQUIRE(errno == EINPROGRESS);

  CHECK(queue.add(socket_event(client.get(), KEVENT_SOCKET_SEND, KEVENT_REQ_ALWAYS_QUEUE)) == 0);

  const ukevent got = queue.next();
  CHECK(got.ret_flags == done);
  CHECK(socket_error(client.get()) == ECONNREFUSED);
}

TEST_CASE("case 113, spec 2.1: a reset is an event also of who asked for ACCEPT only") {
  fd_pair pair = tcp_pair();
  const event_queue queue;
  fill(pair.ours.get());
  REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_ACCEPT)) == 0);
  pair.reset_peer();
  const ukevent got = queue.next();
  CHECK((got.ret_flags & KEVENT_RET_DONE) != 0);
}

TEST_CASE("spec 2.1: of a stream whose peer has closed, SEND on a full socket is BROKEN or writable") {
  fd_pair pair = unix_pair();
  const event_queue queue;
  fill(pair.ours.get());
  REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_SEND)) == 0);
  pair.theirs.reset();
  CHECK((queue.next().ret_flags & KEVENT_RET_DONE) != 0);
}

TEST_CASE("spec 2.1: the hang-up of a peer that only wrote is BROKEN for who cannot send yet") {
  fd_pair pair = unix_pair();
  const event_queue queue;
  fill(pair.ours.get());
  REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_SEND)) == 0);
  REQUIRE(::shutdown(pair.theirs.get(), SHUT_WR) == 0);
  CHECK(queue.next().ret_flags == done_and_broken);
}

TEST_CASE("spec 2.1: SEND is ready at ADD while there is room, and again when the peer makes some") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  const ukevent event = socket_event(pair.ours.get(), KEVENT_SOCKET_SEND);
  CHECK(queue.handed_back(event).ret_flags == done);
  fill(pair.ours.get());
  REQUIRE(queue.add(event) == 0);
  CHECK(queue.silent());
  drain(pair.theirs.get());
  CHECK(queue.next().ret_flags == done);
}

TEST_CASE("spec 2.1: datagram and TCP sockets are watched as well") {
  const fd_pair tcp = tcp_pair();
  int ends[2] = {-1, -1};
  REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
  const fd_pair datagrams{keel::unique_fd(ends[0]), keel::unique_fd(ends[1])};
  for (const fd_pair* pair : {&tcp, &datagrams}) {
    const event_queue queue;
    REQUIRE(queue.add(socket_event(pair->ours.get(), KEVENT_SOCKET_RECV)) == 0);
    CHECK(queue.silent(5));
    pair->put("x");
    CHECK(queue.next().ret_flags == done);
  }
}

// The epoll engine differs here: the kernel's epoll forgets a file with its last descriptor, and a second
// descriptor would be a hidden one.
TEST_CASE("case 114, K5: a registration keeps its closed socket open until REMOVE") {
  fd_pair pair = unix_pair();
  const event_queue queue;
  const ukevent event = socket_event(pair.ours.get(), KEVENT_SOCKET_RECV);
  REQUIRE(queue.add(event) == 0);
  pair.ours.reset();
  CHECK(queue.silent(5));

  char byte = 0;
  const ssize_t while_registered = ::read(pair.theirs.get(), &byte, 1);
  if (on_epoll())
    CHECK(while_registered <= 0);
  else
    CHECK((while_registered == -1 && errno == EAGAIN));

  CHECK(queue.remove(event).ret_flags == done);
  for (int tries = 0; tries < 5'000 && ::read(pair.theirs.get(), &byte, 1) != 0; ++tries) let_pass(1);
  CHECK(::read(pair.theirs.get(), &byte, 1) == 0);
}

TEST_CASE("clarification, readiness: a delivered registration in default mode keeps its socket open, too") {
  fd_pair pair = unix_pair();
  const event_queue queue;
  const ukevent event = socket_event(pair.ours.get(), KEVENT_SOCKET_RECV);
  REQUIRE(queue.add(event) == 0);
  pair.put("x");
  CHECK(queue.next().ret_flags == done);
  drain(pair.ours.get());
  pair.ours.reset();
  char byte = 0;
  if (!on_epoll()) CHECK((::read(pair.theirs.get(), &byte, 1) == -1 && errno == EAGAIN));
  CHECK(queue.remove(event).ret_flags == done);
  for (int tries = 0; tries < 5'000 && ::read(pair.theirs.get(), &byte, 1) != 0; ++tries) let_pass(1);
  CHECK(::read(pair.theirs.get(), &byte, 1) == 0);
}

TEST_CASE("spec 1.8: the number of a closed descriptor stays taken until REMOVE") {
  fd_pair pair = unix_pair();
  const event_queue queue;
  const ukevent event = socket_event(pair.ours.get(), KEVENT_SOCKET_RECV);
  REQUIRE(queue.add(event) == 0);
  const int number = pair.ours.release();
  fd_pair other = unix_pair();
  REQUIRE(::dup3(other.ours.get(), number, O_CLOEXEC) == number);
  const keel::unique_fd reused(number);

  CHECK(error_of(queue.handed_back(event)) == -EEXIST);
  CHECK(queue.remove(event).ret_flags == done);
  CHECK(queue.add(event) == 0);
  other.put("x");
  CHECK(queue.next().ret_flags == done);
}
