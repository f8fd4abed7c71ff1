#include <doctest/doctest.h>

#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"

using namespace keel::test;

namespace {

// CLOCK_MONOTONIC as ret_data[0] tells it.
std::uint32_t now_ms() {
  return static_cast<std::uint32_t>(now_ns() / 1'000'000);
}

}  // namespace

TEST_CASE("case 105: a timer repeats, and says when it expired") {
  const event_queue queue;
  const stopwatch time;
  const std::uint32_t start = now_ms();
  REQUIRE(queue.add(timer_event(20)) == 0);
  std::uint32_t before = start;
  for (int expiry = 1; expiry <= 3; ++expiry) {
    const ukevent got = queue.next();
    CHECK(got.ret_flags == done);
    CHECK(got.event == KEVENT_TIMER_FIRED);
    CHECK(time.elapsed_ms() >= 20 * expiry);
    CHECK(got.ret_data[0] - before >= 1);
    CHECK(got.ret_data[0] - start >= static_cast<std::uint32_t>(20 * expiry));
    CHECK(now_ms() - got.ret_data[0] < 5'000);
    before = got.ret_data[0];
  }
}

TEST_CASE("case 106: a ONESHOT timer fires exactly once") {
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(1)) == 0);
  REQUIRE(queue.add(timer_event(10, KEVENT_REQ_ONESHOT)) == 0);
  CHECK(queue.next().type == KEVENT_TIMER);
  CHECK(queue.silent(40));
  CHECK(queue.remove(timer_event(10)).ret_flags == done_and_broken);
}

TEST_CASE("case 107: expiries that nobody collects are one event") {
  const event_queue queue;
  REQUIRE(queue.add(timer_event(10)) == 0);
  let_pass(100);
  CHECK(queue.get(1, 16, no_wait).size() == 1);
}

TEST_CASE("case 108, decision 1: timers of one interval live side by side; the oldest one is meant") {
  const event_queue queue;
  REQUIRE(queue.add(with_cookie(timer_event(3'600'000), 1)) == 0);
  REQUIRE(queue.add(with_cookie(timer_event(3'600'000), 2)) == 0);
  REQUIRE(queue.add(with_cookie(timer_event(3'600'000), 3)) == 0);

  REQUIRE(queue.ready(timer_event(3'600'000)) == 1);
  CHECK(queue.next().user[0] == 1);
  REQUIRE(queue.modify(timer_event(3'600'000, KEVENT_REQ_ET)).ret_flags == done);
  REQUIRE(queue.ready(timer_event(3'600'000)) == 1);
  const ukevent modified = queue.next();
  CHECK(modified.user[0] == 1);
  CHECK(modified.req_flags == KEVENT_REQ_ET);

  for (const std::uint32_t cookie : {2u, 3u}) {
    CHECK(queue.remove(timer_event(3'600'000)).ret_flags == done);
    REQUIRE(queue.ready(timer_event(3'600'000)) == 1);
    CHECK(queue.next().user[0] == cookie);
  }
  CHECK(queue.remove(timer_event(3'600'000)).ret_flags == done);
}

TEST_CASE("case 108: two timers of one interval both fire") {
  const event_queue queue;
  REQUIRE(queue.add(with_cookie(timer_event(10, KEVENT_REQ_ONESHOT), 1)) == 0);
  REQUIRE(queue.add(with_cookie(timer_event(10, KEVENT_REQ_ONESHOT), 2)) == 0);
  const std::vector<ukevent> got = queue.get(2, 4, patience);
  REQUIRE(got.size() == 2);
  CHECK(got[0].user[0] + got[1].user[0] == 3);
}

TEST_CASE("case 109: ADD never hands a timer back, however short it is") {
  const event_queue queue;
  ukevent event = timer_event(0, KEVENT_REQ_ONESHOT);
  event.id.raw[1] = 1;
  for (int round = 0; round < 100; ++round) {
    REQUIRE(queue.add(event) == 0);
    CHECK(queue.next().ret_flags == done);
  }
}

