#include <doctest/doctest.h>

#include <sys/socket.h>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/fd_pairs.hpp"

using namespace keel::test;

namespace {

std::size_t events_now(const event_queue& queue) {
  return queue.get(1, 16, milliseconds(15)).size();
}

// How many of the queues have an event; none may have two.
int delivered_to(const std::vector<const event_queue*>& queues) {
  int count = 0;
  for (const event_queue* queue : queues) {
    const std::size_t n = events_now(*queue);
    CHECK(n <= 1);
    if (n == 1) ++count;
  }
  return count;
}

}  // namespace

TEST_CASE("cases 93, 94: by default a condition is reported once, until MODIFY") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  const ukevent event = socket_event(pair.ours.get(), KEVENT_SOCKET_RECV);
  REQUIRE(queue.add(event) == 0);
  pair.put("x");
  CHECK(queue.next().ret_flags == done);
  CHECK(queue.silent());

  CHECK(queue.modify(event).ret_flags == done);
  CHECK(queue.next().ret_flags == done);
  CHECK(queue.silent());
}

TEST_CASE("decision 5: by default new activity that passes the test is reported again") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  for (int round = 0; round < 5; ++round) {
    CAPTURE(round);
    pair.put("x");
    CHECK(queue.next().ret_flags == done);
    CHECK(queue.silent(5));
    if (round % 2 == 1) drain(pair.ours.get());
  }
}

TEST_CASE("case 95, decision 5: activity that does not pass the test is no event") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  fill(pair.ours.get());
  REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  pair.put("x");
  CHECK(queue.next().ret_flags == done);
  drain(pair.ours.get());

  // The peer makes room: write-space activity on our socket.
  CHECK(drain(pair.theirs.get()) > 0);
  CHECK(queue.silent());
}

TEST_CASE("cases 96, 97: ET reports each new edge, and nothing else") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_ET)) == 0);
  for (int edge = 0; edge < 3; ++edge) {
    pair.put("x");
    const ukevent got = queue.next();
    CHECK(got.ret_flags == done);
    CHECK(queue.silent());
  }
}

TEST_CASE("case 98: ONESHOT is one event, and can be added again") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  const ukevent event = socket_event(pair.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_ONESHOT);
  REQUIRE(queue.add(event) == 0);
  pair.put("x");
  CHECK(queue.next().ret_flags == done);
  pair.put("x");
  CHECK(queue.silent());

  drain(pair.ours.get());
  CHECK(queue.add(event) == 0);
  pair.put("x");
  CHECK(queue.next().ret_flags == done);
}

TEST_CASE("case 99: LAST_CHECK drops what is not true any more, and stays armed") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_LAST_CHECK)) == 0);
  pair.put("x");
  drain(pair.ours.get());
  CHECK(queue.silent());
  pair.put("x");
  CHECK(queue.next().ret_flags == done);
}

TEST_CASE("case 99: an event that was marked by READY is dropped by LAST_CHECK, too") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  const ukevent event = socket_event(pair.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_LAST_CHECK);
  REQUIRE(queue.add(event) == 0);
  REQUIRE(queue.ready(event) == 1);
  CHECK(queue.silent());
  pair.put("x");
  CHECK(queue.next().ret_flags == done);
}

TEST_CASE("case 100: POLL is checked at collection without being asked") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  REQUIRE(queue.add(poll_event(pair.ours.get(), KEVENT_POLL_POLLIN)) == 0);
  pair.put("x");
  drain(pair.ours.get());
  CHECK(queue.silent());
  pair.put("x");
  CHECK(queue.next().ret_data[0] == KEVENT_POLL_POLLIN);
}

// The epoll engine differs here: the kernel's epoll tests again when its events are collected, and keeps
// nothing that is stale by then.
TEST_CASE("clarification, readiness: without LAST_CHECK an event is delivered though it is stale") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  pair.put("x");
  drain(pair.ours.get());
  if (on_epoll())
    CHECK(events_now(queue) <= 1);
  else
    CHECK(queue.next().ret_flags == done);
}

TEST_CASE("case 101, decision 7: of plain listeners in several queues exactly one gets the event") {
  const fd_pair pair = unix_pair();
  const event_queue a, b, c;
  for (const event_queue* queue : {&a, &b, &c})
    REQUIRE(queue->add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  for (int round = 0; round < 4; ++round) {
    pair.put("x");
    CHECK(delivered_to({&a, &b, &c}) == 1);
    drain(pair.ours.get());
  }
}

TEST_CASE("case 102: with WAKEUP_ALL each of them gets it") {
  const fd_pair pair = unix_pair();
  const event_queue a, b, c;
  for (const event_queue* queue : {&a, &b, &c})
    REQUIRE(queue->add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_WAKEUP_ALL)) == 0);
  pair.put("x");
  CHECK(delivered_to({&a, &b, &c}) == 3);
}

