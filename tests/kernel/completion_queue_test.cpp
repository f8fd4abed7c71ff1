// The completion queue: overflow, and the ring as something that can be polled.

#include <doctest/doctest.h>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <algorithm>
#include <thread>

#include "kernel/raw_ring.hpp"
#include "support/fd_pairs.hpp"

using namespace keel::test;

namespace {

bool is_readable(int fd) {
  pollfd one{fd, POLLIN, 0};
  return ::poll(&one, 1, 0) == 1;
}

// A set that watches one descriptor.
struct epoll_set {
  explicit epoll_set(int watched, unsigned mask = EPOLLIN) : fd(::epoll_create1(EPOLL_CLOEXEC)) {
    epoll_event event{mask, {}};
    REQUIRE(::epoll_ctl(fd.get(), EPOLL_CTL_ADD, watched, &event) == 0);
  }
  int ready() const {
    epoll_event event{};
    return ::epoll_wait(fd.get(), &event, 1, 0);
  }
  keel::unique_fd fd;
};

}  // namespace

TEST_CASE("B6: overflow: nothing is lost and the order is kept, but it waits for an enter") {
  if (!can_use_rings()) return;
  for (const unsigned flavour : both) {
    raw_ring ring(flavour, 64, 64);
    for (std::uint64_t i = 0; i < 640; ++i) {
      ring.nop(i);
      if (i % 64 == 63) ring.submit();
    }
    io_uring_get_events(ring.raw());
    CHECK(io_uring_cq_has_overflow(ring.raw()));
    std::vector<io_uring_cqe> all = ring.take();
    CHECK(all.size() == 64);
    const std::vector<io_uring_cqe> rest = ring.collect(640 - 64);
    all.insert(all.end(), rest.begin(), rest.end());
    REQUIRE(all.size() == 640);
    for (std::uint64_t i = 0; i < 640; ++i) CHECK(all[i].user_data == i);
    CHECK_FALSE(io_uring_cq_has_overflow(ring.raw()));
    CHECK(*ring.raw()->cq.koverflow == 0);
  }
}

TEST_CASE("B6: overflow: it ends multishot polls, and arming again finds what happened meanwhile") {
  if (!can_use_rings()) return;
  raw_ring ring(owned, 2, 4);
  std::vector<fd_pair> pipes;
  for (std::uint64_t i = 0; i < 8; ++i) {
    pipes.push_back(pipe_pair());
    ring.poll_multi(i, pipes.back().ours.get(), POLLIN);
    ring.submit();
  }
  for (int round = 0; round < 3; ++round) {
    for (const fd_pair& pipe : pipes) pipe.put("x");
    io_uring_get_events(ring.raw());
  }
  std::vector<bool> armed(8, true);
  for (const io_uring_cqe& cqe : ring.collect()) {
    CHECK(cqe.res == POLLIN);
    if ((cqe.flags & IORING_CQE_F_MORE) == 0) armed[cqe.user_data] = false;
  }
  const auto ended = std::count(armed.begin(), armed.end(), false);
  CHECK(ended >= 4);
  for (std::uint64_t i = 0; i < 8; ++i) {
    CAPTURE(i);
    pipes[i].put("y");
    const std::string expected = std::to_string(i) + "=1+";
    CHECK(ring.hear() == (armed[i] ? expected : ""));
    if (armed[i]) continue;
    ring.poll_multi(i, pipes[i].ours.get(), POLLIN);
    CHECK(ring.hear() == expected);
  }
}

TEST_CASE(
    "enter: a ring with deferred work hands out 20 completions at a time, or as many as are waited for") {
  if (!can_use_rings()) return;
  raw_ring ring(owned, 256);
  const fd_pair pair = unix_pair();
  char bytes[100];
  for (std::uint64_t i = 0; i < 100; ++i) ring.ask(i, IORING_OP_RECV, pair.ours.get(), &bytes[i], 1);
  ring.hear();
  pair.put(std::string(100, 'x'));
  ring.enter();
  CHECK(ring.take().size() == 20);
  ring.enter(50);
  CHECK(ring.take().size() == 50);
  CHECK(ring.collect().size() == 30);
}

TEST_CASE("B9: enter: with deferred work nothing appears until the owner asks for events") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const fd_pair pair = unix_pair();
  ring.poll(1, pair.ours.get(), POLLIN);
  ring.hear();
  pair.put("x");
  CHECK(ring.take().empty());
  CHECK(::syscall(SYS_io_uring_enter, ring.fd(), 0, 0, 0, nullptr, 0) == 0);
  CHECK(ring.take().empty());
  CHECK(ring.hear() == "1=1");
}

