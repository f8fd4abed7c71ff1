#include <doctest/doctest.h>
#include <keel/base/unique_fd.hpp>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <array>
#include <string>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/descriptors.hpp"
#include "support/fd_pairs.hpp"
#include "support/temporary_folder.hpp"

using namespace keel::test;

namespace {

char users[8];  // their addresses are cookies

keel::unique_fd tcp_socket() {
  return keel::unique_fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

// A port of loopback where nobody listens, as long as the socket lives.
struct closed_port {
  closed_port() : fd(tcp_socket()) {
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&at), size) == 0);
    REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&at), &size) == 0);
  }
  sockaddr_in at{};
  keel::unique_fd fd;
};

}  // namespace

TEST_CASE("aio accept: the result is the new descriptor, with close-on-exec") {
  const listening_socket listener;
  const event_queue queue;
  for (const unsigned flags : {0u, unsigned(SOCK_NONBLOCK), unsigned(SOCK_CLOEXEC)}) {
    CAPTURE(flags);
    REQUIRE(::kevent_aio_accept(queue.fd(), listener.fd.get(), flags, &users[0]) == 0);
    CHECK(queue.silent(5));
    const keel::unique_fd client = listener.connected();
    const ukevent got = queue.next();
    CHECK(got.type == KEVENT_NAIO);
    CHECK(got.ret_flags == done);
    CHECK(got.ptr == &users[0]);
    CHECK(got.id.raw[0] == std::uint32_t(listener.fd.get()));
    const keel::unique_fd accepted(static_cast<int>(got.ret_data[0]));
    CHECK(is_close_on_exec(accepted.get()));
    CHECK(is_nonblocking(accepted.get()) == (flags == SOCK_NONBLOCK));
    REQUIRE(::write(client.get(), "hi", 2) == 2);
    char bytes[4] = {};
    CHECK(polled(accepted.get(), POLLIN, 10'000) == POLLIN);
    CHECK(::read(accepted.get(), bytes, sizeof bytes) == 2);
  }
  CHECK(::kevent_aio_accept(queue.fd(), listener.fd.get(), 0x80000000u, nullptr) == -EINVAL);
}

TEST_CASE("aio accept: a connection that is there already is accepted at once") {
  const listening_socket listener;
  const event_queue queue;
  const keel::unique_fd client = listener.connected();
  REQUIRE(::kevent_aio_accept(queue.fd(), listener.fd.get(), 0, nullptr) == 0);
  const ukevent got = queue.next();
  CHECK(got.ret_flags == done);
  ::close(static_cast<int>(got.ret_data[0]));
}

TEST_CASE("aio connect: to a listener it is DONE, and the address was copied") {
  const listening_socket listener;
  const event_queue queue;
  const keel::unique_fd client = tcp_socket();
  sockaddr_in at = listener.at;
  REQUIRE(::kevent_aio_connect(queue.fd(), client.get(), &at, sizeof at, &users[1]) == 0);
  std::memset(&at, 0xff, sizeof at);
  const ukevent got = queue.next();
  CHECK(got.type == KEVENT_NAIO);
  CHECK(got.ret_flags == done);
  CHECK(got.ret_data[0] == 0);
  CHECK(got.ptr == &users[1]);
  sockaddr_in peer{};
  socklen_t size = sizeof peer;
  CHECK(::getpeername(client.get(), reinterpret_cast<sockaddr*>(&peer), &size) == 0);
  CHECK(peer.sin_port == listener.at.sin_port);
}

TEST_CASE("aio connect: to nobody it is BROKEN with ECONNREFUSED") {
  const closed_port nobody;
  const event_queue queue;
  const keel::unique_fd client = tcp_socket();
  REQUIRE(::kevent_aio_connect(queue.fd(), client.get(), &nobody.at, sizeof nobody.at, &users[1]) == 0);
  const ukevent got = queue.next();
  CHECK(got.ret_flags == done_and_broken);
  CHECK(error_of(got) == -ECONNREFUSED);
  CHECK(got.ptr == &users[1]);
}

TEST_CASE("aio recv: waits for data, takes what is there, and 0 is the end of the stream") {
  for (const bool nonblocking : {true, false}) {
    fd_pair pair = unix_pair();
    if (!nonblocking) ::fcntl(pair.ours.get(), F_SETFL, 0);
    const event_queue queue;
    std::array<char, 64> buffer{};
    REQUIRE(::kevent_aio_recv(queue.fd(), pair.ours.get(), buffer.data(), 64, 0, &users[2]) == 0);
    CHECK(queue.silent(5));
    pair.put("hello");
    const ukevent got = queue.next();
    CHECK(got.type == KEVENT_NAIO);
    CHECK(got.ret_flags == done);
    CHECK(got.ret_data[0] == 5);
    CHECK(got.ptr == &users[2]);
    CHECK(got.id.raw[0] == std::uint32_t(pair.ours.get()));
    CHECK(std::string(buffer.data(), 5) == "hello");

    REQUIRE(::kevent_aio_recv(queue.fd(), pair.ours.get(), buffer.data(), 64, 0, &users[2]) == 0);
    pair.theirs.reset();
    const ukevent end = queue.next();
    CHECK(end.ret_flags == done);
    CHECK(end.ret_data[0] == 0);
  }
}

TEST_CASE("aio recv: a reset connection is BROKEN with ECONNRESET") {
  fd_pair pair = tcp_pair();
  const event_queue queue;
  char byte = 0;
  REQUIRE(::kevent_aio_recv(queue.fd(), pair.ours.get(), &byte, 1, 0, nullptr) == 0);
  pair.reset_peer();
  const ukevent got = queue.next();
  CHECK(got.ret_flags == done_and_broken);
  CHECK(error_of(got) == -ECONNRESET);
}

TEST_CASE("aio recv: MSG_PEEK leaves the bytes, MSG_WAITALL waits for all of them") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  std::array<char, 8> buffer{};
  pair.put("abcd");
  REQUIRE(::kevent_aio_recv(queue.fd(), pair.ours.get(), buffer.data(), 4, MSG_PEEK, nullptr) == 0);
  CHECK(queue.next().ret_data[0] == 4);
  REQUIRE(::kevent_aio_recv(queue.fd(), pair.ours.get(), buffer.data(), 8, MSG_WAITALL, nullptr) == 0);
  CHECK(queue.silent(5));
  pair.put("efgh");
  CHECK(queue.next().ret_data[0] == 8);
  CHECK(std::string(buffer.data(), 8) == "abcdefgh");
}

TEST_CASE("aio send: any positive count, and a full socket is waited for") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  REQUIRE(::kevent_aio_send(queue.fd(), pair.ours.get(), "hello", 5, 0, &users[3]) == 0);
  const ukevent got = queue.next();
  CHECK(got.type == KEVENT_NAIO);
  CHECK(got.ret_flags == done);
  CHECK(got.ret_data[0] == 5);
  CHECK(pair.get() == "hello");

  fill(pair.ours.get());
  REQUIRE(::kevent_aio_send(queue.fd(), pair.ours.get(), "more", 4, 0, &users[3]) == 0);
  CHECK(queue.silent());
  drain(pair.theirs.get());
  const ukevent later = queue.next();
  CHECK(later.ret_flags == done);
  CHECK(later.ret_data[0] == 4);
}

