#include <doctest/doctest.h>

#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <array>
#include <csignal>
#include <limits>
#include <thread>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/fd_pairs.hpp"

using namespace keel::test;

namespace {

std::atomic<int> handler_calls = 0;

void set_nonblocking(int fd) {
  REQUIRE(::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK) == 0);
}

}  // namespace

TEST_CASE("case 53: nothing ready is 0 after the timeout, not before") {
  const event_queue queue;
  const stopwatch time;
  CHECK(queue.get(1, 4, milliseconds(50)).empty());
  CHECK(time.elapsed_ms() >= 50);
  CHECK(time.elapsed_ms() < 5'000);
}

TEST_CASE("case 54: timeout 0 does not wait") {
  event_ring ring(4);
  const event_queue queue(ring);
  const stopwatch time;
  CHECK(queue.get(1, 4, no_wait).empty());
  CHECK(queue.wait(4, 0, no_wait) == 0);
  CHECK(time.elapsed_ms() < 5'000);
}

TEST_CASE("case 55, K12: a timeout that is no time is EINVAL") {
  event_ring ring(4);
  const event_queue queue(ring);
  ukevent buffer{};
  for (const timespec timeout :
       {timespec{0, 1'000'000'000}, timespec{-5, 0}, timespec{-2, 0}, timespec{0, -1},
        timespec{1, std::numeric_limits<long>::max()}, timespec{std::numeric_limits<time_t>::min(), 0}}) {
    for (const unsigned flags : {0u, KEVENT_FLAGS_ABSTIME}) {
      CHECK(::kevent_get_events(queue.fd(), 1, 1, timeout, &buffer, flags) == -EINVAL);
      CHECK(::kevent_wait(queue.fd(), 1, 0, timeout, flags) == -EINVAL);
    }
  }
}

TEST_CASE("case 56, decision 2, K12: tv_sec -1 waits for ever, with ABSTIME too") {
  event_ring ring(4);
  const event_queue queue(ring);
  REQUIRE(queue.add(unotify_event(1)) == 0);
  ukevent buffer{};
  for (const unsigned flags : {0u, KEVENT_FLAGS_ABSTIME}) {
    sleeping_call in_get([&] { return ::kevent_get_events(queue.fd(), 1, 1, for_ever, &buffer, flags); });
    in_get.wait_until_asleep();
    CHECK_FALSE(in_get.returned());
    CHECK(queue.ready(unotify_event(1)) == 1);
    CHECK(in_get.answer() == 1);

    const unsigned uidx = ring.kidx();
    CHECK(queue.commit(uidx, 0) == 1);
    sleeping_call in_wait([&] { return ::kevent_wait(queue.fd(), 1, uidx, for_ever, flags); });
    in_wait.wait_until_asleep();
    CHECK_FALSE(in_wait.returned());
    CHECK(queue.ready(unotify_event(1)) == 1);
    CHECK(in_wait.answer() == 1);
    CHECK(queue.commit(ring.kidx(), ring.over()) == 1);
  }
}

TEST_CASE("K12: a huge timeout is no overflow") {
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(1)) == 0);
  ukevent buffer{};
  for (const unsigned flags : {0u, KEVENT_FLAGS_ABSTIME}) {
    for (const timespec timeout :
         {timespec{std::numeric_limits<time_t>::max(), 999'999'999},
          timespec{std::numeric_limits<time_t>::max() / 1'000'000'000, 0}, timespec{1'000'000'000'000, 0}}) {
      sleeping_call sleeper([&] { return ::kevent_get_events(queue.fd(), 1, 1, timeout, &buffer, flags); });
      sleeper.wait_until_asleep();
      CHECK_FALSE(sleeper.returned());
      CHECK(queue.ready(unotify_event(1)) == 1);
      sleeper.answer();
      queue.ready_now();
    }
  }
}

TEST_CASE("case 57: ABSTIME is a point of CLOCK_REALTIME") {
  const event_queue queue;
  const stopwatch time;
  CHECK(queue.get(1, 1, realtime_in(100), KEVENT_FLAGS_ABSTIME).empty());
  CHECK(time.elapsed_ms() >= 99);
  CHECK(time.elapsed_ms() < 5'000);

  const stopwatch past;
  CHECK(queue.get(1, 1, realtime_in(-5'000), KEVENT_FLAGS_ABSTIME).empty());
  CHECK(queue.get(1, 1, timespec{0, 0}, KEVENT_FLAGS_ABSTIME).empty());
  CHECK(past.elapsed_ms() < 5'000);
}

TEST_CASE("case 58, decision 2: each call has its own deadline") {
  const event_queue queue;
  const timespec early = realtime_in(100), late = realtime_in(300);
  ukevent buffers[2] = {};
  sleeping_call first(
      [&] { return ::kevent_get_events(queue.fd(), 1, 1, late, &buffers[0], KEVENT_FLAGS_ABSTIME); });
  first.wait_until_asleep();
  sleeping_call second(
      [&] { return ::kevent_get_events(queue.fd(), 1, 1, early, &buffers[1], KEVENT_FLAGS_ABSTIME); });
  CHECK(second.answer() == 0);
  CHECK(now_ns(CLOCK_REALTIME) >= std::int64_t(early.tv_sec) * 1'000'000'000 + early.tv_nsec);
  CHECK(first.answer() == 0);
  CHECK(first.returned_after_ms() >= 299);
  CHECK(first.returned_after_ms() < 5'000);
}

TEST_CASE("case 59: with O_NONBLOCK neither timeout nor min_nr is looked at") {
  event_ring ring(8);
  const event_queue queue(ring);
  set_nonblocking(queue.fd());
  const stopwatch time;
  CHECK(queue.get(1, 4, milliseconds(9'000)).empty());
  CHECK(queue.get(1, 4, for_ever).empty());
  CHECK(queue.get(1, 4, timespec{-7, 2'000'000'000}).empty());
  CHECK(queue.wait(1, 0, milliseconds(9'000)) == 0);
  CHECK(queue.wait(1, 0, timespec{-7, 2'000'000'000}) == 0);
  make_ready(queue, 2);
  CHECK(queue.get(4, 4, milliseconds(9'000)).size() == 2);
  CHECK(time.elapsed_ms() < 8'000);
}

TEST_CASE("case 60: max_nr limits, and the order is that of becoming ready") {
  const event_queue queue;
  for (const unsigned id : {5u, 1u, 4u, 2u, 3u}) {
    REQUIRE(queue.add(unotify_event(id)) == 0);
    REQUIRE(queue.ready(unotify_event(id)) == 1);
  }
  const std::vector<ukevent> first = queue.get(1, 3, no_wait), second = queue.get(1, 3, no_wait);
  REQUIRE(first.size() == 3);
  CHECK(first[0].id.raw_u64 == 5);
  CHECK(first[1].id.raw_u64 == 1);
  CHECK(first[2].id.raw_u64 == 4);
  REQUIRE(second.size() == 2);
  CHECK(second[0].id.raw_u64 == 2);
  CHECK(second[1].id.raw_u64 == 3);
}

TEST_CASE("case 61, decision 2: min_nr is honoured") {
  const event_queue queue;
  const stopwatch time;
  for (const std::uint32_t ms : {2u, 20u, 40u}) REQUIRE(queue.add(timer_event(ms, KEVENT_REQ_ONESHOT)) == 0);
  CHECK(queue.get(3, 8, patience).size() == 3);
  CHECK(time.elapsed_ms() >= 40);
  CHECK(time.elapsed_ms() < 10'000);
}

TEST_CASE("case 62: at the timeout what is there is returned, though it is less than min_nr") {
  const event_queue queue;
  make_ready(queue, 2);
  const stopwatch time;
  CHECK(queue.get(3, 8, milliseconds(100)).size() == 2);
  CHECK(time.elapsed_ms() >= 100);
}

TEST_CASE("case 63: max_nr 0 is 0") {
  const event_queue queue;
  make_ready(queue, 1);
  CHECK(::kevent_get_events(queue.fd(), 0, 0, no_wait, nullptr, 0) == 0);
  CHECK(queue.ready_now() == 1);
}

TEST_CASE("clarification, waiting: min_nr 0 does not sleep") {
  const event_queue queue;
  const stopwatch time;
  CHECK(queue.get(0, 4, milliseconds(9'000)).empty());
  CHECK(queue.get(0, 4, for_ever).empty());
  CHECK(time.elapsed_ms() < 8'000);
}

TEST_CASE("clarification, waiting: min_nr above max_nr counts as max_nr") {
  const event_queue queue;
  make_ready(queue, 2);
  const stopwatch time;
  CHECK(queue.get(9, 2, milliseconds(9'000)).size() == 2);
  CHECK(::kevent_get_events(queue.fd(), 5, 0, milliseconds(9'000), nullptr, 0) == 0);
  CHECK(time.elapsed_ms() < 8'000);
}

TEST_CASE("decision 4: unknown flags of the wait calls are EINVAL") {
  event_ring ring(4);
  const event_queue queue(ring);
  ukevent buffer{};
  for (const unsigned flags : {2u, 3u, 0x80000000u}) {
    CHECK(::kevent_get_events(queue.fd(), 1, 1, no_wait, &buffer, flags) == -EINVAL);
    CHECK(::kevent_wait(queue.fd(), 1, 0, no_wait, flags) == -EINVAL);
  }
}

TEST_CASE("case 64: a buffer that is refused costs no event") {
  const event_queue queue;
  make_ready(queue, 1);
  CHECK(::kevent_get_events(queue.fd(), 1, 1, no_wait, nullptr, 0) == -EFAULT);
  CHECK(queue.ready_now() == 1);
}

TEST_CASE("case 66: what get returns is in the ring, too") {
  event_ring ring(4);
  const event_queue queue(ring);
  make_ready(queue, 2);
  const std::vector<ukevent> got = queue.get(2, 2, no_wait);
  REQUIRE(got.size() == 2);
  CHECK(ring.kidx() == 2);
  CHECK(same_bytes(got[0], ring[0]));
  CHECK(same_bytes(got[1], ring[1]));
}

TEST_CASE("case 67: with a full ring get says COPY_FAILED, and leaves the ring alone") {
  event_ring ring(2);
  const event_queue queue(ring);
  make_ready(queue, 3);
  REQUIRE(queue.wait(2, 0, no_wait) == 2);
  const std::vector<std::uint64_t> before = ring.words();

  const std::vector<ukevent> got = queue.get(1, 4, no_wait);

  REQUIRE(got.size() == 1);
  CHECK(got[0].id.raw_u64 == 3);
  CHECK(got[0].ret_flags == (KEVENT_RET_DONE | KEVENT_RET_COPY_FAILED));
  CHECK(ring.words() == before);
}

TEST_CASE("spec 1.9: COPY_FAILED does not stick to the registration") {
  event_ring ring(2);
  const event_queue queue(ring);
  make_ready(queue, 3);
  REQUIRE(queue.wait(2, 0, no_wait) == 2);
  REQUIRE(queue.get(1, 4, no_wait).size() == 1);
  REQUIRE(queue.commit(1, 0) == 1);
  REQUIRE(queue.commit(0, 0) == 1);

  REQUIRE(queue.ready(unotify_event(3)) == 1);
  CHECK(queue.wait(1, 0, no_wait) == 1);
  CHECK(ring[0].ret_flags == done);
}

TEST_CASE("clarification, waiting: a ring that has room for some of them holds exactly those") {
  event_ring ring(4);
  const event_queue queue(ring);
  make_ready(queue, 6);
  const std::vector<ukevent> got = queue.get(6, 8, no_wait);
  REQUIRE(got.size() == 6);
  for (unsigned i = 0; i < 6; ++i) {
    const bool in_ring = (got[i].ret_flags & KEVENT_RET_COPY_FAILED) == 0;
    CHECK(in_ring == (i < 4));
    if (i < 4) CHECK(same_bytes(got[i], ring[i]));
  }
}

TEST_CASE("case 68: a signal handler runs during the sleep, and the call sleeps on to its deadline") {
  struct sigaction action = {}, before = {};
  action.sa_handler = [](int) { ++handler_calls; };
  REQUIRE(::sigaction(SIGUSR1, &action, &before) == 0);
  handler_calls = 0;
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(1)) == 0);
  ukevent buffer{};

  sleeping_call to_deadline(
      [&] { return ::kevent_get_events(queue.fd(), 1, 1, milliseconds(400), &buffer, 0); });
  to_deadline.wait_until_asleep();
  ::pthread_kill(to_deadline.handle(), SIGUSR1);
  CHECK(to_deadline.answer() == 0);
  CHECK(to_deadline.returned_after_ms() >= 400);
  CHECK(handler_calls == 1);

  sleeping_call to_event([&] { return ::kevent_get_events(queue.fd(), 1, 1, for_ever, &buffer, 0); });
  to_event.wait_until_asleep();
  ::pthread_kill(to_event.handle(), SIGUSR1);
  while (handler_calls < 2) let_pass(1);
  to_event.wait_until_asleep();
  CHECK_FALSE(to_event.returned());
  CHECK(queue.ready(unotify_event(1)) == 1);
  CHECK(to_event.answer() == 1);
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("case 70, decision 7: one event wakes one of four threads, and the others keep sleeping") {
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(1)) == 0);
  std::array<ukevent, 4> buffers{};
  std::array<long, 4> switches{};
  auto sleep_in = [&](std::size_t i) {
    return [&, i] {
      rusage before{}, after{};
      ::getrusage(RUSAGE_THREAD, &before);
      const int n = ::kevent_get_events(queue.fd(), 1, 1, milliseconds(3'000), &buffers[i], 0);
      ::getrusage(RUSAGE_THREAD, &after);
      switches[i] = after.ru_nvcsw - before.ru_nvcsw;
      return n;
    };
  };
  sleeping_call a(sleep_in(0)), b(sleep_in(1)), c(sleep_in(2)), d(sleep_in(3));
  for (const sleeping_call* sleeper : {&a, &b, &c, &d}) sleeper->wait_until_asleep();

  CHECK(queue.ready(unotify_event(1)) == 1);

  int woken = 0;
  for (sleeping_call* sleeper : {&a, &b, &c, &d}) {
    const int n = sleeper->answer();
    if (n == 1) ++woken;
    if (n != 1) CHECK(sleeper->returned_after_ms() >= 3'000);
  }
  CHECK(woken == 1);
  for (const long count : switches) CHECK(count <= 12);
}

TEST_CASE("case 71, spec W3: a thread that ends without reading its event hands it on by READY of nothing") {
  event_ring ring(4);
  const event_queue queue(ring);
  REQUIRE(queue.add(unotify_event(5)) == 0);
  sleeping_call doomed([&] { return ::kevent_wait(queue.fd(), 1, 0, for_ever, 0); });
  doomed.wait_until_asleep();
  REQUIRE(queue.ready(unotify_event(5)) == 1);
  REQUIRE(doomed.answer() == 1);

  sleeping_call heir([&] { return ::kevent_wait(queue.fd(), 1, 0, patience, 0); });
  heir.wait_until_asleep();
  CHECK_FALSE(heir.returned());
  REQUIRE(queue.wake_one() == 0);
  CHECK(heir.answer() == 0);
  CHECK(ring.kidx() == 1);
  CHECK(ring[0].id.raw_u64 == 5);
}

TEST_CASE("clarification, waiting: the wait calls are no cancellation points") {
  event_ring ring(4);
  const event_queue queue(ring);
  REQUIRE(queue.add(unotify_event(1)) == 0);
  for (const bool in_get : {true, false}) {
    std::atomic<int> answer = -1;
    std::atomic<pid_t> id = 0;
    ukevent buffer{};
    const unsigned uidx = ring.kidx();
    struct everything {
      int fd;
      bool in_get;
      unsigned uidx;
      std::atomic<int>& answer;
      std::atomic<pid_t>& id;
      ukevent& buffer;
    } shared{queue.fd(), in_get, uidx, answer, id, buffer};
    pthread_t thread{};
    auto body = [](void* pointer) -> void* {
      everything& all = *static_cast<everything*>(pointer);
      all.id = ::gettid();
      all.answer = all.in_get ? ::kevent_get_events(all.fd, 1, 1, patience, &all.buffer, 0)
                              : ::kevent_wait(all.fd, 1, all.uidx, patience, 0);
      ::pthread_testcancel();
      return nullptr;
    };
    REQUIRE(::pthread_create(&thread, nullptr, body, &shared) == 0);
    for (int tries = 0, seen = 0; tries < 5'000 && seen < 4; ++tries) {
      seen = id != 0 && thread_sleeps(id) ? seen + 1 : 0;
      let_pass(1);
    }
    REQUIRE(::pthread_cancel(thread) == 0);
    CHECK(queue.ready(unotify_event(1)) == 1);
    void* result = nullptr;
    REQUIRE(::pthread_join(thread, &result) == 0);
    CHECK(result == PTHREAD_CANCELED);
    CHECK(answer == 1);
    CHECK(queue.commit(ring.kidx(), 0) == 1);
  }
}

TEST_CASE("clarification, waiting: events that LAST_CHECK drops do not count, and the call sleeps on") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_LAST_CHECK)) == 0);
  REQUIRE(queue.add(timer_event(60, KEVENT_REQ_ONESHOT)) == 0);
  pair.put("x");
  drain(pair.ours.get());
  const stopwatch time;
  const ukevent got = queue.next();
  CHECK(got.type == KEVENT_TIMER);
  CHECK(time.elapsed_ms() < 10'000);
}
