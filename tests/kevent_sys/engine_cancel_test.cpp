// Cancellation against the real kernel: exactly one last event each time, and it is the operation's own.

#include <doctest/doctest.h>
#include <keel/kevent_sys/queue.hpp>

#include <poll.h>
#include <array>
#include <cerrno>
#include <cstddef>
#include <deque>
#include <random>
#include <string>

#include "support/engines.hpp"
#include "support/fd_pairs.hpp"
#include "support/recorded_operation.hpp"
#include "support/seed.hpp"
#include "support/temporary_folder.hpp"

using keel::unique_fd;
using keel::kevent_sys::buffer_lease;
using keel::kevent_sys::opcode;
using keel::kevent_sys::queue;
using keel::kevent_sys::queue_options;
using keel::kevent_sys::request;
using keel::test::answer_of;
using keel::test::fd_pair;
using keel::test::listening_socket;
using keel::test::missing;
using keel::test::on_epoll;
using keel::test::on_uring;
using keel::test::recorded;
using keel::test::turn_until;
using keel::test::unix_pair;

namespace {

// A descriptor on which each of `waiting_requests` waits for ever.
struct silent {
  silent() : pair(unix_pair()), full(unix_pair()), pipe(keel::test::pipe_pair()) {
    const std::string much(8u << 20, 'x');
    while (::send(full.ours.get(), much.data(), much.size(), MSG_DONTWAIT) > 0) {
    }
    file = unique_fd(::open(folder.write("file", "contents").c_str(), O_RDONLY | O_CLOEXEC));
  }
  std::deque<request> waiting_requests() {
    const int fd = pair.ours.get();
    const auto size = std::uint32_t(buffer.size());
    return {
        {.code = opcode::wake, .multishot = true},
        {.code = opcode::poll, .fd = fd, .flags = POLLIN},
        {.code = opcode::poll, .multishot = true, .fd = fd, .flags = POLLIN},
        {.code = opcode::accept, .fd = listener.fd.get()},
        {.code = opcode::accept, .multishot = true, .fd = listener.fd.get()},
        {.code = opcode::recv, .fd = fd, .size_bytes = size, .data = buffer.data()},
        {.code = opcode::receive, .fd = fd},
        {.code = opcode::receive, .multishot = true, .fd = fd},
        {.code = opcode::send, .fd = full.ours.get(), .size_bytes = size, .data = buffer.data()},
        {.code = opcode::sendfile, .fd = full.ours.get(), .file_fd = file.get(), .count = 8},
        {.code = opcode::read, .fd = pipe.ours.get(), .size_bytes = size, .data = buffer.data()},
        {.code = opcode::drain, .fd = pipe.ours.get()},
        {.code = opcode::drain, .multishot = true, .fd = pipe.ours.get()},
        {.code = opcode::futex, .data = &word, .offset = 7},
    };
  }

  std::uint32_t word = 7;
  fd_pair pair;
  fd_pair full;
  fd_pair pipe;
  listening_socket listener;
  keel::test::temporary_folder folder;
  unique_fd file;
  std::array<char, 64> buffer{};
};

void check_all_cancelled(const queue_options& options, int turns_before, bool twice) {
  queue q(options);
  silent nothing;
  const bool futexes = answer_of(q, {.code = opcode::futex, .data = &nothing.word, .offset = 8}) != -ENOSYS;
  for (const request& what : nothing.waiting_requests()) {
    if (what.code == opcode::futex && !futexes) continue;
    CAPTURE(int(what.code));
    recorded op(what);
    q.submit(op);
    for (int turn = 0; turn < turns_before; ++turn) {
      q.wait(0);
      q.consume();
    }
    REQUIRE(op.answers.empty());
    q.cancel(op);
    if (twice) {
      q.cancel(op);
      q.wait(0);
      q.cancel(op);
    }
    REQUIRE(turn_until(q, [&] { return op.ended(); }));
    CHECK(op.answers.size() == 1);
    CHECK(op.value() == -ECANCELED);
    CHECK(q.idle());
  }
}

}  // namespace

TEST_CASE_TEMPLATE("engine: cancel before the first turn, after it, and long after it: ECANCELED, once",
                   Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  for (const int turns : {0, 1, 3}) check_all_cancelled(Engine::options(), turns, false);
}

TEST_CASE_TEMPLATE("C11: engine: cancelling twice is cancelling once", Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  for (const int turns : {0, 2}) check_all_cancelled(Engine::options(), turns, true);
}

