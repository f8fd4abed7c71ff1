#include <doctest/doctest.h>

#include <poll.h>
#include <sys/socket.h>
#include <cerrno>
#include <set>
#include <string>

#include "support/seed.hpp"
#include "support/sim_queue.hpp"

using keel::kevent_sys::opcode;
using keel::test::answer_of;
using keel::test::recorded;
using keel::test::sim_ms;
using keel::test::sim_queue;

TEST_CASE("F2: sim_datagram: each send is one receive, an empty one too") {
  sim_queue s;
  const auto [a, b] = s.world.datagram_pair();
  CHECK(s.send(a, "one") == 3);
  CHECK(s.send(a, "") == 0);
  CHECK(s.send(a, "three") == 5);

  CHECK(s.recv(b) == "one");
  CHECK(s.recv(b) == "0");
  CHECK(s.recv(b) == "three");
  CHECK(s.ready(b, POLLIN | POLLOUT) == POLLOUT);
}

TEST_CASE("F12: sim_datagram: what does not fit is cut off, and MSG_TRUNC tells its size") {
  sim_queue s;
  const auto [a, b] = s.world.datagram_pair();
  s.send(a, "abcdef");
  s.send(a, "ghijkl");
  CHECK(s.recv(b, 3) == "abc");
  char room[3];
  CHECK(answer_of(s.q, {.code = opcode::recv, .fd = b, .size_bytes = 3, .flags = MSG_TRUNC, .data = room}) ==
        6);
}

TEST_CASE("F12: sim_datagram: the loss of the peer is heard of once, after a datagram that met nobody") {
  sim_queue s;
  const auto [a, b] = s.world.datagram_pair();
  CHECK(s.close(b) == 0);
  CHECK(s.send(a, "anybody?") == 8);
  CHECK(s.send(a, "hello?") == -ECONNREFUSED);
  CHECK(s.send(a, std::string(65508, 'x')) == -EMSGSIZE);
}

TEST_CASE("sim_datagram: a link loses and reorders datagrams, the same with the same seed") {
  const std::uint64_t seed = keel::test::chosen_seed();
  CAPTURE(seed);
  const auto run = [seed] {
    sim_queue s({.seed = seed});
    const auto [a, b] = s.world.datagram_pair(
        {.capacity_datagrams = 300, .latency_ns = sim_ms, .jitter_ns = 5 * sim_ms, .loss = 200});
    for (int i = 0; i < 200; ++i) REQUIRE(s.send(a, std::to_string(1000 + i)) == 4);
    s.run_for(10 * sim_ms);
    std::string seen;
    while (s.ready(b, POLLIN) != 0) seen += s.recv(b);
    return seen;
  };
  const std::string first = run();
  CHECK(first == run());
  std::set<std::string> different;
  bool in_order = true;
  for (std::size_t i = 0; i < first.size(); i += 4) {
    if (i > 0 && first.substr(i, 4) < first.substr(i - 4, 4)) in_order = false;
    different.insert(first.substr(i, 4));
  }
  CHECK_FALSE(in_order);
  CHECK(different.size() == first.size() / 4);
  CHECK(different.size() > 100);
  CHECK(different.size() < 200);
}

TEST_CASE("sim_datagram: what finds no room is lost, and nobody is told") {
  sim_queue s;
  const auto [a, b] = s.world.datagram_pair({.capacity_datagrams = 2});
  for (const char* text : {"1", "2", "3"}) CHECK(s.send(a, text) == 1);
  CHECK(s.recv(b) == "1");
  CHECK(s.recv(b) == "2");
  CHECK(s.ready(b, POLLIN) == 0);
}
