#include <doctest/doctest.h>
#include <keel/base/unique_fd.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <csignal>
#include <cstdlib>
#include <set>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/descriptors.hpp"
#include "support/fd_pairs.hpp"
#include "support/temporary_folder.hpp"

using namespace keel::test;

namespace {

std::set<int> descriptors() {
  std::set<int> open;
  DIR* folder = ::opendir("/proc/self/fd");
  REQUIRE(folder != nullptr);
  while (const dirent* entry = ::readdir(folder)) {
    const int fd = std::atoi(entry->d_name);
    if (entry->d_name[0] != '.' && fd != ::dirfd(folder)) open.insert(fd);
  }
  ::closedir(folder);
  return open;
}

std::vector<int> opened_since(const std::set<int>& before) {
  std::vector<int> opened;
  for (const int fd : descriptors())
    if (!before.contains(fd)) opened.push_back(fd);
  return opened;
}

// Not readable, once the wait call with timeout 0 has passed that may be needed for it.
bool falls_silent(const event_queue& queue) {
  CHECK(queue.ready_now() == 0);
  return polled(queue.fd()) == 0;
}

}  // namespace

TEST_CASE("case 142, decision 12: the queue polls readable while something is ready, and not after") {
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(1)) == 0);
  CHECK(falls_silent(queue));
  for (int round = 0; round < 3; ++round) {
    REQUIRE(queue.ready(unotify_event(1)) == 1);
    CHECK(polled(queue.fd(), POLLIN | POLLRDNORM, 10'000) == (POLLIN | POLLRDNORM));
    CHECK(queue.ready_now() == 1);
    CHECK(falls_silent(queue));
  }
}

TEST_CASE("case 142: it polls readable as long as events are left over") {
  const event_queue queue;
  make_ready(queue, 3);
  for (int left = 3; left > 0; --left) {
    CHECK(polled(queue.fd(), POLLIN, 10'000) == POLLIN);
    CHECK(queue.get(1, 1, no_wait).size() == 1);
  }
  CHECK(falls_silent(queue));
}

TEST_CASE("case 142: a poller that sleeps is woken by a socket, a timer, and READY of another thread") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  REQUIRE(queue.add(unotify_event(1)) == 0);
  CHECK(falls_silent(queue));
  for (int kind = 0; kind < 3; ++kind) {
    CAPTURE(kind);
    sleeping_call poller([&] { return int(polled(queue.fd(), POLLIN, 15'000)); });
    poller.wait_until_asleep();
    CHECK_FALSE(poller.returned());
    if (kind == 0) pair.put("x");
    if (kind == 1) REQUIRE(queue.add(timer_event(10, KEVENT_REQ_ONESHOT)) == 0);
    if (kind == 2) REQUIRE(queue.ready(unotify_event(1)) == 1);
    CHECK(poller.answer() == POLLIN);
    CHECK(poller.returned_after_ms() < 14'000);
    CHECK(queue.get(1, 4, patience).size() == 1);
    CHECK(falls_silent(queue));
  }
}

TEST_CASE("case 143, clarification, waiting: after READY of nothing it polls readable until a wait call") {
  const event_queue queue;
  CHECK(falls_silent(queue));
  REQUIRE(queue.wake_one() == 0);
  CHECK(polled(queue.fd(), POLLIN, 10'000) == POLLIN);
  CHECK(polled(queue.fd(), POLLIN, 10'000) == POLLIN);
  CHECK(queue.ready_now() == 0);
  CHECK(falls_silent(queue));
}

TEST_CASE("case 144, decision 12: queues nest") {
  const event_queue inner, outer;
  REQUIRE(inner.add(unotify_event(1)) == 0);
  CHECK(inner.ready_now() == 0);
  REQUIRE(outer.add(poll_event(inner.fd(), KEVENT_POLL_POLLIN)) == 0);
  CHECK(outer.silent(5));
  for (int round = 0; round < 3; ++round) {
    REQUIRE(inner.ready(unotify_event(1)) == 1);
    const ukevent got = outer.next();
    CHECK(got.type == KEVENT_POLL);
    CHECK(got.ret_data[0] == KEVENT_POLL_POLLIN);
    CHECK(inner.ready_now() == 1);
    CHECK(outer.modify(poll_event(inner.fd(), KEVENT_POLL_POLLIN)).ret_flags == done);
    CHECK(outer.silent(5));
  }
}

TEST_CASE("case 144: a socket event of the inner queue reaches a thread that sleeps in the outer one") {
  const fd_pair pair = unix_pair();
  const event_queue inner, middle, outer;
  REQUIRE(inner.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  REQUIRE(middle.add(poll_event(inner.fd(), KEVENT_POLL_POLLIN)) == 0);
  REQUIRE(outer.add(poll_event(middle.fd(), KEVENT_POLL_POLLIN)) == 0);
  ukevent buffer{};
  sleeping_call sleeper([&] { return ::kevent_get_events(outer.fd(), 1, 1, patience, &buffer, 0); });
  sleeper.wait_until_asleep();
  pair.put("x");
  CHECK(sleeper.answer() == 1);
  CHECK(middle.next().type == KEVENT_POLL);
  CHECK(inner.next().type == KEVENT_SOCKET);
}

TEST_CASE("case 144, W45: an epoll of somebody else drives the queue") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  const keel::unique_fd host(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event interest{EPOLLIN, {}};
  REQUIRE(::epoll_ctl(host.get(), EPOLL_CTL_ADD, queue.fd(), &interest) == 0);
  REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_ET)) == 0);
  epoll_event got{};
  queue.ready_now();
  CHECK(::epoll_wait(host.get(), &got, 1, 0) == 0);
  for (int round = 0; round < 3; ++round) {
    pair.put("x");
    CHECK(::epoll_wait(host.get(), &got, 1, 10'000) == 1);
    CHECK(queue.next().ret_flags == done);
    queue.ready_now();
    CHECK(::epoll_wait(host.get(), &got, 1, 0) == 0);
  }
}

TEST_CASE("clarification, descriptors: closing a nested queue makes the outer registration BROKEN") {
  event_queue inner;
  const event_queue outer;
  const ukevent event = poll_event(inner.fd(), KEVENT_POLL_POLLIN);
  REQUIRE(outer.add(event) == 0);
  CHECK(inner.close() == 0);
  CHECK((outer.next().ret_flags & KEVENT_RET_BROKEN) != 0);
  CHECK(outer.remove(event).ret_flags == done);
}

TEST_CASE("clarification, descriptors: who gets the number of a closed nested queue is not mistaken for it") {
  event_queue inner;
  const event_queue outer;
  const int number = inner.fd();
  REQUIRE(outer.add(poll_event(number, KEVENT_POLL_POLLIN)) == 0);
  REQUIRE(inner.close() == 0);
  CHECK((outer.next().ret_flags & KEVENT_RET_BROKEN) != 0);

  const fd_pair ends = pipe_pair(O_NONBLOCK);
  const keel::unique_fd heir(::fcntl(ends.ours.get(), F_DUPFD_CLOEXEC, number));
  ends.put("x");
  CHECK(outer.silent(20));
}

TEST_CASE("clarification, descriptors, W51: a queue hides one descriptor at most, closed by exec") {
  const fd_pair sockets = unix_pair();
  const fd_pair ends = pipe_pair(O_NONBLOCK);
  event_ring ring(8);
  const std::set<int> before = descriptors();
  event_queue queue(ring);
  std::vector<ukevent> events{socket_event(sockets.ours.get(), KEVENT_SOCKET_RECV),
                              socket_event(sockets.theirs.get(), KEVENT_SOCKET_RECV),
                              pipe_event(ends.ours.get(), KEVENT_SOCKET_RECV),
                              poll_event(ends.ours.get(), KEVENT_POLL_POLLIN),
                              timer_event(5),
                              timer_event(7),
                              unotify_event(1)};
  REQUIRE(queue.ctl(KEVENT_CTL_ADD, events) == 0);
  ends.put("x");
  CHECK(queue.get(2, 8, patience).size() >= 2);
  CHECK(queue.wait(1, 0, milliseconds(100)) >= 0);

  const std::vector<int> opened = opened_since(before);
  CHECK(opened.size() <= 2);
  for (const int fd : opened) CHECK(is_close_on_exec(fd));

  CHECK(queue.close() == 0);
  CHECK(descriptors() == before);
}

TEST_CASE("clarification, descriptors: INODE, SIGNAL and PROC hide no more than they may, closed by exec") {
  const temporary_folder folder;
  const keel::unique_fd directory(::open(folder.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::set<int> before = descriptors();
  event_queue a, b;
  for (const event_queue* queue : {&a, &b}) {
    REQUIRE(queue->add(event_of(KEVENT_INODE, std::uint32_t(directory.get()), KEVENT_INODE_CREATE)) == 0);
    ukevent signal = event_of(KEVENT_SIGNAL, 0, KEVENT_SIGNAL_DELIVERY);
    signal.id.raw_u64 = std::uint64_t(SIGUSR2) | KEVENT_SIGNAL_NOMASK;
    REQUIRE(queue->add(signal) == 0);
    REQUIRE(queue->add(event_of(KEVENT_PROC, std::uint32_t(::getppid()), KEVENT_PROC_EXIT)) == 0);
  }
  // Of each queue its own, a hidden one, and a pidfd; of the process one for INODE and one for SIGNAL.
  const std::vector<int> opened = opened_since(before);
  CHECK(opened.size() <= 2 * 3 + 2);
  for (const int fd : opened) CHECK(is_close_on_exec(fd));
  CHECK(a.close() == 0);
  CHECK(b.close() == 0);
  CHECK(opened_since(before).size() <= 2);
}

TEST_CASE("K14: a second descriptor of the queue does no harm") {
  const event_queue queue;
  const keel::unique_fd twin(::fcntl(queue.fd(), F_DUPFD_CLOEXEC, 0));
  REQUIRE(twin);
  ukevent event = unotify_event(1);
  const int answer = ::kevent_ctl(twin.get(), KEVENT_CTL_ADD, 1, &event);
  CHECK((answer == -EINVAL || answer == 0));
  REQUIRE(queue.add(unotify_event(2, KEVENT_REQ_READY)) == 0);
  CHECK(polled(twin.get(), POLLIN, 10'000) == POLLIN);
  CHECK(queue.next().id.raw_u64 == 2);
}

TEST_CASE("kevent_close: a thousand queues one after the other leave nothing open") {
  const std::set<int> before = descriptors();
  const fd_pair pair = unix_pair();
  for (int i = 0; i < 1'000; ++i) {
    const event_queue queue;
    REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  }
  CHECK(opened_since(before).size() == 2);
}
