// Each opcode against the real kernel: what it answers when it works, and when it cannot.

#include <doctest/doctest.h>
#include <keel/kevent_sys/queue.hpp>

#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>

#include "support/descriptors.hpp"
#include "support/engines.hpp"
#include "support/fd_pairs.hpp"
#include "support/in_child.hpp"
#include "support/recorded_operation.hpp"
#include "support/skip.hpp"
#include "support/temporary_folder.hpp"

using keel::unique_fd;
using keel::kevent_sys::answer;
using keel::kevent_sys::buffer_lease;
using keel::kevent_sys::opcode;
using keel::kevent_sys::queue;
using keel::kevent_sys::request;
using keel::test::answer_of;
using keel::test::fd_pair;
using keel::test::is_close_on_exec;
using keel::test::is_nonblocking;
using keel::test::listening_socket;
using keel::test::missing;
using keel::test::on_epoll;
using keel::test::on_uring;
using keel::test::pipe_pair;
using keel::test::recorded;
using keel::test::tcp_pair;
using keel::test::turn_until;
using keel::test::unix_pair;

namespace {

constexpr int no_such_fd = 9999;

request receiving(opcode code, int fd, std::array<char, 16>& target) {
  return {.code = code, .fd = fd, .size_bytes = std::uint32_t(target.size()), .data = target.data()};
}
request sending(opcode code, int fd, std::string_view bytes) {
  return {.code = code, .fd = fd, .size_bytes = std::uint32_t(bytes.size()), .data = bytes.data()};
}
request opening(const std::string& path, int flags, int mode = 0) {
  return {.code = opcode::open,
          .size_bytes = std::uint32_t(mode),
          .flags = std::uint32_t(flags),
          .data = path.c_str()};
}

std::string leased(queue& q, answer a) {
  REQUIRE(a.has_buffer());
  const buffer_lease lease(q.buffers(), a.buffer(), std::uint32_t(a.value));
  return std::string(lease.text());
}

}  // namespace

TEST_CASE_TEMPLATE("engine: nop answers 0", Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  CHECK(answer_of(q, {.code = opcode::nop}) == 0);
}

TEST_CASE_TEMPLATE("engine: recv takes what is there, waits for what is not, and reads the end as 0", Engine,
                   on_uring, on_epoll) {
  if (missing<Engine>()) return;
  for (const bool tcp : {false, true}) {
    queue q(Engine::options());
    fd_pair pair = tcp ? tcp_pair() : unix_pair();
    std::array<char, 16> buffer{};
    pair.put("hello");
    CHECK(answer_of(q, receiving(opcode::recv, pair.ours.get(), buffer)) == 5);
    CHECK(std::string_view(buffer.data(), 5) == "hello");

    recorded waiting(receiving(opcode::recv, pair.ours.get(), buffer));
    q.submit(waiting);
    q.wait(0);
    q.consume();
    CHECK(waiting.in_flight());
    pair.put("more");
    REQUIRE(turn_until(q, [&] { return waiting.ended(); }));
    CHECK(waiting.value() == 4);

    pair.put("0123456789abcdefXYZ");
    CHECK(answer_of(q, receiving(opcode::recv, pair.ours.get(), buffer)) == 16);
    CHECK(answer_of(q, receiving(opcode::recv, pair.ours.get(), buffer)) == 3);
    pair.theirs.reset();
    CHECK(answer_of(q, receiving(opcode::recv, pair.ours.get(), buffer)) == 0);
    CHECK(answer_of(q, receiving(opcode::recv, no_such_fd, buffer)) == -EBADF);
  }
}

TEST_CASE_TEMPLATE("F8: engine: recv after a reset is ECONNRESET", Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  fd_pair pair = tcp_pair();
  pair.reset_peer();
  std::array<char, 16> buffer{};
  CHECK(answer_of(q, receiving(opcode::recv, pair.ours.get(), buffer)) == -ECONNRESET);
}

TEST_CASE_TEMPLATE("engine: flags of recv are the caller's: MSG_PEEK leaves the bytes", Engine, on_uring,
                   on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  fd_pair pair = unix_pair();
  pair.put("stay");
  std::array<char, 16> buffer{};
  request peek = receiving(opcode::recv, pair.ours.get(), buffer);
  peek.flags = MSG_PEEK;
  CHECK(answer_of(q, peek) == 4);
  CHECK(answer_of(q, receiving(opcode::recv, pair.ours.get(), buffer)) == 4);
}

