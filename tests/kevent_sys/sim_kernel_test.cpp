#include <doctest/doctest.h>
#include <keel/base/unique_fd.hpp>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cerrno>
#include <optional>
#include <string>

#include "support/descriptors.hpp"
#include "support/sim_queue.hpp"

using keel::unique_fd;
using keel::kevent_sys::opcode;
using keel::test::answer_of;
using keel::test::recorded;
using keel::test::sim_queue;

namespace {

constexpr keel::kevent_sys::sim_options real{.real_descriptors = true};

}  // namespace

TEST_CASE("sim_kernel: the lowest free descriptor is the next one, above all of the process") {
  sim_queue s;
  const int first = s.world.socket();
  const int second = s.world.socket();
  CHECK(first == 1'000'000);
  CHECK(second == first + 1);
  CHECK(s.close(first) == 0);
  CHECK(s.world.socket() == first);
  CHECK(s.world.socket() == second + 1);
  CHECK(s.world.open_descriptors() == 3);
}

TEST_CASE("D2: sim_kernel: an operation works on what its descriptor was when it was handed over") {
  sim_queue s;
  const auto [a, b] = s.world.stream_pair();
  std::string room(4, '\0');
  recorded op({.code = opcode::recv, .fd = b, .size_bytes = 4, .data = room.data()});
  s.q.submit(op);
  s.turn();
  CHECK(s.world.close(b) == 0);
  const auto [c, d] = s.world.stream_pair();
  CHECK(c == b);
  CHECK(s.send(d, "new!") == 4);
  CHECK(s.send(a, "old!") == 4);
  CHECK(op.value() == 4);
  CHECK(room == "old!");
}

TEST_CASE("sim_kernel: real descriptors are closed and shut down by the process itself") {
  const std::size_t before = keel::test::open_descriptors();
  {
    sim_queue s(real);
    const auto [a, b] = s.world.stream_pair();
    CHECK(a < 1'000'000);
    unique_fd ours(a);
    const unique_fd theirs(b);
    CHECK(s.send(a, "bye") == 3);
    CHECK(::shutdown(a, SHUT_WR) == 0);
    s.turn();
    CHECK(s.recv(b) == "bye");
    CHECK(s.recv(b) == "0");
    CHECK(s.send(b, "end") == 3);
    CHECK(s.recv(a) == "end");
    ours.reset();
    s.turn();
    CHECK(s.send(b, "x") == 1);
    CHECK(s.send(b, "x") == -EPIPE);
    CHECK(s.world.open_descriptors() == 1);
    s.world.expect_end();
    CHECK(s.world.report() == "");
  }
  CHECK(keel::test::open_descriptors() == before);
}

TEST_CASE("D2: sim_kernel: a number that the process has used again is a new descriptor") {
  sim_queue s(real);
  const auto [a, b] = s.world.stream_pair();
  const unique_fd theirs(b);
  ::close(a);
  const unique_fd other(::dup(STDOUT_FILENO));
  CHECK(other.get() == a);
  recorded op({.code = opcode::poll, .fd = a, .flags = POLLIN});
  s.q.submit(op);
  s.turn();
  CHECK(op.in_flight());
  s.end(op);
  CHECK(s.recv(b) == "0");
}

TEST_CASE("sim_kernel: real sockets connect to an adopted listener, and accept gives real descriptors") {
  sim_queue s(real);
  const unique_fd listening(::socket(AF_INET, SOCK_STREAM, 0));
  s.world.adopt_listener(listening.get(), "here");
  std::optional<unique_fd> ours(::socket(AF_INET, SOCK_STREAM, 0));
  CHECK(answer_of(s.q, {.code = opcode::connect, .fd = ours->get(), .size_bytes = 4, .data = "here"}) == 0);
  const unique_fd theirs(answer_of(s.q, {.code = opcode::accept, .fd = listening.get()}));
  CHECK(s.send(ours->get(), "hello") == 5);
  CHECK(s.recv(theirs.get()) == "hello");
  ours.reset();
  s.turn();
  CHECK(s.recv(theirs.get()) == "0");
}
