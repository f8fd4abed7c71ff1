// IORING_OP_POLL_ADD: what a readiness registration is made of.

#include <doctest/doctest.h>

#include <poll.h>
#include <sys/eventfd.h>
#include <atomic>
#include <thread>

#include "kernel/raw_ring.hpp"
#include "support/fd_pairs.hpp"
#include "support/temporary_folder.hpp"

using namespace keel::test;

namespace {

void update(raw_ring& ring, std::uint64_t number, std::uint64_t target, unsigned mask, unsigned flags) {
  auto& sqe = ring.ask(number, IORING_OP_POLL_REMOVE, -1, nullptr, flags);
  sqe.addr = target;
  sqe.poll32_events = mask;
}

void remove(raw_ring& ring, std::uint64_t number, std::uint64_t target) {
  update(ring, number, target, 0, 0);
}

std::string read_all(int fd) {
  char buffer[64];
  const ssize_t n = ::read(fd, buffer, sizeof buffer);
  return {buffer, n < 0 ? 0 : std::size_t(n)};
}

}  // namespace

TEST_CASE("poll: what is ready when it is armed answers at once") {
  if (!can_use_rings()) return;
  for (const unsigned flavour : both) {
    raw_ring ring(flavour);
    const fd_pair pair = unix_pair();
    pair.put("x");
    ring.poll(1, pair.ours.get(), POLLIN);
    CHECK(ring.hear() == "1=1");
    ring.poll(2, pair.ours.get(), POLLIN | POLLOUT);
    CHECK(ring.hear() == "2=5");
    ring.poll_multi(3, pair.ours.get(), POLLIN);
    CHECK(ring.hear() == "3=1+");
  }
}

TEST_CASE("poll: activity that races with arming is never lost") {
  if (!can_use_rings()) return;
  constexpr int rounds = 2500;
  for (const unsigned flags : {0u, unsigned{IORING_POLL_ADD_MULTI}}) {
    raw_ring ring(owned);
    const fd_pair pair = unix_pair();
    std::atomic<int> round{0};
    std::thread writer([&] {
      for (int i = 0; i < rounds; ++i) {
        round.wait(i);
        if (::write(pair.theirs.get(), "x", 1) != 1) return;
      }
    });
    int heard = 0;
    for (int i = 0; i < rounds; ++i) {
      ring.poll(1, pair.ours.get(), POLLIN, flags);
      round = i + 1;
      round.notify_one();
      heard += ring.collect(1).empty() ? 0 : 1;
      CHECK(read_all(pair.ours.get()) == "x");
      if (flags == 0) continue;
      ring.cancel(2, 1);
      ring.collect(1);
    }
    writer.join();
    CHECK(heard == rounds);
  }
}

TEST_CASE("poll: multishot tells of each edge without a read in between") {
  if (!can_use_rings()) return;
  for (const unsigned flavour : both) {
    raw_ring ring(flavour);
    for (const bool of_pipe : {false, true}) {
      const fd_pair pair = of_pipe ? pipe_pair() : unix_pair();
      ring.poll_multi(1, pair.ours.get(), POLLIN);
      CHECK(ring.hear() == "");
      pair.put("x");
      CHECK(ring.hear() == "1=1+");
      CHECK(ring.hear() == "");
      pair.put("y");
      CHECK(ring.hear() == "1=1+");
      CHECK(read_all(pair.ours.get()) == "xy");
      CHECK(ring.hear() == "");
      pair.put("z");
      CHECK(ring.hear() == "1=1+");
      ring.cancel(2, 1);
      ring.collect(2);
    }
  }
}

TEST_CASE("poll: multishot merges the edges that come before the owner enters") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const fd_pair pair = unix_pair();
  ring.poll_multi(1, pair.ours.get(), POLLIN);
  ring.hear();
  pair.put("x");
  pair.put("y");
  pair.put("z");
  CHECK(ring.hear() == "1=1+");
}

TEST_CASE("poll: an edge that was read before the owner enters is still told: consumers must not block") {
  if (!can_use_rings()) return;
  for (const unsigned flags : {0u, unsigned{IORING_POLL_ADD_MULTI}}) {
    raw_ring ring(owned);
    const fd_pair pair = unix_pair();
    ring.poll(1, pair.ours.get(), POLLIN, flags);
    ring.hear();
    pair.put("x");
    CHECK(read_all(pair.ours.get()) == "x");
    CHECK(ring.hear() == (flags == 0 ? "1=1" : "1=1+"));
  }
}

