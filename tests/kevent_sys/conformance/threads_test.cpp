#include <doctest/doctest.h>

#include <fcntl.h>
#include <pthread.h>
#include <csignal>
#include <thread>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/fd_pairs.hpp"

using namespace keel::test;

namespace {

std::atomic<int> handler_calls = 0;

}  // namespace

TEST_CASE("decision 7: four events wake four threads, one each") {
  const event_queue queue;
  std::vector<ukevent> events;
  for (std::uint64_t id = 1; id <= 4; ++id) events.push_back(unotify_event(id));
  std::vector<ukevent> keys = events;
  REQUIRE(queue.ctl(KEVENT_CTL_ADD, events) == 0);
  ukevent buffers[4] = {};
  auto sleep_with = [&](std::size_t i) {
    return [&, i] { return ::kevent_get_events(queue.fd(), 1, 1, patience, &buffers[i], 0); };
  };
  sleeping_call a(sleep_with(0)), b(sleep_with(1)), c(sleep_with(2)), d(sleep_with(3));
  for (const sleeping_call* sleeper : {&a, &b, &c, &d}) sleeper->wait_until_asleep();

  REQUIRE(queue.ctl(KEVENT_CTL_READY, keys) == 4);

  for (sleeping_call* sleeper : {&a, &b, &c, &d}) {
    CHECK(sleeper->answer() == 1);
    CHECK(sleeper->returned_after_ms() < 15'000);
  }
  std::uint64_t sum = 0;
  for (const ukevent& buffer : buffers) sum += buffer.id.raw_u64;
  CHECK(sum == 10);
}

TEST_CASE("decision 7: events of the kernel wake one thread each, too") {
  const fd_pair pairs[] = {unix_pair(), unix_pair(), unix_pair()};
  const event_queue queue;
  for (const fd_pair& pair : pairs)
    REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  ukevent buffers[3] = {};
  auto sleep_with = [&](std::size_t i) {
    return [&, i] { return ::kevent_get_events(queue.fd(), 1, 1, patience, &buffers[i], 0); };
  };
  sleeping_call a(sleep_with(0)), b(sleep_with(1)), c(sleep_with(2));
  for (const sleeping_call* sleeper : {&a, &b, &c}) sleeper->wait_until_asleep();
  for (const fd_pair& pair : pairs) pair.put("x");
  for (sleeping_call* sleeper : {&a, &b, &c}) {
    CHECK(sleeper->answer() == 1);
    CHECK(sleeper->returned_after_ms() < 15'000);
  }
}

TEST_CASE("spec W3: a thread that waits for many does not keep an event from one that waits for one") {
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(1)) == 0);
  std::vector<ukevent> buffer(8);
  ukevent one{};
  sleeping_call many(
      [&] { return ::kevent_get_events(queue.fd(), 5, 8, milliseconds(3'000), buffer.data(), 0); });
  many.wait_until_asleep();
  sleeping_call single([&] { return ::kevent_get_events(queue.fd(), 1, 1, patience, &one, 0); });
  single.wait_until_asleep();

  REQUIRE(queue.ready(unotify_event(1)) == 1);

  CHECK(single.answer() == 1);
  CHECK(many.answer() == 0);
}

TEST_CASE("spec W3: a thread whose time runs out while others sleep takes no event with it") {
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(1)) == 0);
  ukevent buffers[2] = {};
  for (int round = 0; round < 20; ++round) {
    sleeping_call brief(
        [&] { return ::kevent_get_events(queue.fd(), 1, 1, milliseconds(5), &buffers[0], 0); });
    sleeping_call patient([&] { return ::kevent_get_events(queue.fd(), 1, 1, patience, &buffers[1], 0); });
    let_pass(round % 8);
    REQUIRE(queue.ready(unotify_event(1)) == 1);
    if (brief.answer() == 1) REQUIRE(queue.ready(unotify_event(1)) == 1);
    CHECK(patient.answer() == 1);
    CHECK(patient.returned_after_ms() < 15'000);
  }
}

TEST_CASE("K10: READY of nothing with several sleepers ends exactly one call") {
  const event_queue queue;
  ukevent buffers[3] = {};
  auto sleep_with = [&](std::size_t i) {
    return [&, i] { return ::kevent_get_events(queue.fd(), 1, 1, milliseconds(2'000), &buffers[i], 0); };
  };
  sleeping_call a(sleep_with(0)), b(sleep_with(1)), c(sleep_with(2));
  for (const sleeping_call* sleeper : {&a, &b, &c}) sleeper->wait_until_asleep();
  CHECK(queue.wake_one() == 0);
  int early = 0;
  for (sleeping_call* sleeper : {&a, &b, &c}) {
    CHECK(sleeper->answer() == 0);
    if (sleeper->returned_after_ms() < 2'000) ++early;
  }
  CHECK(early == 1);
}

TEST_CASE("C10: registrations and operations outlive the thread that made them") {
  const fd_pair watched = unix_pair(), received = unix_pair(), quiet = unix_pair();
  const fd_pair ends = pipe_pair(O_NONBLOCK);
  const event_queue queue;
  char bytes[8] = {};
  int failures = 0;
  std::thread([&] {
    std::vector<ukevent> events{
        socket_event(watched.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_ET),
        pipe_event(ends.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_ET),
        poll_event(quiet.ours.get(), KEVENT_POLL_POLLIN, KEVENT_REQ_ET),
        timer_event(20, KEVENT_REQ_ONESHOT),
    };
    if (queue.ctl(KEVENT_CTL_ADD, events) != 0) ++failures;
    if (::kevent_aio_recv(queue.fd(), received.ours.get(), bytes, sizeof bytes, 0, bytes) != 0) ++failures;
  }).join();
  REQUIRE(failures == 0);
  CHECK(queue.next().type == KEVENT_TIMER);
  CHECK(queue.silent(5));

  for (int round = 0; round < 2; ++round) {
    watched.put("x");
    CHECK(queue.next().type == KEVENT_SOCKET);
    ends.put("x");
    CHECK(queue.next().type == KEVENT_PIPE);
    quiet.put("x");
    CHECK(queue.next().type == KEVENT_POLL);
  }
  received.put("data");
  const ukevent got = queue.next();
  CHECK(got.type == KEVENT_NAIO);
  CHECK(got.ret_flags == done);
  CHECK(got.ret_data[0] == 4);
  CHECK(queue.silent(5));
}

TEST_CASE("C10: what a thread submits while another sleeps in the queue outlives it, too") {
  const fd_pair watched = unix_pair(), received = unix_pair();
  const event_queue queue;
  char bytes[8] = {};
  std::vector<ukevent> buffer(8);
  sleeping_call sleeper([&] { return ::kevent_get_events(queue.fd(), 2, 8, patience, buffer.data(), 0); });
  sleeper.wait_until_asleep();
  int failures = 0;
  std::thread([&] {
    if (queue.add(socket_event(watched.ours.get(), KEVENT_SOCKET_RECV)) != 0) ++failures;
    if (::kevent_aio_recv(queue.fd(), received.ours.get(), bytes, sizeof bytes, 0, bytes) != 0) ++failures;
  }).join();
  CHECK(failures == 0);
  watched.put("x");
  received.put("data");
  CHECK(sleeper.answer() == 2);
  CHECK(sleeper.returned_after_ms() < 15'000);
  CHECK(buffer[0].ret_flags == done);
  CHECK(buffer[1].ret_flags == done);
}

TEST_CASE("case 68: a signal handler runs during kevent_wait, which sleeps on") {
  struct sigaction action = {}, before = {};
  action.sa_handler = [](int) { ++handler_calls; };
  REQUIRE(::sigaction(SIGUSR1, &action, &before) == 0);
  handler_calls = 0;
  event_ring ring(4);
  const event_queue queue(ring);
  REQUIRE(queue.add(unotify_event(1)) == 0);
  sleeping_call sleeper([&] { return ::kevent_wait(queue.fd(), 1, 0, patience, 0); });
  for (int signals = 1; signals <= 3; ++signals) {
    sleeper.wait_until_asleep();
    ::pthread_kill(sleeper.handle(), SIGUSR1);
    while (handler_calls < signals) let_pass(1);
  }
  sleeper.wait_until_asleep();
  CHECK_FALSE(sleeper.returned());
  REQUIRE(queue.ready(unotify_event(1)) == 1);
  CHECK(sleeper.answer() == 1);
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("clarification, waiting: a wait that moves events for one thread leaves the others their own") {
  event_ring ring(8);
  const event_queue queue(ring);
  make_ready(queue, 2);
  ukevent buffer{};
  std::thread other([&] { ::kevent_get_events(queue.fd(), 1, 1, patience, &buffer, 0); });
  other.join();
  CHECK(buffer.id.raw_u64 == 1);
  CHECK(queue.wait(8, 0, no_wait) == 1);
  CHECK(ring.kidx() == 2);
  CHECK(ring[0].id.raw_u64 == 1);
  CHECK(ring[1].id.raw_u64 == 2);
}