TEST_CASE_TEMPLATE("engine: receive names the buffer that was filled; the end names none", Engine, on_uring,
                   on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  fd_pair pair = tcp_pair();
  pair.put("hello");
  recorded op({.code = opcode::receive, .fd = pair.ours.get()});
  CHECK(answer_of(q, op) == 5);
  CHECK(q.buffers().away() == 1);
  CHECK(leased(q, op.answers[0]) == "hello");
  CHECK(q.buffers().away() == 0);

  pair.theirs.reset();
  recorded end({.code = opcode::receive, .fd = pair.ours.get()});
  CHECK(answer_of(q, end) == 0);
  CHECK_FALSE(end.answers[0].has_buffer());
  CHECK(answer_of(q, {.code = opcode::receive, .fd = no_such_fd}) == -EBADF);
}

TEST_CASE_TEMPLATE("engine: send answers what the socket took; F1: that may be less", Engine, on_uring,
                   on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  fd_pair pair = unix_pair();
  CHECK(answer_of(q, sending(opcode::send, pair.ours.get(), "hello")) == 5);
  CHECK(pair.get() == "hello");

  const std::string much(8u << 20, 'x');
  const int taken = answer_of(q, sending(opcode::send, pair.ours.get(), much));
  CHECK(taken > 0);
  CHECK(taken < int(much.size()));
  // Full: the next one waits for the peer.
  recorded waiting(sending(opcode::send, pair.ours.get(), much));
  q.submit(waiting);
  q.wait(0);
  q.consume();
  CHECK(waiting.in_flight());
  while (!pair.get().empty()) {
  }
  REQUIRE(turn_until(q, [&] { return waiting.ended(); }));
  CHECK(waiting.value() > 0);
  CHECK(answer_of(q, sending(opcode::send, no_such_fd, "x")) == -EBADF);
}

TEST_CASE_TEMPLATE("F6: engine: send to a dead socket answers EPIPE and raises no SIGPIPE", Engine, on_uring,
                   on_epoll) {
  if (missing<Engine>()) return;
  const auto child = keel::test::in_child([] {
    ::signal(SIGPIPE, SIG_DFL);
    queue q(Engine::options());
    for (const bool tcp : {false, true}) {
      fd_pair pair = tcp ? tcp_pair() : unix_pair();
      pair.reset_peer();
      // On TCP the first one may still tell of the reset.
      const int first = answer_of(q, sending(opcode::send, pair.ours.get(), "x"));
      if (first != -EPIPE && first != -ECONNRESET) return 1;
      if (answer_of(q, sending(opcode::send, pair.ours.get(), "x")) != -EPIPE) return 2;
    }
    return 0;
  });
  CHECK(child.signal == 0);
  CHECK(child.exit_code == 0);
}

TEST_CASE_TEMPLATE("D7: engine: accept gives a descriptor that is CLOEXEC and NONBLOCK", Engine, on_uring,
                   on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  const listening_socket listener;
  const unique_fd client = listener.connected();
  const unique_fd accepted(answer_of(q, {.code = opcode::accept, .fd = listener.fd.get()}));
  REQUIRE(accepted);
  CHECK(is_close_on_exec(accepted.get()));
  CHECK(is_nonblocking(accepted.get()));
  CHECK(answer_of(q, {.code = opcode::accept, .fd = client.get()}) == -EINVAL);
  const fd_pair pipe = pipe_pair();
  CHECK(answer_of(q, {.code = opcode::accept, .fd = pipe.ours.get()}) == -ENOTSOCK);
}

TEST_CASE_TEMPLATE("engine: a multishot accept goes on until it is cancelled", Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  const listening_socket listener;
  recorded op({.code = opcode::accept, .multishot = true, .fd = listener.fd.get()});
  q.submit(op);
  for (std::size_t i = 1; i <= 5; ++i) {
    const unique_fd client = listener.connected();
    REQUIRE(turn_until(q, [&] { return op.answers.size() == i; }));
    const unique_fd accepted(op.answers.back().value);
    REQUIRE(accepted);
    CHECK(op.answers.back().more());
    CHECK(is_close_on_exec(accepted.get()));
    CHECK(is_nonblocking(accepted.get()));
  }
  q.cancel(op);
  REQUIRE(turn_until(q, [&] { return op.ended(); }));
  CHECK(op.value() == -ECANCELED);
}