TEST_CASE("aio send: to a peer that has gone it is BROKEN with EPIPE, without SIGPIPE") {
  fd_pair pair = unix_pair();
  pair.theirs.reset();
  const event_queue queue;
  REQUIRE(::kevent_aio_send(queue.fd(), pair.ours.get(), "hello", 5, 0, nullptr) == 0);
  const ukevent got = queue.next();
  CHECK(got.ret_flags == done_and_broken);
  CHECK((error_of(got) == -EPIPE || error_of(got) == -ECONNRESET));
}

TEST_CASE("F6: aio write: to a pipe that nobody reads it is BROKEN with EPIPE, without SIGPIPE") {
  for (const bool broken_before : {true, false}) {
    CAPTURE(broken_before);
    fd_pair ends = pipe_pair();
    const event_queue queue;
    const std::string much(1u << 20, 'x');
    if (broken_before) ends.ours.reset();
    REQUIRE(::kevent_aio_write(queue.fd(), ends.theirs.get(), much.data(), much.size(), -1, nullptr) == 0);
    if (!broken_before) {
      // What fits is taken at once, or the rest waits: a reader that goes then ends it.
      ends.ours.reset();
    }
    const ukevent got = queue.next();
    if (broken_before) CHECK(got.ret_flags == done_and_broken);
    if (got.ret_flags == done_and_broken) CHECK(error_of(got) == -EPIPE);
  }
}

