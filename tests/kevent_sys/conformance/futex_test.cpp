#include <doctest/doctest.h>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <atomic>
#include <thread>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/in_child.hpp"

using namespace keel::test;

namespace {

alignas(4) std::uint32_t word = 0;

ukevent futex_event(std::uint32_t* at, std::uint32_t expected, std::uint32_t flags = 0) {
  ukevent event = event_of(KEVENT_FUTEX, 0, KEVENT_FUTEX_WAKE, flags);
  event.id.raw_u64 = reinterpret_cast<std::uintptr_t>(at);
  event.user[0] = expected;
  return event;
}

// Returns how many waiters the kernel woke.
long wake(std::uint32_t* at, int count = 1) {
  return ::syscall(SYS_futex, at, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, nullptr, nullptr, 0);
}

// Wakes one waiter: waits until there is one to wake.
bool wake_one_waiter(std::uint32_t* at) {
  for (int tries = 0; tries < 10'000; ++tries) {
    if (wake(at) == 1) return true;
    let_pass(1);
  }
  return false;
}

// Without a futex operation in the kernel's ring a thread waits, and needs a moment to hear that it need not.
bool nobody_waits(std::uint32_t* at) {
  for (int tries = 0; on_epoll() && tries < 5'000 && wake(at, 1'000) != 0; ++tries) let_pass(1);
  return wake(at, 1'000) == 0;
}

}  // namespace

TEST_CASE("FUTEX: a wake is one event, and the registration stays armed") {
  word = 5;
  const event_queue queue;
  REQUIRE(queue.add(with_cookie(futex_event(&word, 5), 5, 99)) == 0);
  CHECK(queue.silent());
  for (int round = 0; round < 5; ++round) {
    REQUIRE(wake_one_waiter(&word));
    const ukevent got = queue.next();
    CHECK(got.ret_flags == done);
    CHECK(got.id.raw_u64 == reinterpret_cast<std::uintptr_t>(&word));
    CHECK(got.user[1] == 99);
  }
  CHECK(queue.silent());
}

// Without a futex operation in the kernel's ring the thread that waits can only tell before it waits again.
TEST_CASE("FUTEX: it is armed again before its event is published") {
  word = 0;
  const event_queue queue;
  REQUIRE(queue.add(futex_event(&word, 0)) == 0);
  REQUIRE(wake_one_waiter(&word));
  for (int round = 0; round < 200; ++round) {
    CHECK(queue.next().ret_flags == done);
    REQUIRE((on_epoll() ? wake_one_waiter(&word) : wake(&word) == 1));
  }
  CHECK(queue.next().ret_flags == done);
}

TEST_CASE("K2: FUTEX: an address that is none is EFAULT at ADD, and nothing faults") {
  const event_queue queue;
  for (const std::uint64_t address : {std::uint64_t{12}, std::uint64_t{0xdead0000}, std::uint64_t{1} << 46}) {
    ukevent entry = futex_event(&word, 0);
    entry.id.raw_u64 = address;
    CHECK(error_of(queue.handed_back(entry)) == -EFAULT);
  }
}

TEST_CASE("FUTEX: a word that has another value at ADD is handed back with that value") {
  word = 6;
  const event_queue queue;
  const ukevent entry = queue.handed_back(futex_event(&word, 5));
  CHECK(entry.ret_flags == done);
  CHECK(entry.ret_data[0] == 6);
  REQUIRE(queue.add(unotify_event(1)) == 0);
  CHECK(queue.remove(futex_event(&word, 5)).ret_flags == done_and_broken);

  CHECK(queue.add(futex_event(&word, 5, KEVENT_REQ_ALWAYS_QUEUE)) == 0);
  CHECK(queue.next().ret_flags == done);
}

TEST_CASE("FUTEX: the value is compared at ADD only: later changes of the word do not end the wait") {
  word = 1;
  const event_queue queue;
  REQUIRE(queue.add(futex_event(&word, 1)) == 0);
  std::atomic_ref(word).store(2);
  REQUIRE(wake_one_waiter(&word));
  CHECK(queue.next().ret_flags == done);
  std::atomic_ref(word).store(3);
  REQUIRE(wake_one_waiter(&word));
  CHECK(queue.next().ret_flags == done);
  CHECK(queue.silent());
}

