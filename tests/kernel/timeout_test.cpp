// IORING_OP_TIMEOUT, and the time limit of an enter.

#include <doctest/doctest.h>

#include <cstdint>
#include <ctime>

#include "kernel/raw_ring.hpp"

using namespace keel::test;

namespace {

using nanoseconds = long long;
constexpr nanoseconds millisecond = 1'000'000;
constexpr nanoseconds long_time = 3600ll * 1'000'000'000;

nanoseconds now(clockid_t clock) {
  timespec at{};
  ::clock_gettime(clock, &at);
  return at.tv_sec * 1'000'000'000ll + at.tv_nsec;
}

__kernel_timespec split(nanoseconds time) {
  return {time / 1'000'000'000, time % 1'000'000'000};
}

void timeout(raw_ring& ring, std::uint64_t number, const __kernel_timespec& time, unsigned flags = 0) {
  ring.ask(number, IORING_OP_TIMEOUT, -1, &time, 1).timeout_flags = flags;
}

void update(raw_ring& ring, std::uint64_t number, std::uint64_t target, const __kernel_timespec& time,
            unsigned flags = 0) {
  auto& sqe = ring.ask(number, IORING_OP_TIMEOUT_REMOVE, -1);
  sqe.addr = target;
  sqe.off = reinterpret_cast<std::uintptr_t>(&time);
  sqe.timeout_flags = IORING_TIMEOUT_UPDATE | flags;
}

}  // namespace

TEST_CASE("timeout: it answers ETIME, and never early") {
  if (!can_use_rings()) return;
  for (const unsigned flavour : both) {
    raw_ring ring(flavour);
    for (int i = 0; i < 20; ++i) {
      const __kernel_timespec little = split(300'000 + i * 10'000);
      const nanoseconds start = now(CLOCK_MONOTONIC);
      timeout(ring, 1, little);
      CHECK(ring.hear(1) == "1=ETIME");
      CHECK(now(CLOCK_MONOTONIC) - start >= little.tv_nsec);
    }
  }
}

TEST_CASE("timeout: an absolute one fires at its time, on each clock, and at once when that has passed") {
  if (!can_use_rings()) return;
  struct clock {
    clockid_t id;
    unsigned flag;
  };
  const clock clocks[] = {{CLOCK_MONOTONIC, 0},
                          {CLOCK_BOOTTIME, IORING_TIMEOUT_BOOTTIME},
                          {CLOCK_REALTIME, IORING_TIMEOUT_REALTIME}};
  raw_ring ring(owned);
  for (const clock& clock : clocks) {
    const nanoseconds due = now(clock.id) + millisecond;
    const __kernel_timespec then = split(due);
    timeout(ring, 1, then, IORING_TIMEOUT_ABS | clock.flag);
    CHECK(ring.hear(1) == "1=ETIME");
    CHECK(now(clock.id) >= due);
    const __kernel_timespec past = split(now(clock.id) - millisecond);
    timeout(ring, 2, past, IORING_TIMEOUT_ABS | clock.flag);
    CHECK(ring.hear(1) == "2=ETIME");
  }
}

TEST_CASE("timeout: an update moves it earlier and later, and ENOENT says that it has fired") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const __kernel_timespec late = split(now(CLOCK_MONOTONIC) + long_time);
  timeout(ring, 1, late, IORING_TIMEOUT_ABS);
  CHECK(ring.hear() == "");
  const __kernel_timespec later = split(now(CLOCK_MONOTONIC) + 2 * long_time);
  update(ring, 2, 1, later, IORING_TIMEOUT_ABS);
  CHECK(ring.hear() == "2=0");
  const nanoseconds due = now(CLOCK_MONOTONIC) + millisecond;
  const __kernel_timespec soon = split(due);
  update(ring, 3, 1, soon, IORING_TIMEOUT_ABS);
  CHECK(ring.hear(2) == "1=ETIME 3=0");
  CHECK(now(CLOCK_MONOTONIC) >= due);
  update(ring, 4, 1, later, IORING_TIMEOUT_ABS);
  CHECK(ring.hear() == "4=ENOENT");
}

TEST_CASE("timeout: it can be cancelled") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const __kernel_timespec late = split(long_time);
  timeout(ring, 1, late);
  ring.hear();
  ring.cancel(2, 1);
  CHECK(ring.hear() == "1=ECANCELED 2=0");
}

TEST_CASE("G1: timeout: negative times are EINVAL, and nothing is too far away") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const __kernel_timespec negative_seconds{-1, 0};
  const __kernel_timespec negative_nanoseconds{0, -1};
  timeout(ring, 1, negative_seconds);
  timeout(ring, 2, negative_nanoseconds);
  CHECK(ring.hear() == "1=EINVAL 2=EINVAL");
  const __kernel_timespec far{INT64_MAX, 0};
  timeout(ring, 3, far);
  CHECK(ring.hear() == "");
  ring.cancel(4, 3);
  CHECK(ring.hear() == "3=ECANCELED 4=0");
}

TEST_CASE("enter: its time limit ends it with ETIME, never early") {
  if (!can_use_rings()) return;
  for (const unsigned flavour : both) {
    raw_ring ring(flavour);
    __kernel_timespec limit = split(500'000);
    io_uring_getevents_arg argument{};
    argument.sigmask_sz = _NSIG / 8;
    argument.ts = reinterpret_cast<std::uintptr_t>(&limit);
    const nanoseconds start = now(CLOCK_MONOTONIC);
    const long answer = ::syscall(SYS_io_uring_enter, ring.fd(), 0, 1,
                                  IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument, sizeof argument);
    CHECK((answer == -1 && errno == ETIME));
    CHECK(now(CLOCK_MONOTONIC) - start >= limit.tv_nsec);
  }
}
