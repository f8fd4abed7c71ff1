#include <doctest/doctest.h>

#include <ctime>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"

using namespace keel::test;

namespace {

itimerspec spec_of(long value_ms, long interval_ms = 0) {
  return {milliseconds(interval_ms), milliseconds(value_ms)};
}

// A timer that is deleted with its scope.
class posix_timer {
 public:
  explicit posix_timer(const event_queue& queue, int clock = CLOCK_MONOTONIC, void* ptr = nullptr)
      : id_(::kevent_timer_create(queue.fd(), clock, ptr)) {
    REQUIRE(id_ > 0);
  }
  posix_timer(const posix_timer&) = delete;
  posix_timer& operator=(const posix_timer&) = delete;
  ~posix_timer() { ::kevent_timer_delete(id_); }

  int id() const { return id_; }
  int set(const itimerspec& value, int flags = 0) const { return ::kevent_timer_settime(id_, flags, &value); }

 private:
  int id_;
};

constexpr int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};

}  // namespace

TEST_CASE("case 127: a timer of any clock expires once, with its pointer") {
  for (const int clock : clocks) {
    CAPTURE(clock);
    const event_queue queue;
    int anything = 0;
    const posix_timer timer(queue, clock, &anything);
    const stopwatch time;
    REQUIRE(timer.set(spec_of(30)) == 0);
    const ukevent got = queue.next();
    CHECK(time.elapsed_ms() >= 29);
    CHECK(got.type == KEVENT_POSIX_TIMER);
    CHECK(got.ret_flags == done);
    CHECK(got.ptr == &anything);
    CHECK(got.ret_data[0] == 0);
    CHECK(queue.silent(40));
  }
}

TEST_CASE("case 127: a timer may be armed for a point in time, also one that has passed") {
  for (const int clock : clocks) {
    CAPTURE(clock);
    const event_queue queue;
    const posix_timer timer(queue, clock);
    timespec now{};
    ::clock_gettime(clock, &now);
    const std::int64_t at = std::int64_t(now.tv_sec) * 1'000'000'000 + now.tv_nsec + 40'000'000;
    itimerspec value{};
    value.it_value = {static_cast<time_t>(at / 1'000'000'000), static_cast<long>(at % 1'000'000'000)};
    REQUIRE(timer.set(value, TIMER_ABSTIME) == 0);
    CHECK(queue.next().ret_flags == done);
    CHECK(now_ns(clock) >= at);

    value.it_value = {1, 0};
    REQUIRE(timer.set(value, TIMER_ABSTIME) == 0);
    CHECK(queue.next().ret_flags == done);
  }
}

