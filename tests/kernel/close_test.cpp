// Closing and cancelling: what becomes of a request whose descriptor goes.

#include <doctest/doctest.h>

#include <poll.h>
#include <cerrno>
#include <cstdint>
#include <random>

#include "kernel/raw_ring.hpp"
#include "support/fd_pairs.hpp"
#include "support/seed.hpp"

using namespace keel::test;

namespace {

// What a receive that does not wait says about the peer's end: "EOF", "EAGAIN".
std::string state_of(int fd) {
  char byte = 0;
  const ssize_t n = ::recv(fd, &byte, 1, MSG_DONTWAIT);
  if (n == 0) return "EOF";
  return n > 0 ? "data" : ::strerrorname_np(errno);
}

}  // namespace

TEST_CASE("D1: close: an armed poll gets no completion, and the peer sees no end, until it is cancelled") {
  if (!can_use_rings()) return;
  for (const unsigned flavour : both) {
    raw_ring ring(flavour);
    fd_pair pair = unix_pair();
    ring.poll_multi(1, pair.ours.get(), POLLIN);
    ring.hear();
    pair.ours.reset();
    CHECK(ring.hear() == "");
    CHECK(state_of(pair.theirs.get()) == "EAGAIN");
    pair.put("x");
    CHECK(ring.hear() == "1=1+");
    ring.cancel(2, 1);
    CHECK(ring.hear() == "1=ECANCELED 2=0");
    CHECK(until([&] { return state_of(pair.theirs.get()) == "ECONNRESET"; }));
  }
}

TEST_CASE("D1: close: a receive in flight gets no completion, and takes the next bytes") {
  if (!can_use_rings()) return;
  for (const unsigned flavour : both) {
    raw_ring ring(flavour);
    fd_pair pair = tcp_pair();
    char buffer[8] = {};
    ring.ask(1, IORING_OP_RECV, pair.ours.get(), buffer, sizeof buffer);
    ring.hear();
    pair.ours.reset();
    CHECK(ring.hear() == "");
    CHECK(state_of(pair.theirs.get()) == "EAGAIN");
    pair.put("bytes");
    CHECK(ring.hear(1) == "1=5");
    CHECK(std::string_view(buffer, 5) == "bytes");
    CHECK(until([&] { return state_of(pair.theirs.get()) == "EOF"; }));
  }
}

TEST_CASE("D3: close: it is too late to cancel by a descriptor that was closed") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  fd_pair pair = unix_pair();
  const int number = pair.ours.get();
  char byte = 0;
  ring.ask(1, IORING_OP_RECV, number, &byte, 1);
  ring.hear();
  pair.ours.reset();
  ring.cancel_fd(2, number);
  CHECK(ring.hear() == "2=EBADF");
  const fd_pair next = unix_pair();
  REQUIRE(next.ours.get() == number);
  ring.cancel_fd(3, number);
  CHECK(ring.hear() == "3=ENOENT");
  ring.cancel(4, 1);
  CHECK(ring.hear() == "1=ECANCELED 4=0");
}

TEST_CASE("close: cancelling all by descriptor counts what it ended") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const fd_pair pair = unix_pair();
  char byte = 0;
  ring.ask(1, IORING_OP_RECV, pair.ours.get(), &byte, 1);
  ring.poll(2, pair.ours.get(), POLLIN);
  ring.poll_multi(3, pair.ours.get(), POLLIN);
  ring.hear();
  ring.cancel_fd(4, pair.ours.get(), IORING_ASYNC_CANCEL_ALL);
  CHECK(ring.hear() == "1=ECANCELED 2=ECANCELED 3=ECANCELED 4=3");
  ring.cancel_fd(5, pair.ours.get(), IORING_ASYNC_CANCEL_ALL);
  CHECK(ring.hear() == "5=0");
}

TEST_CASE("close: shutdown ends a receive with 0, and an accept with EINVAL") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const fd_pair pair = tcp_pair();
  const listening_socket listener;
  char byte = 0;
  ring.ask(1, IORING_OP_RECV, pair.ours.get(), &byte, 1);
  ring.ask(2, IORING_OP_ACCEPT, listener.fd.get());
  ring.hear();
  ::shutdown(pair.ours.get(), SHUT_RDWR);
  ::shutdown(listener.fd.get(), SHUT_RDWR);
  CHECK(ring.hear(2) == "1=0 2=EINVAL");
}

TEST_CASE("cancel: with CQE_SKIP_SUCCESS it answers only when it came too late") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const fd_pair pair = unix_pair();
  ring.poll_multi(1, pair.ours.get(), POLLIN);
  ring.hear();
  ring.cancel(2, 1).flags = IOSQE_CQE_SKIP_SUCCESS;
  CHECK(ring.hear() == "1=ECANCELED");
  ring.cancel(3, 1).flags = IOSQE_CQE_SKIP_SUCCESS;
  CHECK(ring.hear() == "3=ENOENT");
}

TEST_CASE(
    "C2: cancel: however it races, the operation and its cancel answer once each, and no byte is lost") {
  if (!can_use_rings()) return;
  const std::uint64_t seed = chosen_seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  raw_ring ring(owned);
  const fd_pair pair = unix_pair();
  std::size_t sent = 0;
  std::size_t received = 0;
  for (int i = 0; i < 3000; ++i) {
    char buffer[64];
    ring.ask(1, IORING_OP_RECV, pair.ours.get(), buffer, sizeof buffer);
    if (random() % 2 == 0) ring.submit();
    if (random() % 2 == 0) {
      pair.put("x");
      ++sent;
    }
    if (random() % 4 == 0) ring.submit();
    ring.cancel(2, 1);
    const auto answers = ring.collect(2);
    REQUIRE(answers.size() == 2);
    const io_uring_cqe& own = answers[answers[0].user_data == 1 ? 0 : 1];
    REQUIRE(own.user_data == 1);
    CHECK((own.res > 0 || own.res == -ECANCELED));
    if (own.res > 0) received += std::size_t(own.res);
  }
  char rest[64];
  for (ssize_t n = 0; (n = ::recv(pair.ours.get(), rest, sizeof rest, 0)) > 0;) received += std::size_t(n);
  CHECK(received == sent);
}

TEST_CASE("C9: cancel: SYNC_CANCEL of everything ends everything") {
  if (!can_use_rings()) return;
  for (const unsigned flavour : both) {
    raw_ring ring(flavour, 256);
    const fd_pair pair = unix_pair();
    char bytes[100];
    for (std::uint64_t i = 0; i < 100; ++i) ring.ask(i, IORING_OP_RECV, pair.ours.get(), &bytes[i], 1);
    ring.hear();
    io_uring_sync_cancel_reg all{};
    all.flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL;
    all.timeout = {-1, -1};
    CHECK(io_uring_register_sync_cancel(ring.raw(), &all) >= 0);
    int cancelled = 0;
    for (const io_uring_cqe& cqe : ring.collect(100)) cancelled += cqe.res == -ECANCELED ? 1 : 0;
    CHECK(cancelled == 100);
  }
}

TEST_CASE("D11: close: a port is free at once when the ring was drained before it went") {
  if (!can_use_rings()) return;
  for (int i = 0; i < 20; ++i) {
    listening_socket listener;
    {
      raw_ring ring(owned);
      ring.ask(1, IORING_OP_ACCEPT, listener.fd.get());
      ring.hear();
      ring.cancel(2, 1);
      CHECK(ring.hear() == "1=ECANCELED 2=0");
      listener.fd.reset();
    }
    const keel::unique_fd again(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    CHECK(::bind(again.get(), listener.address(), sizeof listener.at) == 0);
  }
}