TEST_CASE_TEMPLATE("C5: engine: cancelling what has finished, or is idle, changes nothing", Engine, on_uring,
                   on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  recorded op({.code = opcode::nop});
  q.cancel(op);
  q.submit(op);
  q.wait(0);  // its event is in the ring
  q.cancel(op);
  q.consume();
  CHECK(op.value() == 0);
  q.cancel(op);
  CHECK(q.idle());
  // The next use of the same operation is not hit by the cancels before.
  CHECK(answer_of(q, op) == 0);
  CHECK(op.answers.size() == 2);
}

TEST_CASE_TEMPLATE("B14: engine: a late cancel of an operation's last use does not hit its next use", Engine,
                   on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  fd_pair pair = unix_pair();
  std::array<char, 16> buffer{};
  recorded op({.code = opcode::recv, .fd = pair.ours.get(), .size_bytes = 16, .data = buffer.data()});
  for (int round = 0; round < 200; ++round) {
    op.answers.clear();
    q.submit(op);
    q.wait(0);
    q.consume();
    pair.put("x");
    q.cancel(op);
    REQUIRE(turn_until(q, [&] { return op.ended(); }));
    const bool lost = op.value() == -ECANCELED;
    // Submitted at once, in the turn in which the kernel may still see the cancel.
    q.submit(op);
    if (!lost) pair.put("y");
    REQUIRE(turn_until(q, [&] { return op.ended(); }));
    REQUIRE(op.value() == 1);
  }
}

TEST_CASE_TEMPLATE("C2 C4: engine: in a race the operation's own answer is the truth, and no byte is lost",
                   Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  const std::uint64_t seed = keel::test::chosen_seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  queue q(Engine::options());
  fd_pair pair = unix_pair();
  std::array<char, 16> buffer{};
  recorded op({.code = opcode::recv, .fd = pair.ours.get(), .size_bytes = 16, .data = buffer.data()});
  std::size_t sent = 0;
  std::size_t received = 0;
  std::size_t cancelled = 0;
  for (int round = 0; round < 5'000; ++round) {
    op.answers.clear();
    q.submit(op);
    if (random() % 2 == 0) {
      q.wait(0);
      q.consume();
    }
    if (random() % 2 == 0) {
      pair.put("x");
      ++sent;
    }
    if (!op.ended()) q.cancel(op);
    REQUIRE(turn_until(q, [&] { return op.ended(); }));
    REQUIRE(op.answers.size() == 1);
    if (op.value() > 0) {
      received += std::size_t(op.value());
    } else {
      REQUIRE(op.value() == -ECANCELED);
      ++cancelled;
    }
  }
  CHECK(cancelled > 0);
  std::string left(sent + 1, '\0');
  const ssize_t n = ::recv(pair.ours.get(), left.data(), left.size(), MSG_DONTWAIT);
  CHECK(received + (n > 0 ? std::size_t(n) : 0) == sent);
}

TEST_CASE_TEMPLATE(
    "C4 E2: engine: a multishot receive that is cancelled under fire loses no byte and no buffer", Engine,
    on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options({.buffers = 8, .buffers_limit = 8, .buffer_bytes = 64}));
  fd_pair pair = unix_pair();
  std::size_t sent = 0;
  std::size_t received = 0;
  struct receiver : keel::kevent_sys::operation {
    receiver(queue& its_queue, int fd, std::size_t& count)
        : operation({.code = opcode::receive, .multishot = true, .fd = fd}, &note),
          q(its_queue),
          bytes(count) {}
    static void note(operation& self, keel::kevent_sys::answer a) noexcept {
      auto& me = static_cast<receiver&>(self);
      if (a.has_buffer()) q_give_back(me.q, a);
      if (a.value > 0) me.bytes += std::size_t(a.value);
      if (!a.more()) me.last = a.value;
    }
    static void q_give_back(queue& q, keel::kevent_sys::answer a) { q.buffers().give_back(a.buffer()); }
    queue& q;
    std::size_t& bytes;
    int last = 1;
  } op(q, pair.ours.get(), received);

  for (int round = 0; round < 2'000; ++round) {
    op.last = 1;
    q.submit(op);
    for (int i = 0; i < 3; ++i) {
      pair.put("0123456789");
      sent += 10;
      if (i == 1) q.wait(0);
    }
    q.consume();
    q.cancel(op);
    REQUIRE(turn_until(q, [&] { return !op.in_flight(); }));
    REQUIRE(op.last == -ECANCELED);
  }
  q.submit(op);
  REQUIRE(turn_until(q, [&] { return received == sent; }));
  q.cancel(op);
  REQUIRE(turn_until(q, [&] { return !op.in_flight(); }));
  CHECK(received == sent);
  CHECK(q.buffers().away() == 0);
}