TEST_CASE("case 128: unknown clocks, flags, ids and values are EINVAL") {
  const event_queue queue;
  for (const int clock : {-1, 99, int(CLOCK_PROCESS_CPUTIME_ID)})
    CHECK(::kevent_timer_create(queue.fd(), clock, nullptr) == -EINVAL);
  const posix_timer timer(queue);
  CHECK(timer.set(spec_of(10), 2) == -EINVAL);
  CHECK(timer.set(spec_of(10), ~TIMER_ABSTIME) == -EINVAL);
  for (const timespec bad : {timespec{-1, 0}, timespec{0, -1}, timespec{0, 1'000'000'000}}) {
    CHECK(timer.set({no_wait, bad}) == -EINVAL);
    CHECK(timer.set({bad, milliseconds(10)}) == -EINVAL);
  }
  CHECK(::kevent_timer_settime(timer.id(), 0, nullptr) == -EFAULT);
  const itimerspec value = spec_of(10);
  for (const int id : {0, -1, 1'000'000'000}) {
    CHECK(::kevent_timer_settime(id, 0, &value) == -EINVAL);
    CHECK(::kevent_timer_delete(id) == -EINVAL);
  }
  CHECK(queue.silent(20));
}

TEST_CASE("case 129, decision 9: a timer with an interval repeats, and counts what nobody collected") {
  for (const int clock : clocks) {
    CAPTURE(clock);
    const event_queue queue;
    const posix_timer timer(queue, clock);
    REQUIRE(timer.set(spec_of(10, 10)) == 0);
    CHECK(queue.next().ret_flags == done);
    CHECK(queue.next().ret_flags == done);
    let_pass(100);
    const ukevent late = queue.next();
    CHECK(late.ret_data[0] >= 7);
    CHECK(late.ret_data[0] < 5'000);
    CHECK(queue.next().ret_flags == done);
  }
}

TEST_CASE("case 129: settime with a zero value disarms, and what is pending is dropped") {
  const event_queue queue;
  const posix_timer timer(queue);
  REQUIRE(timer.set(spec_of(5, 5)) == 0);
  let_pass(30);
  REQUIRE(timer.set(spec_of(0)) == 0);
  CHECK(queue.silent(30));
  REQUIRE(timer.set(spec_of(5)) == 0);
  CHECK(queue.next().ret_data[0] == 0);
}

TEST_CASE("clarification, types: settime drops a pending expiry") {
  const event_queue queue;
  const posix_timer timer(queue);
  REQUIRE(timer.set(spec_of(1)) == 0);
  let_pass(30);
  REQUIRE(timer.set(spec_of(3'600'000)) == 0);
  CHECK(queue.silent());
}

TEST_CASE("clarification, types: delete reports nothing, and the id is EINVAL from then on") {
  const event_queue queue;
  const int id = ::kevent_timer_create(queue.fd(), CLOCK_MONOTONIC, nullptr);
  REQUIRE(id > 0);
  const itimerspec value = spec_of(5);
  REQUIRE(::kevent_timer_settime(id, 0, &value) == 0);
  let_pass(20);
  CHECK(::kevent_timer_delete(id) == 0);
  CHECK(queue.silent());
  CHECK(::kevent_timer_settime(id, 0, &value) == -EINVAL);
  CHECK(::kevent_timer_delete(id) == -EINVAL);
}

TEST_CASE("clarification, types: the timers of a queue end with it") {
  int id = -1;
  {
    const event_queue queue;
    id = ::kevent_timer_create(queue.fd(), CLOCK_REALTIME, nullptr);
    REQUIRE(id > 0);
  }
  CHECK(::kevent_timer_delete(id) == -EINVAL);
}

TEST_CASE("clarification, types: a timer counts as a registration while it exists") {
  const event_queue queue;
  std::vector<ukevent> unknown{unotify_event(1)};
  CHECK(queue.ctl(KEVENT_CTL_REMOVE, unknown) == -EINVAL);
  const int id = ::kevent_timer_create(queue.fd(), CLOCK_MONOTONIC, nullptr);
  REQUIRE(id > 0);
  CHECK(queue.ctl(KEVENT_CTL_REMOVE, unknown) == 0);
  CHECK(unknown[0].ret_flags == done_and_broken);
  CHECK(::kevent_timer_delete(id) == 0);
  unknown[0] = unotify_event(1);
  CHECK(queue.ctl(KEVENT_CTL_REMOVE, unknown) == -EINVAL);
}

TEST_CASE("spec 2.9: several timers of one queue are told apart by their pointers") {
  const event_queue queue;
  int a = 0, b = 0;
  const posix_timer first(queue, CLOCK_MONOTONIC, &a), second(queue, CLOCK_MONOTONIC, &b);
  CHECK(first.id() != second.id());
  REQUIRE(second.set(spec_of(5)) == 0);
  CHECK(queue.next().ptr == &b);
  REQUIRE(first.set(spec_of(5)) == 0);
  CHECK(queue.next().ptr == &a);
}

TEST_CASE("spec 2.9: a timer wakes a thread that sleeps") {
  const event_queue queue;
  const posix_timer timer(queue, CLOCK_REALTIME);
  ukevent buffer{};
  sleeping_call sleeper([&] { return ::kevent_get_events(queue.fd(), 1, 1, patience, &buffer, 0); });
  sleeper.wait_until_asleep();
  REQUIRE(timer.set(spec_of(10)) == 0);
  CHECK(sleeper.answer() == 1);
  CHECK(buffer.type == KEVENT_POSIX_TIMER);
}