TEST_CASE("B9: enter: TASKRUN_FLAG tells of deferred work without a system call") {
  if (!can_use_rings()) return;
  raw_ring ring(owned | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG);
  const fd_pair pair = unix_pair();
  const auto told = [&] { return (IO_URING_READ_ONCE(*ring.raw()->sq.kflags) & IORING_SQ_TASKRUN) != 0; };
  ring.poll_multi(1, pair.ours.get(), POLLIN);
  ring.hear();
  for (int i = 0; i < 3; ++i) {
    CHECK_FALSE(told());
    pair.put("x");
    CHECK(told());
    CHECK(ring.hear() == "1=1+");
  }
  CHECK_FALSE(told());
}

TEST_CASE("B18: enter: NO_IOWAIT is accepted where the kernel says that it knows it, and EINVAL elsewhere") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const unsigned flags = IORING_ENTER_GETEVENTS | enter_no_iowait;
  const bool known = (ring.raw()->features & feature_no_iowait) != 0;
  const long answer = ::syscall(SYS_io_uring_enter, ring.fd(), 0, 0, flags, nullptr, 0);
  CHECK((known ? answer == 0 : answer == -1 && errno == EINVAL));
}

TEST_CASE("ring: asked, it is readable exactly while there is something to reap") {
  if (!can_use_rings()) return;
  for (const unsigned flavour : both) {
    CAPTURE(flavour);
    raw_ring ring(flavour);
    const fd_pair pair = unix_pair();
    ring.poll_multi(1, pair.ours.get(), POLLIN);
    ring.submit();
    for (int i = 0; i < 3; ++i) {
      CHECK_FALSE(is_readable(ring.fd()));
      pair.put("x");
      CHECK(is_readable(ring.fd()));
      ring.enter();
      CHECK(is_readable(ring.fd()));
      CHECK(ring.hear() == "1=1+");
    }
    CHECK_FALSE(is_readable(ring.fd()));
  }
}

TEST_CASE("ring: a NOP makes it readable until it is reaped, in an epoll set too") {
  if (!can_use_rings()) return;
  for (const unsigned flavour : both) {
    CAPTURE(flavour);
    raw_ring ring(flavour);
    const epoll_set set(ring.fd());
    CHECK(set.ready() == 0);
    for (int i = 0; i < 3; ++i) {
      ring.nop(1);
      CHECK_FALSE(is_readable(ring.fd()));
      ring.submit();
      CHECK(is_readable(ring.fd()));
      CHECK(set.ready() == 1);
      CHECK(set.ready() == 1);
      CHECK(ring.take().size() == 1);
      CHECK_FALSE(is_readable(ring.fd()));
      CHECK(set.ready() == 0);
    }
  }
}

// This is why the descriptor of a ring with deferred work cannot drive a host loop: poll(2) looks once and
// says yes, but who sleeps in poll or epoll_wait sleeps on.
TEST_CASE("ring: deferred work wakes nobody who sleeps on the ring's descriptor") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const fd_pair pair = unix_pair();
  const epoll_set set(ring.fd());
  CHECK(set.ready() == 0);
  ring.poll_multi(1, pair.ours.get(), POLLIN);
  ring.submit();
  pair.put("x");
  CHECK(is_readable(ring.fd()));
  CHECK(set.ready() == 0);
  ring.enter();
  CHECK(set.ready() == 1);
  CHECK(ring.hear() == "1=1+");
  CHECK(set.ready() == 0);
}

TEST_CASE("ring: a registered eventfd is written when deferred work arrives, once until it is done") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const fd_pair pair = unix_pair();
  const fd_pair second = unix_pair();
  const keel::unique_fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const epoll_set set(event.get());
  REQUIRE(io_uring_register_eventfd(ring.raw(), event.get()) == 0);
  ring.poll_multi(1, pair.ours.get(), POLLIN);
  ring.poll_multi(2, second.ours.get(), POLLIN);
  CHECK(ring.hear() == "");
  CHECK(set.ready() == 0);
  for (int i = 0; i < 3; ++i) {
    eventfd_t count = 0;
    pair.put("x");
    second.put("x");
    CHECK(set.ready() == 1);
    REQUIRE(::eventfd_read(event.get(), &count) == 0);
    CHECK(count == 1);
    CHECK(ring.hear() == "1=1+ 2=1+");
    // The completions themselves write it again.
    CHECK(::eventfd_read(event.get(), &count) == 0);
    CHECK(set.ready() == 0);
  }
}