TEST_CASE("aio read and write: files, at an offset and at the position") {
  const temporary_folder folder;
  const keel::unique_fd file(::open(folder.write("file", "0123456789").c_str(), O_RDWR | O_CLOEXEC));
  const event_queue queue;
  std::array<char, 16> buffer{};
  REQUIRE(::kevent_aio_read(queue.fd(), file.get(), buffer.data(), 4, 3, &users[4]) == 0);
  const ukevent got = queue.next();
  CHECK(got.type == KEVENT_AIO);
  CHECK(got.ret_flags == done);
  CHECK(got.ret_data[0] == 4);
  CHECK(got.ptr == &users[4]);
  CHECK(got.id.raw[0] == std::uint32_t(file.get()));
  CHECK(std::string(buffer.data(), 4) == "3456");

  REQUIRE(::kevent_aio_write(queue.fd(), file.get(), "ab", 2, 8, &users[5]) == 0);
  const ukevent written = queue.next();
  CHECK(written.ret_data[0] == 2);
  CHECK(written.ptr == &users[5]);
  CHECK(folder.read("file") == "01234567ab");

  REQUIRE(::kevent_aio_read(queue.fd(), file.get(), buffer.data(), 2, -1, nullptr) == 0);
  CHECK(queue.next().ret_data[0] == 2);
  CHECK(::lseek(file.get(), 0, SEEK_CUR) == 2);
  REQUIRE(::kevent_aio_read(queue.fd(), file.get(), buffer.data(), 16, 10, nullptr) == 0);
  CHECK(queue.next().ret_data[0] == 0);
}

TEST_CASE("aio read and write: pipes, at offset -1, waiting") {
  fd_pair ends = pipe_pair(O_NONBLOCK);
  const event_queue queue;
  std::array<char, 16> buffer{};
  REQUIRE(::kevent_aio_read(queue.fd(), ends.ours.get(), buffer.data(), 16, -1, &users[0]) == 0);
  CHECK(queue.silent(5));
  REQUIRE(::kevent_aio_write(queue.fd(), ends.theirs.get(), "pipe", 4, -1, &users[1]) == 0);
  const std::vector<ukevent> got = queue.get(2, 2, patience);
  REQUIRE(got.size() == 2);
  for (const ukevent& event : got) {
    CHECK(event.ret_flags == done);
    CHECK(event.ret_data[0] == 4);
  }
  REQUIRE(::kevent_aio_read(queue.fd(), ends.ours.get(), buffer.data(), 16, -1, &users[0]) == 0);
  ends.theirs.reset();
  CHECK(queue.next().ret_data[0] == 0);
}

TEST_CASE("aio: what the kernel refuses comes as a BROKEN event") {
  const temporary_folder folder;
  const keel::unique_fd read_only(::open(folder.write("file", "text").c_str(), O_RDONLY | O_CLOEXEC));
  const event_queue queue;
  const int answer = ::kevent_aio_write(queue.fd(), read_only.get(), "x", 1, 0, nullptr);
  if (answer != 0) {
    CHECK(answer == -EBADF);
  } else {
    const ukevent got = queue.next();
    CHECK(got.ret_flags == done_and_broken);
    CHECK(error_of(got) == -EBADF);
  }
  const keel::unique_fd unconnected = tcp_socket();
  char byte = 0;
  REQUIRE(::kevent_aio_recv(queue.fd(), unconnected.get(), &byte, 1, 0, nullptr) == 0);
  const ukevent got = queue.next();
  CHECK(got.ret_flags == done_and_broken);
  CHECK(error_of(got) == -ENOTCONN);
}