TEST_CASE("case 103, decision 7: every WAKEUP_ALL listener and exactly one of the others, in any order") {
  const std::uint32_t all = KEVENT_REQ_WAKEUP_ALL;
  for (const std::vector<std::uint32_t>& flags : std::vector<std::vector<std::uint32_t>>{
           {0, all}, {all, 0}, {0, all, 0}, {all, 0, 0}, {0, 0, all, all}}) {
    const fd_pair pair = unix_pair();
    std::vector<event_queue> queues(flags.size());
    std::vector<const event_queue*> pointers;
    int flagged = 0;
    for (std::size_t i = 0; i < flags.size(); ++i) {
      REQUIRE(queues[i].add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV, flags[i])) == 0);
      pointers.push_back(&queues[i]);
      if (flags[i] == all) ++flagged;
    }
    pair.put("x");
    CHECK(delivered_to(pointers) == flagged + 1);
  }
}

TEST_CASE("clarification, readiness: a socket and its dup are one object") {
  const fd_pair pair = unix_pair();
  const keel::unique_fd twin(::fcntl(pair.ours.get(), F_DUPFD_CLOEXEC, 0));
  const event_queue a, b;
  REQUIRE(a.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  REQUIRE(b.add(socket_event(twin.get(), KEVENT_SOCKET_RECV)) == 0);
  pair.put("x");
  CHECK(delivered_to({&a, &b}) == 1);
}

TEST_CASE("decision 7: the same holds for the listeners of a pipe") {
  const fd_pair ends = pipe_pair(O_NONBLOCK);
  const event_queue a, b, c;
  REQUIRE(a.add(pipe_event(ends.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  REQUIRE(b.add(pipe_event(ends.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_WAKEUP_ALL)) == 0);
  REQUIRE(c.add(pipe_event(ends.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  ends.put("x");
  CHECK(delivered_to({&b}) == 1);
  CHECK(delivered_to({&a, &c}) == 1);
}

TEST_CASE("decision 7: the listener that ended leaves the next event to the others") {
  const fd_pair pair = unix_pair();
  const event_queue a;
  {
    const event_queue gone;
    REQUIRE(gone.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);
    REQUIRE(a.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  }
  pair.put("x");
  CHECK(a.next().ret_flags == done);
}

TEST_CASE("case 104: ALWAYS_QUEUE with ONESHOT is one event through the queue, then it is gone") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  pair.put("x");
  const ukevent event =
      socket_event(pair.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_ALWAYS_QUEUE | KEVENT_REQ_ONESHOT);
  REQUIRE(queue.add(unotify_event(1)) == 0);
  CHECK(queue.add(event) == 0);
  CHECK(queue.next().ret_flags == done);
  pair.put("x");
  CHECK(queue.silent());
  CHECK(queue.remove(event).ret_flags == done_and_broken);
}

TEST_CASE("clarification, readiness: MODIFY sends a pending event to the end, if the new test passes") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  const ukevent event = socket_event(pair.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_ALWAYS_QUEUE);
  pair.put("x");
  REQUIRE(queue.add(event) == 0);
  make_ready(queue, 1);

  REQUIRE(queue.modify(event).ret_flags == done);

  const std::vector<ukevent> got = queue.get(2, 4, patience);
  REQUIRE(got.size() == 2);
  CHECK(got[0].type == KEVENT_UNOTIFY);
  CHECK(got[1].type == KEVENT_SOCKET);
}

TEST_CASE("clarification, readiness: MODIFY withdraws a pending event that the new test does not pass") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  fill(pair.ours.get());
  pair.put("x");
  REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_ALWAYS_QUEUE)) == 0);

  REQUIRE(queue.modify(socket_event(pair.ours.get(), KEVENT_SOCKET_SEND)).ret_flags == done);

  CHECK(queue.silent());
  drain(pair.theirs.get());
  CHECK(queue.next().event == KEVENT_SOCKET_SEND);
}

TEST_CASE("clarification, readiness: MODIFY of UNOTIFY makes nothing ready, and keeps a pending event") {
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(1)) == 0);
  REQUIRE(queue.modify(unotify_event(1)).ret_flags == done);
  CHECK(queue.silent(5));

  REQUIRE(queue.ready(unotify_event(1)) == 1);
  REQUIRE(queue.modify(unotify_event(1, KEVENT_REQ_ONESHOT)).ret_flags == done);
  CHECK(queue.next().id.raw_u64 == 1);
  CHECK(queue.silent(5));
}

TEST_CASE("spec 1.6: ret_flags of ET start anew with each delivery") {
  event_ring ring(2);
  const event_queue queue(ring);
  REQUIRE(queue.add(unotify_event(1, KEVENT_REQ_ET)) == 0);
  for (int round = 0; round < 4; ++round) {
    REQUIRE(queue.ready(unotify_event(1)) == 1);
    const ukevent got = queue.next();
    CHECK((got.ret_flags & ~std::uint32_t(KEVENT_RET_COPY_FAILED)) == done);
  }
}
