// The calls behind each opcode where they differ from what a blocking program does; what they answer
// otherwise is seen in the tests of the engines.

#include <keel/kevent_sys/epoll_requests.hpp>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "support/descriptors.hpp"
#include "support/fd_pairs.hpp"
#include "support/in_child.hpp"
#include "support/skip.hpp"
#include "support/temporary_folder.hpp"

namespace kevent_sys = keel::kevent_sys;
using keel::unique_fd;
using keel::test::fd_pair;
using keel::test::is_nonblocking;
using keel::test::listening_socket;
using keel::test::pipe_pair;
using kevent_sys::opcode;
using kevent_sys::request;

namespace {

using small_buffer = std::array<char, 16>;

request reading(int fd, small_buffer& target, std::uint64_t offset = 0) {
  return {.code = opcode::read, .fd = fd, .size_bytes = 16, .data = target.data(), .offset = offset};
}
request writing(int fd, const std::string& text) {
  return {.code = opcode::write, .fd = fd, .size_bytes = std::uint32_t(text.size()), .data = text.data()};
}

void make_blocking(int fd) {
  REQUIRE(::fcntl(fd, F_SETFL, 0) == 0);
}

// A FIFO in the file system: unlike a pipe it does not know RWF_NOWAIT on every kernel.
fd_pair fifo_in(const keel::test::temporary_folder& folder) {
  const std::string path = folder / "fifo";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  unique_fd ours(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  unique_fd theirs(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  REQUIRE(theirs);
  make_blocking(ours.get());
  return {std::move(ours), std::move(theirs)};
}

}  // namespace

TEST_CASE("epoll requests: a listener that blocks is not waited for") {
  const listening_socket listener;
  make_blocking(listener.fd.get());
  const request what{.code = opcode::accept, .fd = listener.fd.get()};
  CHECK(kevent_sys::accept_now(what) == -EAGAIN);
  const unique_fd client = listener.connected();
  const unique_fd accepted(kevent_sys::accept_now(what));
  REQUIRE(accepted);
  CHECK(is_nonblocking(accepted.get()));
  CHECK(kevent_sys::accept_now(what) == -EAGAIN);

  make_blocking(accepted.get());
  CHECK(kevent_sys::accept_now({.code = opcode::accept, .fd = accepted.get()}) == -EINVAL);
}

TEST_CASE("epoll requests: accept_blocking leaves the new descriptor as a blocking program wants it") {
  const listening_socket listener;
  const unique_fd client = listener.connected();
  const request what{.code = opcode::accept, .fd = listener.fd.get(), .flags = kevent_sys::accept_blocking};
  const unique_fd accepted(kevent_sys::accept_now(what));
  REQUIRE(accepted);
  CHECK(!is_nonblocking(accepted.get()));
  CHECK(keel::test::is_close_on_exec(accepted.get()));
}

TEST_CASE("epoll requests: connect does not block, and leaves a socket as it was") {
  const listening_socket listener;
  for (const int flags : {0, int(SOCK_NONBLOCK)}) {
    const unique_fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
    const request what{
        .code = opcode::connect, .fd = fd.get(), .size_bytes = sizeof listener.at, .data = &listener.at};
    int value = kevent_sys::connect_now(what, false);
    CHECK(is_nonblocking(fd.get()) == (flags != 0));
    if (value == -EAGAIN) {
      pollfd at{fd.get(), POLLOUT, 0};
      REQUIRE(::poll(&at, 1, 20'000) == 1);
      value = kevent_sys::connect_now(what, true);
    }
    CHECK(value == 0);
    CHECK(kevent_sys::connect_now(what, false) == -EISCONN);
    CHECK(is_nonblocking(fd.get()) == (flags != 0));
  }
  CHECK(kevent_sys::connect_now({.code = opcode::connect, .fd = 9999}, false) == -EBADF);
}

TEST_CASE("epoll requests: connecting to a full AF_UNIX listener is to be repeated") {
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  const keel::test::temporary_folder folder;
  const std::string path = folder / "socket";
  std::strncpy(at.sun_path, path.c_str(), sizeof at.sun_path - 1);
  const unique_fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
  REQUIRE(::listen(listener.get(), 0) == 0);
  std::vector<unique_fd> clients;
  int value = 0;
  for (int i = 0; i < 8 && value == 0; ++i) {
    const unique_fd& fd = clients.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    value = kevent_sys::connect_now(
        {.code = opcode::connect, .fd = fd.get(), .size_bytes = sizeof at, .data = &at}, false);
  }
  CHECK(value == -EBUSY);
}

TEST_CASE("epoll requests: pipes and FIFOs that block are read and written as far as they go") {
  const keel::test::temporary_folder folder;
  for (const bool named : {false, true}) {
    CAPTURE(named);
    fd_pair pipe = named ? fifo_in(folder) : pipe_pair();
    small_buffer buffer{};
    CHECK(kevent_sys::read_stream_now(reading(pipe.ours.get(), buffer)) == -EAGAIN);
    CHECK(kevent_sys::write_stream_now(writing(pipe.theirs.get(), "hello")) == 5);
    CHECK(kevent_sys::read_stream_now(reading(pipe.ours.get(), buffer, 77)) == 5);

    const std::string much(1u << 20, 'x');
    int total = 0;
    for (;;) {
      const int n = kevent_sys::write_stream_now(writing(pipe.theirs.get(), much));
      if (n < 0) {
        CHECK(n == -EAGAIN);
        break;
      }
      total += n;
    }
    CHECK(total >= 4096);
    CHECK(total < int(much.size()));
    std::array<std::byte, 65536> target;
    while (total > 0) {
      const int n = kevent_sys::drain_into(pipe.ours.get(), target.data(), target.size());
      REQUIRE(n > 0);
      total -= n;
    }
    pipe.theirs.reset();
    CHECK(kevent_sys::drain_into(pipe.ours.get(), target.data(), target.size()) == 0);
  }
}

TEST_CASE("epoll requests: a terminal is read when it has a line, and not waited for before") {
  const unique_fd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!master || ::grantpt(master.get()) != 0 || ::unlockpt(master.get()) != 0)
    return keel::test::skip("no pseudo terminal can be had here");
  const unique_fd terminal(::open(::ptsname(master.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
  REQUIRE(terminal);
  small_buffer buffer{};
  CHECK(kevent_sys::read_stream_now(reading(terminal.get(), buffer)) == -EAGAIN);
  REQUIRE(::write(master.get(), "line\n", 5) == 5);
  pollfd at{terminal.get(), POLLIN, 0};
  REQUIRE(::poll(&at, 1, 20'000) == 1);
  CHECK(kevent_sys::read_stream_now(reading(terminal.get(), buffer)) == 5);
  CHECK(kevent_sys::write_stream_now(writing(terminal.get(), "prompt> ")) == 8);
}

TEST_CASE("F6: epoll requests: writing to a pipe without a reader answers EPIPE and raises no SIGPIPE") {
  const auto child = keel::test::in_child([] {
    ::signal(SIGPIPE, SIG_DFL);
    fd_pair pipe = pipe_pair();
    pipe.ours.reset();
    return kevent_sys::write_stream_now(writing(pipe.theirs.get(), "x")) == -EPIPE ? 0 : 1;
  });
  CHECK(child.signal == 0);
  CHECK(child.exit_code == 0);
}

TEST_CASE("epoll requests: read_cached gives all that is asked for, or the end of the file, or nothing") {
  const keel::test::temporary_folder folder;
  const unique_fd file(::open(folder.write("file", "0123456789").c_str(), O_RDONLY | O_CLOEXEC));
  CHECK(kevent_sys::is_file(file.get()));
  small_buffer buffer{};
  CHECK(kevent_sys::read_file(reading(file.get(), buffer)) == 10);
  // In the page cache by now, where this file system can say so.
  const int value = kevent_sys::read_cached(reading(file.get(), buffer, 4));
  CHECK((value == 6 || value == -EAGAIN));
  CHECK(kevent_sys::read_cached(reading(file.get(), buffer, ~std::uint64_t{0})) == -EAGAIN);
  const fd_pair pipe = pipe_pair();
  CHECK(!kevent_sys::is_file(pipe.ours.get()));
  CHECK(!kevent_sys::is_file(9999));
}

TEST_CASE("epoll requests: poll_now answers what is ready of what was asked") {
  const fd_pair pipe = pipe_pair();
  CHECK(kevent_sys::poll_now(pipe.ours.get(), POLLIN) == 0);
  CHECK(kevent_sys::poll_now(pipe.theirs.get(), POLLOUT) == POLLOUT);
  CHECK(kevent_sys::poll_now(9999, POLLIN) == -EBADF);
}