TEST_CASE_TEMPLATE("engine: connect succeeds, is refused, and says so on a socket that does not block, too",
                   Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  for (const int flags : {0, int(SOCK_NONBLOCK)}) {
    listening_socket listener;
    const request what{.code = opcode::connect, .size_bytes = sizeof listener.at, .data = &listener.at};
    const unique_fd first(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
    request to_first = what;
    to_first.fd = first.get();
    CHECK(answer_of(q, to_first) == 0);
    CHECK(answer_of(q, to_first) == -EISCONN);

    listener.fd.reset();
    const unique_fd second(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
    request to_nobody = what;
    to_nobody.fd = second.get();
    CHECK(answer_of(q, to_nobody) == -ECONNREFUSED);
  }
}

TEST_CASE_TEMPLATE("engine: poll answers what is ready; a multishot answers for each change", Engine,
                   on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  fd_pair pair = unix_pair();
  CHECK(answer_of(q, {.code = opcode::poll, .fd = pair.ours.get(), .flags = POLLOUT}) == POLLOUT);

  recorded op({.code = opcode::poll, .multishot = true, .fd = pair.ours.get(), .flags = POLLIN});
  q.submit(op);
  q.wait(0);
  q.consume();
  CHECK(op.answers.empty());
  for (std::size_t i = 1; i <= 3; ++i) {
    pair.put("x");
    REQUIRE(turn_until(q, [&] { return op.answers.size() == i; }));
    CHECK((op.answers.back().value & POLLIN) != 0);
    CHECK(op.answers.back().more());
  }
  pair.theirs.reset();
  REQUIRE(turn_until(q, [&] { return (op.answers.back().value & POLLHUP) != 0; }));
  if (op.in_flight()) q.cancel(op);
  REQUIRE(turn_until(q, [&] { return op.ended(); }));
  CHECK(answer_of(q, {.code = opcode::poll, .fd = no_such_fd, .flags = POLLIN}) == -EBADF);
}

TEST_CASE_TEMPLATE("engine: open, write, read and close work on files, at offsets", Engine, on_uring,
                   on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  const keel::test::temporary_folder folder;
  const std::string path = folder / "file";
  const int fd = answer_of(q, opening(path, O_RDWR | O_CREAT | O_EXCL, 0640));
  REQUIRE(fd >= 0);
  CHECK(is_close_on_exec(fd));
  CHECK(answer_of(q, opening(path, O_RDWR | O_CREAT | O_EXCL, 0640)) == -EEXIST);
  CHECK(answer_of(q, opening(folder / "none", O_RDONLY)) == -ENOENT);

  CHECK(answer_of(q, sending(opcode::write, fd, "hello world")) == 11);
  request at_six = sending(opcode::write, fd, "there");
  at_six.offset = 6;
  CHECK(answer_of(q, at_six) == 5);
  CHECK(folder.read("file") == "hello there");

  std::array<char, 16> buffer{};
  request read = receiving(opcode::read, fd, buffer);
  CHECK(answer_of(q, read) == 11);
  read.offset = 6;
  CHECK(answer_of(q, read) == 5);
  CHECK(std::string_view(buffer.data(), 5) == "there");
  read.offset = 11;
  CHECK(answer_of(q, read) == 0);

  CHECK(answer_of(q, {.code = opcode::close, .fd = fd}) == 0);
  CHECK_FALSE(keel::test::is_open(fd));
  CHECK(answer_of(q, {.code = opcode::close, .fd = fd}) == -EBADF);
  CHECK(answer_of(q, read) == -EBADF);
}

TEST_CASE_TEMPLATE("engine: J1: paths that no kernel takes are errors", Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  CHECK(answer_of(q, opening(std::string(5000, 'x'), O_RDONLY)) == -ENAMETOOLONG);
  CHECK(answer_of(q, opening("", O_RDONLY)) == -ENOENT);
  CHECK(answer_of(q, {.code = opcode::open, .data = nullptr}) == -EFAULT);
}

TEST_CASE_TEMPLATE("engine: read and write work on pipes", Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  fd_pair pipe = pipe_pair();
  CHECK(answer_of(q, sending(opcode::write, pipe.theirs.get(), "through")) == 7);
  std::array<char, 16> buffer{};
  CHECK(answer_of(q, receiving(opcode::read, pipe.ours.get(), buffer)) == 7);

  recorded waiting(receiving(opcode::read, pipe.ours.get(), buffer));
  q.submit(waiting);
  q.wait(0);
  q.consume();
  CHECK(waiting.in_flight());
  pipe.theirs.reset();
  REQUIRE(turn_until(q, [&] { return waiting.ended(); }));
  CHECK(waiting.value() == 0);
}

TEST_CASE_TEMPLATE("engine: drain reads a pipe into buffers of the pool, to its end", Engine, on_uring,
                   on_epoll) {
  if (missing<Engine>()) return;
  for (const bool multishot : {false, true}) {
    CAPTURE(multishot);
    queue q(Engine::options());
    fd_pair pipe = keel::test::pipe_pair();
    recorded op({.code = opcode::drain, .multishot = multishot, .fd = pipe.ours.get()});
    q.submit(op);
    REQUIRE(::write(pipe.theirs.get(), "hello", 5) == 5);
    REQUIRE(keel::test::turn_until(q, [&] { return !op.answers.empty(); }));
    CHECK(op.answers[0].value == 5);
    REQUIRE(op.answers[0].has_buffer());
    const auto id = op.answers[0].buffer();
    CHECK(std::memcmp(q.buffers().data(id), "hello", 5) == 0);
    q.buffers().give_back(id);
    pipe.theirs.reset();
    if (!op.in_flight()) q.submit(op);
    REQUIRE(keel::test::turn_until(q, [&] { return op.ended(); }));
    CHECK(op.value() == 0);
    CHECK(!op.answers.back().has_buffer());
  }
}

TEST_CASE_TEMPLATE("engine: futex waits while the word holds the value, and until it is woken", Engine,
                   on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  std::uint32_t word = 7;
  const int changed = answer_of(q, {.code = opcode::futex, .data = &word, .offset = 8});
  if (changed == -ENOSYS) return keel::test::skip("this engine cannot wait for futexes");
  CHECK(changed == -EAGAIN);
  recorded op({.code = opcode::futex, .data = &word, .offset = 7});
  q.submit(op);
  q.wait(0);
  // Where a thread waits, it may not have come to the word yet.
  while (::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0) == 0) {
    CHECK(std::string_view(q.info().name) == "epoll");
    std::this_thread::yield();
  }
  REQUIRE(keel::test::turn_until(q, [&] { return op.ended(); }));
  CHECK(op.value() == 0);
}

TEST_CASE_TEMPLATE("engine: every opcode can be asked for; a timer cannot", Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  for (int code = 0; code <= int(opcode::close); ++code) {
    if (opcode(code) == opcode::timer) continue;
    queue q(Engine::options());
    recorded op({.code = opcode(code), .multishot = opcode(code) == opcode::wake, .fd = no_such_fd});
    q.submit(op);
    q.cancel(op);
    REQUIRE(turn_until(q, [&] { return op.ended(); }));
    CHECK(q.idle());
  }
}

TEST_CASE_TEMPLATE("engine: MSG_WAITALL waits for all, to the end of the stream", Engine, on_uring,
                   on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  fd_pair pair = unix_pair();
  std::array<char, 16> buffer{};
  request whole = receiving(opcode::recv, pair.ours.get(), buffer);
  whole.flags = MSG_WAITALL;
  recorded op(whole);
  pair.put("0123");
  q.submit(op);
  for (const char* part : {"4567", "89ab", "cdef"}) {
    q.wait(0);
    q.consume();
    CHECK(op.answers.empty());
    pair.put(part);
  }
  REQUIRE(turn_until(q, [&] { return op.ended(); }));
  CHECK(op.value() == 16);
  CHECK(std::string_view(buffer.data(), 16) == "0123456789abcdef");

  pair.put("half");
  q.submit(op);
  q.wait(0);
  q.consume();
  pair.theirs.reset();
  REQUIRE(turn_until(q, [&] { return op.answers.size() == 2; }));
  CHECK(op.value() == 4);
}

TEST_CASE_TEMPLATE("C4: engine: a MSG_WAITALL that is cancelled answers what it has", Engine, on_uring,
                   on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  fd_pair pair = unix_pair();
  std::array<char, 16> buffer{};
  request whole = receiving(opcode::recv, pair.ours.get(), buffer);
  whole.flags = MSG_WAITALL;
  recorded op(whole);
  pair.put("part");
  q.submit(op);
  for (int turn = 0; turn < 2; ++turn) {
    q.wait(0);
    q.consume();
  }
  q.cancel(op);
  REQUIRE(turn_until(q, [&] { return op.ended(); }));
  CHECK(op.value() == 4);
}