TEST_CASE("poll: the kernel has no level-triggered poll to offer") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const fd_pair pair = unix_pair();
  ring.poll(1, pair.ours.get(), POLLIN, IORING_POLL_ADD_LEVEL);
  CHECK(ring.hear() == "1=EINVAL");
  ring.poll(2, pair.ours.get(), POLLIN, IORING_POLL_ADD_LEVEL | IORING_POLL_ADD_MULTI);
  CHECK(ring.hear() == "2=EINVAL");
}

TEST_CASE("poll: a one-shot poll armed again on what is still ready answers again: that is level behaviour") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const fd_pair pair = pipe_pair();
  pair.put("x");
  for (int i = 0; i < 3; ++i) {
    ring.poll(1, pair.ours.get(), POLLIN);
    CHECK(ring.hear() == "1=1");
  }
  read_all(pair.ours.get());
  ring.poll(1, pair.ours.get(), POLLIN);
  CHECK(ring.hear() == "");
}

TEST_CASE("poll: a regular file is ready at once") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const temporary_folder folder;
  const keel::unique_fd file(::open(folder.write("file", "text").c_str(), O_RDONLY | O_CLOEXEC));
  ring.poll(1, file.get(), POLLIN);
  CHECK(ring.hear() == "1=1");
  ring.poll(2, file.get(), POLLIN | POLLOUT);
  CHECK(ring.hear() == "2=5");
}

TEST_CASE("poll: POLLHUP and POLLRDHUP come asked for or not") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  fd_pair pipe = pipe_pair();
  ring.poll_multi(1, pipe.ours.get(), POLLIN);
  ring.hear();
  pipe.theirs.reset();
  CHECK(ring.hear() == "1=16+");

  const fd_pair pair = unix_pair();
  ring.poll(2, pair.ours.get(), POLLIN);
  ring.hear();
  ::shutdown(pair.theirs.get(), SHUT_WR);
  CHECK(ring.hear() == "2=" + std::to_string(POLLIN | POLLRDHUP));
}

TEST_CASE("poll: an eventfd that nobody reads fires a multishot poll with each write") {
  if (!can_use_rings()) return;
  for (const unsigned flavour : both) {
    raw_ring ring(flavour);
    const keel::unique_fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    ring.poll_multi(1, event.get(), POLLIN);
    CHECK(ring.hear() == "");
    for (int i = 0; i < 100; ++i) {
      REQUIRE(::eventfd_write(event.get(), 1) == 0);
      CHECK(ring.hear() == "1=1+");
    }
  }
}

TEST_CASE("poll: POLL_REMOVE of a multishot poll that fires answers EALREADY and leaves it armed") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const fd_pair pair = unix_pair();
  ring.poll_multi(1, pair.ours.get(), POLLIN);
  ring.hear();
  pair.put("x");
  remove(ring, 2, 1);
  CHECK(ring.hear() == "1=1+ 2=EALREADY");
  pair.put("y");
  CHECK(ring.hear() == "1=1+");
  remove(ring, 3, 1);
  CHECK(ring.hear() == "1=ECANCELED 3=0");
  remove(ring, 4, 1);
  CHECK(ring.hear() == "4=ENOENT");
}

TEST_CASE("poll: ASYNC_CANCEL ends a multishot poll even while it fires") {
  if (!can_use_rings()) return;
  for (const bool by_fd : {false, true}) {
    raw_ring ring(owned);
    const fd_pair pair = unix_pair();
    ring.poll_multi(1, pair.ours.get(), POLLIN);
    ring.hear();
    pair.put("x");
    if (by_fd)
      ring.cancel_fd(2, pair.ours.get(), IORING_ASYNC_CANCEL_ALL);
    else
      ring.cancel(2, 1);
    CHECK(ring.hear() == (by_fd ? "1=ECANCELED 2=1" : "1=ECANCELED 2=0"));
    pair.put("y");
    CHECK(ring.hear() == "");
  }
}

TEST_CASE("poll: an update changes the mask, and cannot make a one-shot poll a multishot one") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const fd_pair pair = unix_pair();
  ring.poll(1, pair.ours.get(), POLLIN);
  ring.hear();
  update(ring, 2, 1, POLLIN | POLLOUT, IORING_POLL_UPDATE_EVENTS | IORING_POLL_ADD_MULTI);
  CHECK(ring.hear(2) == "1=4 2=0");
  pair.put("x");
  CHECK(ring.hear() == "");
}