TEST_CASE("case 110: an interval of zero, or one that is no time, is EINVAL") {
  const event_queue queue;
  for (const auto& [seconds, nanoseconds] : std::vector<std::pair<std::uint32_t, std::uint32_t>>{
           {0, 0}, {0, 1'000'000'000}, {1, 1'000'000'000}, {1, 0xFFFFFFFFu}}) {
    ukevent event = timer_event(0);
    event.id.raw[0] = seconds;
    event.id.raw[1] = nanoseconds;
    const ukevent entry = queue.handed_back(event);
    CHECK(entry.ret_flags == done_and_broken);
    CHECK(error_of(entry) == -EINVAL);
  }
  ukevent longest = timer_event(0);
  longest.id.raw[0] = 0xFFFFFFFFu;
  longest.id.raw[1] = 999'999'999;
  CHECK(queue.add(longest) == 0);
  CHECK(queue.silent(5));
}

TEST_CASE("decision 5: MODIFY of a timer makes nothing ready, and does not restart it") {
  const event_queue queue;
  const std::uint32_t start = now_ms();
  REQUIRE(queue.add(timer_event(300, KEVENT_REQ_ONESHOT)) == 0);
  CHECK(queue.silent(150));
  const std::uint32_t modified = now_ms();
  REQUIRE(queue.modify(timer_event(300, KEVENT_REQ_ONESHOT)).ret_flags == done);
  CHECK(queue.silent(1));
  const ukevent got = queue.next();
  CHECK(got.ret_data[0] - start >= 300);
  CHECK(got.ret_data[0] - modified < 300);
}

TEST_CASE("clarification, types: READY of a timer fires it early, and does not shift its phase") {
  const event_queue queue;
  const std::uint32_t start = now_ms();
  REQUIRE(queue.add(timer_event(300)) == 0);
  const std::uint32_t added = now_ms();
  CHECK(queue.silent(100));
  REQUIRE(queue.ready(timer_event(300)) == 1);
  CHECK(queue.next().ret_flags == done);
  const ukevent got = queue.next();
  CHECK(got.ret_data[0] - start >= 300);
  CHECK(got.ret_data[0] - added < 390);
}

TEST_CASE("clarification, readiness: MODIFY keeps the pending event of a timer") {
  const event_queue queue;
  REQUIRE(queue.add(timer_event(10, KEVENT_REQ_ONESHOT)) == 0);
  let_pass(30);
  REQUIRE(queue.modify(timer_event(10, KEVENT_REQ_ONESHOT)).ret_flags == done);
  CHECK(queue.get(1, 4, patience).size() == 1);
}

TEST_CASE("spec 2.3: a timer that was removed does not fire") {
  const event_queue queue;
  REQUIRE(queue.add(timer_event(10)) == 0);
  REQUIRE(queue.remove(timer_event(10)).ret_flags == done);
  CHECK(queue.silent(40));
}

TEST_CASE("spec 2.3: a timer wakes a thread that waits for ever") {
  const event_queue queue;
  REQUIRE(queue.add(timer_event(30, KEVENT_REQ_ONESHOT)) == 0);
  CHECK(queue.get(1, 1, for_ever).size() == 1);
}

TEST_CASE("spec 2.3: a timer that is added while a thread sleeps wakes it in time") {
  const event_queue queue;
  ukevent buffer{};
  sleeping_call sleeper([&] { return ::kevent_get_events(queue.fd(), 1, 1, patience, &buffer, 0); });
  sleeper.wait_until_asleep();
  REQUIRE(queue.add(timer_event(20)) == 0);
  CHECK(sleeper.answer() == 1);
  CHECK(sleeper.returned_after_ms() < 10'000);
}

TEST_CASE("spec 2.3: a thousand timers all fire") {
  const event_queue queue;
  for (std::uint32_t i = 0; i < 1'000; ++i) {
    ukevent event = timer_event(1 + (i * 7 % 50), KEVENT_REQ_ONESHOT);
    REQUIRE(queue.add(with_cookie(event, i)) == 0);
  }
  std::size_t collected = 0;
  while (collected < 1'000) {
    const std::vector<ukevent> got = queue.get(1, 1'000, patience);
    REQUIRE_FALSE(got.empty());
    collected += got.size();
  }
  CHECK(queue.ready_now() == 0);
}