TEST_CASE("aio: errors of arguments come back at submission, without an event") {
  const fd_pair pair = unix_pair();
  const fd_pair ends = pipe_pair();
  const event_queue queue;
  const int q = queue.fd(), pipe = ends.ours.get(), socket = pair.ours.get();
  char byte = 'x';
  const sockaddr_in at{};
  for (const int bad : {-1, 1'000'000}) {
    CHECK(::kevent_aio_accept(q, bad, 0, nullptr) == -EBADF);
    CHECK(::kevent_aio_connect(q, bad, &at, sizeof at, nullptr) == -EBADF);
    CHECK(::kevent_aio_recv(q, bad, &byte, 1, 0, nullptr) == -EBADF);
    CHECK(::kevent_aio_send(q, bad, &byte, 1, 0, nullptr) == -EBADF);
    CHECK(::kevent_aio_read(q, bad, &byte, 1, -1, nullptr) == -EBADF);
    CHECK(::kevent_aio_write(q, bad, &byte, 1, -1, nullptr) == -EBADF);
  }
  CHECK(::kevent_aio_accept(q, pipe, 0, nullptr) == -ENOTSOCK);
  CHECK(::kevent_aio_connect(q, pipe, &at, sizeof at, nullptr) == -ENOTSOCK);
  CHECK(::kevent_aio_recv(q, pipe, &byte, 1, 0, nullptr) == -ENOTSOCK);
  CHECK(::kevent_aio_send(q, pipe, &byte, 1, 0, nullptr) == -ENOTSOCK);
  CHECK(::kevent_aio_connect(q, socket, nullptr, sizeof at, nullptr) == -EFAULT);
  CHECK(::kevent_aio_connect(q, socket, &at, 100'000, nullptr) == -EINVAL);
  CHECK(::kevent_aio_recv(q, socket, nullptr, 1, 0, nullptr) == -EFAULT);
  CHECK(::kevent_aio_send(q, socket, nullptr, 1, 0, nullptr) == -EFAULT);
  CHECK(::kevent_aio_read(q, pipe, nullptr, 1, -1, nullptr) == -EFAULT);
  CHECK(::kevent_aio_write(q, pipe, nullptr, 1, -1, nullptr) == -EFAULT);
  CHECK(::kevent_aio_read(q, pipe, &byte, 1, -2, nullptr) == -EINVAL);
  CHECK(::kevent_aio_write(q, pipe, &byte, 1, -2, nullptr) == -EINVAL);
  CHECK(queue.silent());
}

TEST_CASE("aio cancel: an operation in flight completes with ECANCELED, and takes no byte") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  char byte = 0;
  REQUIRE(::kevent_aio_recv(queue.fd(), pair.ours.get(), &byte, 1, 0, &users[6]) == 0);
  CHECK(::kevent_aio_cancel(queue.fd(), &users[5]) == -ENOENT);
  CHECK(::kevent_aio_cancel(queue.fd(), &users[6]) == 0);
  const ukevent got = queue.next();
  CHECK(got.ret_flags == done_and_broken);
  CHECK(error_of(got) == -ECANCELED);
  CHECK(got.ptr == &users[6]);
  CHECK(::kevent_aio_cancel(queue.fd(), &users[6]) == -ENOENT);
  pair.put("x");
  CHECK(queue.silent(5));
  CHECK(drain(pair.ours.get()) == 1);
}

TEST_CASE("aio cancel: of several operations with one user the oldest is meant") {
  const fd_pair first = unix_pair(), second = unix_pair();
  const event_queue queue;
  char bytes[2] = {};
  REQUIRE(::kevent_aio_recv(queue.fd(), first.ours.get(), &bytes[0], 1, 0, users) == 0);
  REQUIRE(::kevent_aio_recv(queue.fd(), second.ours.get(), &bytes[1], 1, 0, users) == 0);
  CHECK(::kevent_aio_cancel(queue.fd(), users) == 0);
  CHECK(queue.next().id.raw[0] == std::uint32_t(first.ours.get()));
  second.put("y");
  const ukevent got = queue.next();
  CHECK(got.ret_flags == done);
  CHECK(bytes[1] == 'y');
}

TEST_CASE("aio cancel: accept, connect, read and send can be cancelled, too") {
  const listening_socket listener;
  const fd_pair ends = pipe_pair(O_NONBLOCK);
  const fd_pair full = unix_pair();
  fill(full.ours.get());
  const event_queue queue;
  char byte = 0;
  REQUIRE(::kevent_aio_accept(queue.fd(), listener.fd.get(), 0, &users[0]) == 0);
  REQUIRE(::kevent_aio_read(queue.fd(), ends.ours.get(), &byte, 1, -1, &users[1]) == 0);
  REQUIRE(::kevent_aio_send(queue.fd(), full.ours.get(), &byte, 1, 0, &users[2]) == 0);
  for (int i = 0; i < 3; ++i) CHECK(::kevent_aio_cancel(queue.fd(), &users[i]) == 0);
  const std::vector<ukevent> got = queue.get(3, 8, patience);
  REQUIRE(got.size() == 3);
  for (const ukevent& event : got) CHECK(error_of(event) == -ECANCELED);
}

TEST_CASE("kevent_close: operations in flight are cancelled and awaited") {
  const listening_socket listener;
  const fd_pair pair = unix_pair();
  std::vector<char> buffer(4096, 'b');
  {
    event_queue queue;
    REQUIRE(::kevent_aio_recv(queue.fd(), pair.ours.get(), buffer.data(), 4096, 0, nullptr) == 0);
    REQUIRE(::kevent_aio_accept(queue.fd(), listener.fd.get(), 0, nullptr) == 0);
    CHECK(queue.close() == 0);
  }
  pair.put("x");
  CHECK(buffer == std::vector<char>(4096, 'b'));
  CHECK(drain(pair.ours.get()) == 1);
}

TEST_CASE("kevent_close: the descriptor of an accept that nobody collected is not leaked") {
  const listening_socket listener;
  const keel::unique_fd client = listener.connected();
  const std::size_t before = open_descriptors();
  {
    event_queue queue;
    REQUIRE(::kevent_aio_accept(queue.fd(), listener.fd.get(), 0, nullptr) == 0);
    CHECK(polled(queue.fd(), POLLIN, 10'000) == POLLIN);
    CHECK(queue.close() == 0);
  }
  CHECK(open_descriptors() == before);
}
