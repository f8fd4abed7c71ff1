// EPOLLEXCLUSIVE in a ring's poll: what shares the events of one object among queues.

#include <doctest/doctest.h>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <functional>
#include <memory>

#include "kernel/raw_ring.hpp"
#include "support/fd_pairs.hpp"

using namespace keel::test;

namespace {

// Something that becomes readable, as often as it is told to.
struct object {
  std::string name;
  keel::unique_fd watched;
  keel::unique_fd other;
  std::function<void()> act;
};

object make_pair(const char* name, fd_pair pair) {
  const int theirs = pair.theirs.get();
  return {name, std::move(pair.ours), std::move(pair.theirs),
          [theirs] { REQUIRE(::write(theirs, "x", 1) == 1); }};
}

object make_eventfd() {
  keel::unique_fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const int fd = event.get();
  return {"eventfd", std::move(event), keel::unique_fd(), [fd] { REQUIRE(::eventfd_write(fd, 1) == 0); }};
}

object make_listener() {
  auto listener = std::make_shared<listening_socket>();
  auto clients = std::make_shared<std::vector<keel::unique_fd>>();
  return {"listener", std::move(listener->fd), keel::unique_fd(),
          [listener, clients] { clients->push_back(listener->connected()); }};
}

std::vector<object> all_objects() {
  std::vector<object> all;
  all.push_back(make_pair("unix", unix_pair()));
  all.push_back(make_pair("tcp", tcp_pair()));
  all.push_back(make_pair("pipe", pipe_pair()));
  all.push_back(make_eventfd());
  all.push_back(make_listener());
  return all;
}

// Lets two rings poll each object; says what both hear together after one activity, the one that heard first.
template <class Check>
void with_two_rings(unsigned flags, unsigned mask_a, unsigned mask_b, Check check) {
  if (!can_use_rings()) return;
  for (const unsigned flavour : both) {
    for (object& shared_object : all_objects()) {
      CAPTURE(flavour);
      CAPTURE(shared_object.name);
      raw_ring a(flavour);
      raw_ring b(flavour);
      a.poll(1, shared_object.watched.get(), mask_a, flags);
      b.poll(1, shared_object.watched.get(), mask_b, flags);
      CHECK(a.hear() == "");
      CHECK(b.hear() == "");
      check(shared_object, a, b);
    }
  }
}

// Waits until one of the rings has heard something, and gives what each has heard.
std::pair<std::string, std::string> hear_of(raw_ring& a, raw_ring& b) {
  std::string at_a;
  std::string at_b;
  CHECK(until([&] {
    at_a += a.hear();
    at_b += b.hear();
    return !at_a.empty() || !at_b.empty();
  }));
  return {at_a, at_b};
}

constexpr unsigned exclusive = POLLIN | EPOLLEXCLUSIVE;

}  // namespace

TEST_CASE("exclusive: without it both rings hear of an activity") {
  with_two_rings(0, POLLIN, POLLIN, [](object& shared_object, raw_ring& a, raw_ring& b) {
    shared_object.act();
    CHECK(a.hear(1) == "1=1");
    CHECK(b.hear(1) == "1=1");
  });
}

TEST_CASE("exclusive: of two one-shot polls one hears of the first activity, the other of the second") {
  with_two_rings(0, exclusive, exclusive, [](object& shared_object, raw_ring& a, raw_ring& b) {
    shared_object.act();
    const auto [first_a, first_b] = hear_of(a, b);
    CHECK(first_a + first_b == "1=1");
    shared_object.act();
    const auto [second_a, second_b] = hear_of(a, b);
    CHECK(second_a + second_b == "1=1");
    CHECK(first_a != second_a);
  });
}

TEST_CASE("exclusive: of two multishot polls exactly one hears of each activity") {
  with_two_rings(IORING_POLL_ADD_MULTI, exclusive, exclusive,
                 [](object& shared_object, raw_ring& a, raw_ring& b) {
                   for (int i = 0; i < 10; ++i) {
                     shared_object.act();
                     const auto [at_a, at_b] = hear_of(a, b);
                     CHECK(at_a + at_b == "1=1+");
                   }
                 });
}

