// Several listeners of one object: who hears, and who takes over from whom.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <array>
#include <thread>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/fd_pairs.hpp"
#include "support/skip.hpp"

using namespace keel::test;

namespace {

std::size_t events_of(const event_queue& queue) {
  return queue.get(1, 16, milliseconds(15)).size();
}

ukevent listener(const fd_pair& pair, std::uint32_t flags = 0) {
  return socket_event(pair.ours.get(), KEVENT_SOCKET_RECV, flags);
}

// In a ring the kernel gives an activity to one poll, and what a poll that ends was given is lost to others.
bool kernel_chooses() {
  if (on_epoll()) return false;
  skip("here the kernel chooses the listener, and nothing is handed on");
  return true;
}

}  // namespace

TEST_CASE("decision 7: an event that a listener has not delivered at REMOVE goes to the next one") {
  if (kernel_chooses()) return;
  const fd_pair pair = unix_pair();
  const event_queue a, b, c;
  for (const event_queue* queue : {&a, &b, &c}) REQUIRE(queue->add(listener(pair)) == 0);
  pair.put("x");
  CHECK(polled(a.fd()) != 0);
  CHECK(b.silent());
  REQUIRE(a.remove(listener(pair)).ret_flags == done);
  CHECK(b.next().ret_flags == done);
  CHECK(c.silent());
}

TEST_CASE("decision 7: an event that waits in a queue at kevent_close goes to the next one") {
  if (kernel_chooses()) return;
  const fd_pair pair = unix_pair();
  event_queue a;
  const event_queue b;
  REQUIRE(a.add(listener(pair)) == 0);
  REQUIRE(b.add(listener(pair)) == 0);
  pair.put("x");
  CHECK(a.ready_now() == 1);
  drain(pair.ours.get());
  CHECK(b.silent(5));
  pair.put("y");
  REQUIRE(a.close() == 0);
  CHECK(b.next().ret_flags == done);
}