TEST_CASE("ring: it cannot be read or written") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  char byte = 0;
  CHECK((::read(ring.fd(), &byte, 1) == -1 && errno == EINVAL));
  CHECK((::write(ring.fd(), &byte, 1) == -1 && errno == EINVAL));
}

TEST_CASE("ring: who sleeps on a plain ring is woken once its submitter passes through the kernel") {
  if (!can_use_rings()) return;
  raw_ring ring(shared);
  const fd_pair pair = unix_pair();
  const epoll_set set(ring.fd());
  ring.poll_multi(1, pair.ours.get(), POLLIN);
  ring.submit();
  for (int i = 0; i < 3; ++i) {
    CHECK(set.ready() == 0);
    int woken = 0;
    std::thread sleeper([&] {
      epoll_event event{};
      woken = ::epoll_wait(set.fd.get(), &event, 1, int(patience_s) * 1000);
    });
    pair.put("x");
    sleeper.join();
    CHECK(woken == 1);
    CHECK(set.ready() == 1);
    CHECK(ring.hear() == "1=1+");
  }
}

TEST_CASE("ring: a timeout of a plain ring wakes who sleeps on it, while its submitter sleeps elsewhere") {
  if (!can_use_rings()) return;
  raw_ring ring(shared);
  const epoll_set set(ring.fd());
  __kernel_timespec little{0, 2'000'000};
  ring.ask(1, IORING_OP_TIMEOUT, -1, &little, 1);
  ring.submit();
  int woken = 0;
  std::thread sleeper([&] {
    epoll_event event{};
    woken = ::epoll_wait(set.fd.get(), &event, 1, int(patience_s) * 1000);
  });
  sleeper.join();
  CHECK(woken == 1);
  CHECK(ring.hear() == "1=ETIME");
}

// So whoever goes by it reads it first and enters then: what the enter leaves keeps it readable.
TEST_CASE("ring: a registered eventfd is written again by an enter that leaves work behind") {
  if (!can_use_rings()) return;
  raw_ring ring(owned, 256);
  const fd_pair pair = unix_pair();
  const keel::unique_fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  REQUIRE(io_uring_register_eventfd(ring.raw(), event.get()) == 0);
  char bytes[50];
  for (std::uint64_t i = 0; i < 50; ++i) ring.ask(i, IORING_OP_RECV, pair.ours.get(), &bytes[i], 1);
  ring.hear();
  pair.put(std::string(50, 'x'));
  std::size_t taken = 0;
  for (eventfd_t count = 0; ::eventfd_read(event.get(), &count) == 0;) {
    ring.enter();
    taken += ring.take().size();
  }
  CHECK(taken == 50);
}

TEST_CASE("ring: polled by another ring, even a multishot poll answers once, and has to be armed again") {
  if (!can_use_rings()) return;
  raw_ring inner(shared);
  raw_ring outer(owned);
  const fd_pair pair = unix_pair();
  inner.poll_multi(2, pair.ours.get(), POLLIN);
  inner.submit();
  for (int i = 0; i < 3; ++i) {
    outer.poll_multi(1, inner.fd(), POLLIN);
    CHECK(outer.hear() == "");
    pair.put("x");
    CHECK(outer.hear(1) == "1=1");
    CHECK(inner.hear() == "2=1+");
  }
  outer.poll(1, inner.fd(), POLLIN);
  CHECK(outer.hear() == "");
  inner.nop(3);
  inner.submit();
  CHECK(outer.hear(1) == "1=1");
}

TEST_CASE("ring: a poll of a ring with deferred work hears of completions, not of the work") {
  if (!can_use_rings()) return;
  raw_ring inner(owned);
  raw_ring outer(owned);
  const fd_pair pair = unix_pair();
  inner.poll_multi(2, pair.ours.get(), POLLIN);
  inner.submit();
  outer.poll(1, inner.fd(), POLLIN);
  CHECK(outer.hear() == "");
  pair.put("x");
  CHECK(outer.hear() == "");
  inner.enter();
  CHECK(outer.hear(1) == "1=1");
  CHECK(inner.hear() == "2=1+");
}

TEST_CASE("ring: MSG_RING puts a completion into another ring") {
  if (!can_use_rings()) return;
  raw_ring from(owned);
  for (const unsigned flavour : both) {
    CAPTURE(flavour);
    raw_ring to(flavour);
    auto& sqe = from.ask(1, IORING_OP_MSG_RING, to.fd(), nullptr, 42);
    sqe.off = 7;
    from.submit();
    CHECK(is_readable(to.fd()));
    CHECK(to.hear(1) == "7=42");
    CHECK(from.hear(1) == "1=0");
  }
}