TEST_CASE("exclusive: who does not ask for it hears of everything beside one of those who do") {
  with_two_rings(IORING_POLL_ADD_MULTI, exclusive, POLLIN,
                 [](object& shared_object, raw_ring& a, raw_ring& b) {
                   for (int i = 0; i < 3; ++i) {
                     shared_object.act();
                     CHECK(a.hear(1) == "1=1+");
                     CHECK(b.hear(1) == "1=1+");
                   }
                 });
}

TEST_CASE("exclusive: a poll that was cancelled leaves the next activity to the other") {
  with_two_rings(IORING_POLL_ADD_MULTI, exclusive, exclusive,
                 [](object& shared_object, raw_ring& a, raw_ring& b) {
                   a.cancel(2, 1);
                   CHECK(a.hear() == "1=ECANCELED 2=0");
                   shared_object.act();
                   CHECK(b.hear(1) == "1=1+");
                 });
}

// Whoever withdraws an exclusive poll has to look at the object once more, and to hand on what he finds.
TEST_CASE("exclusive: an activity that went to a poll which is then cancelled is lost to the other") {
  if (!can_use_rings()) return;
  for (const unsigned flavour : both) {
    CAPTURE(flavour);
    raw_ring a(flavour);
    raw_ring b(flavour);
    const fd_pair pair = unix_pair();
    a.poll(1, pair.ours.get(), exclusive);
    b.poll(1, pair.ours.get(), exclusive);
    a.hear();
    b.hear();
    pair.put("x");
    a.cancel(2, 1);
    // Deferred work had not made a completion of it yet.
    CHECK(a.hear() == (flavour == owned ? "1=ECANCELED 2=0" : "1=1 2=ENOENT"));
    CHECK(b.hear() == "");
  }
}

TEST_CASE("exclusive: both hear at once when the object is ready already") {
  if (!can_use_rings()) return;
  raw_ring a(owned);
  raw_ring b(owned);
  const fd_pair pair = unix_pair();
  pair.put("x");
  a.poll(1, pair.ours.get(), exclusive);
  b.poll(1, pair.ours.get(), exclusive);
  CHECK(a.hear() == "1=1");
  CHECK(b.hear() == "1=1");
}

TEST_CASE("exclusive: a peer that goes is told to everybody") {
  if (!can_use_rings()) return;
  for (const bool of_pipe : {false, true}) {
    CAPTURE(of_pipe);
    raw_ring a(owned);
    raw_ring b(owned);
    fd_pair pair = of_pipe ? pipe_pair() : unix_pair();
    a.poll(1, pair.ours.get(), exclusive);
    b.poll(1, pair.ours.get(), exclusive);
    a.hear();
    b.hear();
    pair.theirs.reset();
    const int mask = of_pipe ? POLLHUP : POLLIN | POLLHUP | POLLRDHUP;
    CHECK(a.hear() == "1=" + std::to_string(mask));
    CHECK(b.hear() == "1=" + std::to_string(mask));
  }
}

TEST_CASE("exclusive: a ring that asked before an epoll set hears alone") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const fd_pair pair = unix_pair();
  const keel::unique_fd set(::epoll_create1(EPOLL_CLOEXEC));
  ring.poll_multi(1, pair.ours.get(), exclusive);
  ring.hear();
  epoll_event event{EPOLLIN | EPOLLEXCLUSIVE | EPOLLET, {}};
  REQUIRE(::epoll_ctl(set.get(), EPOLL_CTL_ADD, pair.ours.get(), &event) == 0);
  pair.put("x");
  CHECK(ring.hear() == "1=1+");
  CHECK(::epoll_wait(set.get(), &event, 1, 0) == 0);
}
