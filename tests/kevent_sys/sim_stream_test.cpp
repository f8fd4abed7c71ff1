#include <doctest/doctest.h>

#include <poll.h>
#include <sys/socket.h>
#include <cerrno>
#include <string>

#include "support/sim_queue.hpp"

using keel::kevent_sys::never;
using keel::kevent_sys::opcode;
using keel::kevent_sys::sim_link;
using keel::test::answer_of;
using keel::test::recorded;
using keel::test::sim_ms;
using keel::test::sim_queue;

namespace {

keel::kevent_sys::request connect_to(int fd, std::string_view address) {
  return {
      .code = opcode::connect, .fd = fd, .size_bytes = std::uint32_t(address.size()), .data = address.data()};
}

}  // namespace

TEST_CASE("sim_stream: bytes go both ways, in order, and nothing is lost") {
  sim_queue s;
  const auto [a, b] = s.world.stream_pair();
  CHECK(s.send(a, "hello ") == 6);
  CHECK(s.send(a, "world") == 5);
  CHECK(s.send(b, "back") == 4);

  CHECK(s.recv(b, 3) == "hel");
  CHECK(s.recv(b, 64, MSG_PEEK) == "lo world");
  CHECK(s.recv(b) == "lo world");
  CHECK(s.recv(a) == "back");

  s.world.expect_end();
  CHECK(s.world.report() == "");
}

TEST_CASE("sim_stream: bytes and the end arrive after the link's latency, not before") {
  sim_queue s;
  const auto [a, b] = s.world.stream_pair({.latency_ns = 30 * sim_ms});
  const std::uint64_t start = s.now();
  std::string room(8, '\0');
  recorded op({.code = opcode::recv, .fd = b, .size_bytes = 8, .data = room.data()});
  s.q.submit(op);
  CHECK(s.send(a, "x") == 1);
  CHECK(s.world.shutdown_send(a) == 0);

  s.run_for(29 * sim_ms);
  CHECK(op.in_flight());
  s.q.wait(never);
  s.q.consume();
  CHECK(op.value() == 1);
  CHECK(s.now() == start + 30 * sim_ms);
  CHECK(s.recv(b) == "0");
}

TEST_CASE("F1: sim_stream: a send takes what there is room for, and waits where there is none") {
  sim_queue s;
  const auto [a, b] = s.world.stream_pair({.capacity_bytes = 4});
  CHECK(s.send(a, "abcdef") == 4);
  recorded op({.code = opcode::send, .fd = a, .size_bytes = 2, .data = "ef"});
  s.q.submit(op);
  s.turn();
  CHECK(op.in_flight());
  CHECK(s.ready(a, POLLOUT) == 0);

  CHECK(s.recv(b, 1) == "a");
  s.turn();
  CHECK(op.value() == 1);
  CHECK(s.recv(b) == "bcde");
}

TEST_CASE("F7: sim_stream: the directions end one by one") {
  sim_queue s;
  const auto [a, b] = s.world.stream_pair();
  CHECK(s.send(a, "last words") == 10);
  CHECK(s.world.shutdown_send(a) == 0);

  CHECK(s.recv(b) == "last words");
  CHECK(s.recv(b) == "0");
  CHECK(s.recv(b) == "0");
  CHECK(s.send(a, "x") == -EPIPE);
  CHECK(s.send(b, "answer") == 6);
  CHECK(s.recv(a) == "answer");
  CHECK(s.ready(b, POLLIN | POLLRDHUP) == (POLLIN | POLLRDHUP));
}

TEST_CASE("F8: sim_stream: a cut connection answers ECONNRESET once, then EPIPE and the end") {
  sim_queue s;
  const auto [a, b] = s.world.stream_pair();
  std::string room(8, '\0');
  recorded op({.code = opcode::recv, .fd = a, .size_bytes = 8, .data = room.data()});
  s.q.submit(op);
  s.turn();
  CHECK(s.world.reset(b) == 0);
  s.turn();

  CHECK(op.value() == -ECONNRESET);
  CHECK(s.send(a, "x") == -EPIPE);
  CHECK(s.recv(a) == "0");
  CHECK(s.send(b, "x") == -ECONNRESET);
  CHECK((s.ready(a, POLLIN) & POLLHUP) != 0);
}

TEST_CASE("F8: sim_stream: a close with unread bytes is a reset; without them it is the end") {
  sim_queue s;
  const auto [a, b] = s.world.stream_pair();
  SUBCASE("unread") {
    CHECK(s.send(a, "unread") == 6);
    CHECK(s.close(b) == 0);
    CHECK(s.recv(a) == "-104");
    CHECK(s.send(a, "x") == -EPIPE);
  }
  SUBCASE("all read: the peer learns it from the answer to its next bytes") {
    CHECK(s.send(b, "bye") == 3);
    CHECK(s.close(b) == 0);
    CHECK(s.recv(a) == "bye");
    CHECK(s.recv(a) == "0");
    CHECK(s.send(a, "into the void") == 13);
    CHECK(s.send(a, "x") == -EPIPE);
  }
  CHECK(s.close(a) == 0);
  CHECK(s.close(a) == -EBADF);
  s.world.expect_end();
  CHECK(s.world.report() == "");
}