TEST_CASE("decision 7: who takes over is woken in its sleep") {
  if (kernel_chooses()) return;
  const fd_pair pair = unix_pair();
  const event_queue a, b;
  REQUIRE(a.add(listener(pair)) == 0);
  REQUIRE(b.add(listener(pair)) == 0);
  sleeping_call call([&b] {
    ukevent event;
    return ::kevent_get_events(b.fd(), 1, 1, patience, &event, 0);
  });
  pair.put("x");
  call.wait_until_asleep();
  CHECK(!call.returned());
  REQUIRE(a.remove(listener(pair)).ret_flags == done);
  CHECK(call.answer() == 1);
  CHECK(call.returned_after_ms() < 15'000);
}

TEST_CASE("decision 7: a ONESHOT listener hears one activity, the next listener the next") {
  const fd_pair pair = unix_pair();
  const event_queue a, b;
  REQUIRE(a.add(listener(pair, KEVENT_REQ_ONESHOT)) == 0);
  pair.put("x");
  CHECK(a.ready_now() == 1);
  drain(pair.ours.get());
  REQUIRE(a.add(listener(pair, KEVENT_REQ_ONESHOT)) == 0);
  REQUIRE(b.add(listener(pair, KEVENT_REQ_ONESHOT)) == 0);
  for (int round = 0; round < 2; ++round) {
    pair.put("x");
    const std::size_t to_a = events_of(a);
    // Received before the other one takes over.
    if (to_a != 0) drain(pair.ours.get());
    CHECK(to_a + events_of(b) == 1);
    drain(pair.ours.get());
  }
  pair.put("x");
  CHECK(events_of(a) + events_of(b) == 0);
}

TEST_CASE("decision 7: with an activity pending, the listener after a ONESHOT one hears of it") {
  if (kernel_chooses()) return;
  const fd_pair pair = unix_pair();
  const event_queue a, b;
  REQUIRE(a.add(listener(pair, KEVENT_REQ_ONESHOT)) == 0);
  REQUIRE(b.add(listener(pair)) == 0);
  pair.put("x");
  CHECK(b.silent());
  CHECK(a.next().ret_flags == done);
  CHECK(b.next().ret_flags == done);
  CHECK(b.silent());
}

TEST_CASE("decision 7: a listener that MODIFY turns to another direction leaves its old one") {
  const fd_pair pair = unix_pair();
  fill(pair.ours.get());
  const event_queue a, b;
  REQUIRE(a.add(listener(pair)) == 0);
  REQUIRE(b.add(listener(pair)) == 0);
  REQUIRE(a.modify(socket_event(pair.ours.get(), KEVENT_SOCKET_SEND)).ret_flags == done);
  pair.put("x");
  CHECK(b.next().event == KEVENT_SOCKET_RECV);
  CHECK(a.silent());
  drain(pair.theirs.get());
  CHECK(a.next().event == KEVENT_SOCKET_SEND);
}

TEST_CASE("decision 7: a listener that MODIFY makes a WAKEUP_ALL one hears beside the others") {
  const fd_pair pair = unix_pair();
  const event_queue a, b, c;
  for (const event_queue* queue : {&a, &b, &c}) REQUIRE(queue->add(listener(pair)) == 0);
  REQUIRE(a.modify(listener(pair, KEVENT_REQ_WAKEUP_ALL)).ret_flags == done);
  pair.put("x");
  CHECK(events_of(a) == 1);
  CHECK(events_of(b) + events_of(c) == 1);
  drain(pair.ours.get());
  REQUIRE(a.modify(listener(pair)).ret_flags == done);
  pair.put("x");
  CHECK(events_of(a) + events_of(b) + events_of(c) == 1);
}

TEST_CASE("decision 7: who receives does not keep another one from sending") {
  const fd_pair pair = unix_pair();
  fill(pair.ours.get());
  const event_queue a, b;
  REQUIRE(a.add(listener(pair)) == 0);
  REQUIRE(b.add(socket_event(pair.ours.get(), KEVENT_SOCKET_SEND)) == 0);
  drain(pair.theirs.get());
  CHECK(b.next().ret_flags == done);
  CHECK(a.silent(5));
  pair.put("x");
  CHECK(a.next().ret_flags == done);
}

TEST_CASE("decision 7: who listens at one end of a pipe keeps nothing from the other end") {
  const fd_pair ends = pipe_pair(O_NONBLOCK);
  const event_queue a, b;
  REQUIRE(a.add(poll_event(ends.theirs.get(), KEVENT_POLL_POLLIN)) == 0);
  REQUIRE(b.add(poll_event(ends.ours.get(), KEVENT_POLL_POLLIN)) == 0);
  ends.put("x");
  CHECK(b.next().ret_flags == done);
}

TEST_CASE("decision 6: the end of a peer is told to every listener, alike") {
  fd_pair pair = unix_pair();
  const event_queue a, b, c;
  for (const event_queue* queue : {&a, &b, &c}) REQUIRE(queue->add(listener(pair)) == 0);
  pair.theirs.reset();
  const std::uint32_t flags = a.next().ret_flags;
  CHECK(b.next().ret_flags == flags);
  CHECK(c.next().ret_flags == flags);
}

TEST_CASE("decision 7: of the listeners in one queue one hears, and then the next") {
  if (kernel_chooses()) return;
  const fd_pair pair = unix_pair();
  const keel::unique_fd twin(::fcntl(pair.ours.get(), F_DUPFD_CLOEXEC, 0));
  const event_queue queue;
  REQUIRE(queue.add(listener(pair)) == 0);
  REQUIRE(queue.add(socket_event(twin.get(), KEVENT_SOCKET_RECV)) == 0);
  pair.put("x");
  CHECK(events_of(queue) == 1);
  REQUIRE(queue.remove(listener(pair)).ret_flags == done);
  CHECK(queue.next().id.raw[0] == std::uint32_t(twin.get()));
}

TEST_CASE("decision 7: a listener whose descriptor was closed takes nothing over for another file") {
  if (kernel_chooses()) return;
  const fd_pair pair = unix_pair(), other = unix_pair();
  keel::unique_fd twin(::fcntl(pair.ours.get(), F_DUPFD_CLOEXEC, 0));
  const int number = twin.get();
  const event_queue a, b, c;
  REQUIRE(a.add(listener(pair)) == 0);
  REQUIRE(b.add(socket_event(number, KEVENT_SOCKET_RECV)) == 0);
  REQUIRE(c.add(listener(pair)) == 0);
  REQUIRE(::dup2(other.ours.get(), number) == number);
  pair.put("x");
  REQUIRE(a.remove(listener(pair)).ret_flags == done);
  CHECK(b.silent());
  CHECK(c.next().ret_flags == done);
  other.put("x");
  CHECK(b.silent());
}

TEST_CASE("decision 7: a queue that takes over does not forget its timers") {
  const fd_pair pair = unix_pair();
  const event_queue a, b;
  REQUIRE(a.add(listener(pair)) == 0);
  REQUIRE(b.add(listener(pair)) == 0);
  REQUIRE(b.add(timer_event(100, KEVENT_REQ_ONESHOT)) == 0);
  REQUIRE(a.remove(listener(pair)).ret_flags == done);
  CHECK(b.next().type == KEVENT_TIMER);
}

TEST_CASE("decision 14: what a parent listens to does not keep its child from listening") {
  if (kernel_chooses()) return;
  const fd_pair pair = unix_pair();
  const event_queue a;
  REQUIRE(a.add(listener(pair)) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const int queue = ::kevent_init(nullptr, 0, 0);
    ukevent event = listener(pair);
    const bool added = queue >= 0 && ::kevent_ctl(queue, KEVENT_CTL_ADD, 1, &event) == 0;
    const bool wrote = ::write(pair.theirs.get(), "x", 1) == 1;
    const int got = ::kevent_get_events(queue, 1, 1, patience, &event, 0);
    ::_exit(added && wrote && got == 1 ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(a.next().ret_flags == done);
}

// Where nothing is handed on, the listeners stay; else each leaves and comes back as it receives.
TEST_CASE("decision 7, K10: what comes in for four queues is received once, while listeners come and go") {
  constexpr unsigned messages = 4 * 1000;
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  const keel::unique_fd ours(ends[0]), theirs(ends[1]);
  const bool leaves = on_epoll();
  const std::vector<event_queue> queues(4);
  std::vector<std::atomic<int>> seen(messages);
  std::atomic<unsigned> received = 0, refused = 0;
  std::atomic<bool> finished = false;

  const auto receive_all = [&] {
    unsigned number = 0;
    while (::recv(ours.get(), &number, sizeof number, MSG_DONTWAIT) == sizeof number) {
      ++seen[number];
      ++received;
    }
  };
  const auto serve = [&](const event_queue& queue) {
    ukevent event;
    for (unsigned turn = 0; !finished; ++turn) {
      if (::kevent_get_events(queue.fd(), 1, 1, patience, &event, 0) < 0) ++refused;
      // Some leave with what has come meanwhile.
      if (turn % 2 == 0) receive_all();
      ukevent mine = socket_event(ours.get(), KEVENT_SOCKET_RECV);
      if (leaves && ::kevent_ctl(queue.fd(), KEVENT_CTL_REMOVE, 1, &mine) < 0) ++refused;
      receive_all();
      // Handed back: there is more already.
      while (leaves && ::kevent_ctl(queue.fd(), KEVENT_CTL_ADD, 1, &mine) == 1) receive_all();
    }
  };
  for (const event_queue& queue : queues)
    REQUIRE(queue.add(socket_event(ours.get(), KEVENT_SOCKET_RECV)) == 0);
  std::vector<std::thread> threads;
  for (const event_queue& queue : queues) threads.emplace_back(serve, std::cref(queue));
  for (unsigned number = 0; number < messages; ++number)
    REQUIRE(::send(theirs.get(), &number, sizeof number, MSG_NOSIGNAL) == sizeof number);
  for (int tries = 0; tries < 20'000 && received < messages; ++tries) let_pass(1);
  finished = true;
  for (const event_queue& queue : queues) queue.wake_one();
  for (std::thread& thread : threads) thread.join();

  CHECK(refused == 0);
  CHECK(received == messages);
  for (unsigned number = 0; number < messages; ++number) CHECK(seen[number] == 1);
}