TEST_CASE("FUTEX: tokens never coalesce: as many events as waiters were woken") {
  word = 0;
  const event_queue queue;
  REQUIRE(queue.add(futex_event(&word, 0)) == 0);
  REQUIRE(wake_one_waiter(&word));
  long tokens = 1;
  std::size_t events = 0;
  for (int round = 0; round < 2'000; ++round) {
    const long woken = wake(&word, 1'000);
    REQUIRE(woken >= 0);
    tokens += woken;
    // Not after each wake: tokens are to pile up where they can.
    if (round % 3 == 0) events += queue.get(0, 64, no_wait).size();
  }
  for (std::size_t n = 1; n != 0; events += n) n = queue.get(1, 64, milliseconds(30)).size();
  CHECK(events == std::size_t(tokens));
}

TEST_CASE("FUTEX: tokens pile up while a thread sleeps in the queue for more of them") {
  word = 0;
  const event_queue queue;
  REQUIRE(queue.add(futex_event(&word, 0)) == 0);
  std::vector<ukevent> buffer(8);
  sleeping_call sleeper([&] { return ::kevent_get_events(queue.fd(), 3, 8, patience, buffer.data(), 0); });
  sleeper.wait_until_asleep();
  for (int token = 0; token < 3; ++token) REQUIRE(wake_one_waiter(&word));
  CHECK(sleeper.answer() == 3);
}

TEST_CASE("FUTEX: a wake that found no waiter is no token") {
  word = 0;
  const event_queue queue;
  CHECK(wake(&word) == 0);
  REQUIRE(queue.add(futex_event(&word, 0)) == 0);
  CHECK(queue.silent());
  CHECK(queue.remove(futex_event(&word, 0)).ret_flags == done);
  CHECK(nobody_waits(&word));
  CHECK(queue.silent(5));
}

TEST_CASE("FUTEX: of N queues that wait, k wakes reach exactly k (spec W8)") {
  word = 0;
  std::vector<event_queue> queues(6);
  for (const event_queue& queue : queues) REQUIRE(queue.add(futex_event(&word, 0)) == 0);
  auto collected = [&] {
    std::size_t count = 0;
    for (const event_queue& queue : queues) count += queue.get(1, 8, milliseconds(20)).size();
    return count;
  };
  for (int token = 0; token < 3; ++token) REQUIRE(wake_one_waiter(&word));
  CHECK(collected() == 3);
  CHECK(collected() == 0);
}

TEST_CASE("FUTEX: ONESHOT takes one token and is gone") {
  word = 0;
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(1)) == 0);
  REQUIRE(queue.add(futex_event(&word, 0, KEVENT_REQ_ONESHOT)) == 0);
  REQUIRE(wake_one_waiter(&word));
  CHECK(queue.next().ret_flags == done);
  CHECK(nobody_waits(&word));
  CHECK(queue.remove(futex_event(&word, 0)).ret_flags == done_and_broken);
}

TEST_CASE("FUTEX: several words are told apart, and MODIFY makes none of them ready") {
  alignas(4) static std::uint32_t words[3] = {};
  const event_queue queue;
  for (std::uint32_t& each : words) REQUIRE(queue.add(futex_event(&each, 0)) == 0);
  REQUIRE(queue.modify(futex_event(&words[0], 0)).ret_flags == done);
  CHECK(queue.silent(5));
  for (std::uint32_t& each : words) {
    REQUIRE(wake_one_waiter(&each));
    CHECK(queue.next().id.raw_u64 == reinterpret_cast<std::uintptr_t>(&each));
  }
}

TEST_CASE("FUTEX: a thread that changes the word and wakes is heard by a thread that sleeps") {
  word = 0;
  const event_queue queue;
  REQUIRE(queue.add(futex_event(&word, 0)) == 0);
  ukevent buffer{};
  sleeping_call sleeper([&] { return ::kevent_get_events(queue.fd(), 1, 1, patience, &buffer, 0); });
  sleeper.wait_until_asleep();
  std::atomic_ref(word).store(1);
  CHECK(wake_one_waiter(&word));
  CHECK(sleeper.answer() == 1);
  CHECK(buffer.type == KEVENT_FUTEX);
}

// Linux 6.16 gives a process a futex table of its own with its second thread, and forgets to move there what
// the ring waits for already.
TEST_CASE("FUTEX: what a process registered before its first thread is woken after it, too") {
  const child_end end = in_child([] {
    word = 0;
    const int queue = ::kevent_init(nullptr, 0, 0);
    ukevent event = futex_event(&word, 0);
    if (queue < 0 || ::kevent_ctl(queue, KEVENT_CTL_ADD, 1, &event) != 0) return 1;
    std::thread([] {}).join();
    if (!wake_one_waiter(&word)) return 2;
    if (::kevent_get_events(queue, 1, 1, patience, &event, 0) != 1) return 3;
    return ::kevent_close(queue) == 0 ? 0 : 4;
  });
  CHECK(end.exit_code == 0);
}

TEST_CASE("FUTEX: the end of the queue leaves no waiter behind") {
  word = 0;
  {
    const event_queue queue;
    REQUIRE(queue.add(futex_event(&word, 0)) == 0);
  }
  CHECK(nobody_waits(&word));
}