TEST_CASE("D1: sim_stream: a close does not end what is in flight, the peer sees no end, and it is told") {
  sim_queue s;
  const auto [a, b] = s.world.stream_pair();
  std::string room(8, '\0');
  recorded op({.code = opcode::recv, .fd = a, .size_bytes = 8, .data = room.data()});
  s.q.submit(op);
  s.turn();
  CHECK(s.close(a) == 0);
  CHECK(s.world.report().find("was closed under recv") != std::string::npos);

  s.turn();
  CHECK(op.in_flight());
  CHECK(s.ready(b, POLLIN) == 0);
  CHECK(s.send(b, "stolen") == 6);
  s.turn();
  CHECK(op.value() == 6);
  CHECK(s.world.report().find("answered 6") != std::string::npos);
  CHECK(s.recv(b) == "0");
}

TEST_CASE("sim_stream: connect meets a listener, or is refused") {
  sim_queue s;
  const sim_link slow{.latency_ns = 10 * sim_ms};
  const int listening = s.world.listener("here", 128, slow);
  CHECK(s.world.listener("here") == -EADDRINUSE);
  const int ours = s.world.socket();
  CHECK(s.send(ours, "x") == -EPIPE);
  CHECK(answer_of(s.q, connect_to(ours, "elsewhere")) == -ECONNREFUSED);

  recorded accept({.code = opcode::accept, .fd = listening});
  s.q.submit(accept);
  s.turn();
  CHECK(accept.in_flight());
  const std::uint64_t start = s.now();
  CHECK(answer_of(s.q, connect_to(ours, "here")) == 0);
  CHECK(s.now() == start + 20 * sim_ms);
  CHECK(answer_of(s.q, connect_to(ours, "here")) == -EISCONN);

  const int theirs = accept.value();
  CHECK(s.send(ours, "hello") == 5);
  CHECK(s.recv(theirs) == "hello");
  CHECK(answer_of(s.q, {.code = opcode::accept, .fd = theirs}) == -EINVAL);
}

TEST_CASE("sim_stream: who finds a full backlog tries again; a closed listener turns the waiting away") {
  sim_queue s;
  const int listening = s.world.listener("here", 1);
  const int first = s.world.socket();
  const int second = s.world.socket();
  CHECK(answer_of(s.q, connect_to(first, "here")) == 0);
  recorded op(connect_to(second, "here"));
  s.q.submit(op);
  s.run_for(500 * sim_ms);
  CHECK(op.in_flight());

  CHECK(answer_of(s.q, {.code = opcode::accept, .fd = listening}) >= 0);
  s.run_for(1000 * sim_ms);
  CHECK(op.value() == 0);
  CHECK(s.close(listening) == 0);
  CHECK(s.recv(second) == "-104");
  CHECK(answer_of(s.q, connect_to(s.world.socket(), "here")) == -ECONNREFUSED);
}

TEST_CASE("D8: sim_stream: without descriptors accept answers EMFILE, and the connection waits") {
  sim_queue s({.descriptors_max = 3});
  const int listening = s.world.listener("here");
  const int ours = s.world.socket();
  const int spare = s.world.socket();
  CHECK(s.world.socket() == -EMFILE);
  CHECK(s.world.stream_pair().first == -EMFILE);
  CHECK(answer_of(s.q, connect_to(ours, "here")) == 0);
  recorded accept({.code = opcode::accept, .multishot = true, .fd = listening});
  CHECK(answer_of(s.q, accept) == -EMFILE);

  CHECK(s.close(spare) == 0);
  s.q.submit(accept);
  s.turn();
  REQUIRE(accept.answers.size() == 2);
  CHECK(accept.answers[1].more());
  CHECK(accept.answers[1].value == spare);
  CHECK(s.world.open_descriptors() == 3);
  s.end(accept);
}

TEST_CASE("sim_stream: pipes carry bytes one way, and say how they end") {
  sim_queue s;
  auto [reading, writing] = s.world.pipe({.capacity_bytes = 8});
  CHECK(s.recv(reading) == std::to_string(-ENOTSOCK));
  CHECK(answer_of(s.q, {.code = opcode::write, .fd = writing, .size_bytes = 5, .data = "hello"}) == 5);
  std::string room(3, '\0');
  CHECK(answer_of(s.q, {.code = opcode::read, .fd = reading, .size_bytes = 3, .data = room.data()}) == 3);
  CHECK(room == "hel");
  recorded drain({.code = opcode::drain, .multishot = true, .fd = reading});
  s.q.submit(drain);
  s.turn();
  REQUIRE(drain.answers.size() == 1);
  CHECK(s.leased(drain.answers[0]) == "lo");

  SUBCASE("the writer goes") {
    CHECK(s.close(writing) == 0);
    s.turn();
    CHECK(drain.value() == 0);
    CHECK(s.ready(reading, POLLIN) == POLLHUP);
  }
  SUBCASE("the reader goes") {
    s.end(drain);
    CHECK(s.close(reading) == 0);
    CHECK(answer_of(s.q, {.code = opcode::write, .fd = writing, .size_bytes = 1, .data = "x"}) == -EPIPE);
    CHECK(s.ready(writing, POLLOUT) == (POLLOUT | POLLERR));
  }
}

TEST_CASE("sim_stream: a descriptor that is none answers EBADF") {
  sim_queue s;
  const auto [a, b] = s.world.stream_pair();
  CHECK(a >= 1'000'000);
  CHECK(s.send(b + 1, "x") == -EBADF);
  CHECK(s.world.reset(b + 1) == -EBADF);
  CHECK(s.world.shutdown_send(b + 1) == -EBADF);
  CHECK(s.world.close(a) == 0);
  CHECK(s.world.socket() == a);
}
