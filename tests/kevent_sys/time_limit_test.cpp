#include <keel/kevent_sys/time_limit.hpp>

#include <doctest/doctest.h>
#include <keel/kevent_sys/engine.hpp>

#include <limits>

using keel::kevent_sys::never;
using keel::kevent_sys::time_limit;

namespace {

time_limit parsed(timespec text, bool absolute = false) {
  time_limit limit;
  REQUIRE(time_limit::parse(text, absolute, limit));
  return limit;
}

timespec in(clockid_t clock, long seconds) {
  timespec now{};
  ::clock_gettime(clock, &now);
  now.tv_sec += seconds;
  return now;
}

}  // namespace

TEST_CASE("K12: time_limit: what is no time is refused") {
  time_limit limit;
  for (const bool absolute : {false, true}) {
    CHECK(!time_limit::parse({-2, 0}, absolute, limit));
    CHECK(!time_limit::parse({0, -1}, absolute, limit));
    CHECK(!time_limit::parse({0, 1'000'000'000}, absolute, limit));
    CHECK(!time_limit::parse({std::numeric_limits<time_t>::min(), 0}, absolute, limit));
  }
}

TEST_CASE("time_limit: zero has passed, and is known to be no wait at all") {
  CHECK(parsed({0, 0}).at_once());
  CHECK(parsed({0, 0}).passed());
  CHECK(!parsed({0, 1}).at_once());
}

TEST_CASE("time_limit: -1 seconds never passes, whatever the nanoseconds and the clock") {
  for (const bool absolute : {false, true}) {
    const time_limit limit = parsed({-1, 77}, absolute);
    CHECK(!limit.passed());
    CHECK(limit.next_look_ns() == never);
  }
}

TEST_CASE("G1: time_limit: an endless duration saturates") {
  for (const bool absolute : {false, true}) {
    const time_limit limit = parsed({std::numeric_limits<time_t>::max(), 999'999'999}, absolute);
    CHECK(!limit.passed());
  }
}

TEST_CASE("G3: time_limit: a point of the wall clock is looked at again within a second") {
  const time_limit limit = parsed(in(CLOCK_REALTIME, 3600), true);
  CHECK(!limit.passed());
  const timespec soon = in(CLOCK_MONOTONIC, 2);
  CHECK(limit.next_look_ns() < std::uint64_t(soon.tv_sec) * 1'000'000'000);
  CHECK(parsed(in(CLOCK_REALTIME, -1), true).passed());
}

TEST_CASE("time_limit: a duration ends at a time of the monotonic clock") {
  const timespec before = in(CLOCK_MONOTONIC, 0);
  const time_limit limit = parsed({3600, 0});
  CHECK(!limit.passed());
  CHECK(limit.next_look_ns() >= std::uint64_t(before.tv_sec + 3600) * 1'000'000'000);
}
