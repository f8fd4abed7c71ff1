#include <keel/kevent_sys/futex_waits.hpp>

#include <doctest/doctest.h>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <deque>
#include <thread>
#include <vector>

#include "support/recorded_operation.hpp"
#include "support/skip.hpp"

using keel::kevent_sys::futex_waits;
using keel::kevent_sys::opcode;
using keel::kevent_sys::operation;
using keel::kevent_sys::request;

namespace {

using word = std::atomic<std::uint32_t>;

request waiting_for(word& w, std::uint32_t value) {
  return {.code = opcode::futex, .data = &w, .offset = value};
}

long wake(word& w, int count = 1) {
  return ::syscall(SYS_futex, &w, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

void no_completion(operation&, keel::kevent_sys::answer) noexcept {}

// Counts what it is told, and is told by a bell that can be waited for.
struct waits {
  static void ring(void* self) noexcept {
    auto& me = *static_cast<waits*>(self);
    me.rings.fetch_add(1);
    me.rings.notify_all();
  }
  void collect() {
    futexes.collect([&](operation& op) { woken.push_back(&op); });
  }
  bool collect_until(std::size_t count) {
    while (woken.size() < count) {
      const int heard = rings.load();
      collect();
      if (woken.size() >= count) break;
      rings.wait(heard);
    }
    return woken.size() == count;
  }

  std::atomic<int> rings{0};
  std::vector<operation*> woken;
  futex_waits futexes{&ring, this};
};

bool can_wait() {
  waits w;
  word here{1};
  operation op(waiting_for(here, 2), &no_completion);
  if (w.futexes.add(op) != -ENOSYS) return true;
  keel::test::skip("this kernel has no futex_waitv");
  return false;
}

}  // namespace

TEST_CASE("futex_waits: words that hold something else, or are none, are answered at once") {
  if (!can_wait()) return;
  waits w;
  word here{7};
  operation other_value(waiting_for(here, 8), &no_completion);
  CHECK(w.futexes.add(other_value) == -EAGAIN);
  operation nowhere({.code = opcode::futex, .data = nullptr, .offset = 0}, &no_completion);
  CHECK(w.futexes.add(nowhere) == -EFAULT);
  alignas(4) std::array<char, 8> bytes{};
  operation crooked({.code = opcode::futex, .data = bytes.data() + 1, .offset = 0}, &no_completion);
  CHECK(w.futexes.add(crooked) == -EINVAL);
  w.collect();
  CHECK(w.woken.empty());
}

TEST_CASE("futex_waits: a wake-up, and a word that changes, are told once") {
  if (!can_wait()) return;
  waits w;
  word here{7};
  operation op(waiting_for(here, 7), &no_completion);
  for (std::size_t round = 1; round <= 100; ++round) {
    REQUIRE(w.futexes.add(op) == -EINPROGRESS);
    if (round % 2 == 0) {
      while (wake(here) == 0) std::this_thread::yield();
    } else {
      here.store(8);
      wake(here);
    }
    REQUIRE(w.collect_until(round));
    CHECK(!w.futexes.remove(op));
    here.store(7);
  }
}

TEST_CASE("futex_waits: of those that wait for one word, a wake-up for one wakes one") {
  if (!can_wait()) return;
  waits w;
  word here{7};
  operation a(waiting_for(here, 7), &no_completion);
  operation b(waiting_for(here, 7), &no_completion);
  REQUIRE(w.futexes.add(a) == -EINPROGRESS);
  REQUIRE(w.futexes.add(b) == -EINPROGRESS);
  while (wake(here) == 0) std::this_thread::yield();
  REQUIRE(w.collect_until(1));
  CHECK(w.woken[0] == &a);
  CHECK(w.futexes.remove(b));
}

TEST_CASE("futex_waits: who is removed is not woken, and the others still are") {
  if (!can_wait()) return;
  waits w;
  std::deque<word> words;
  std::deque<operation> ops;
  for (std::uint32_t i = 0; i < futex_waits::futexes_max; ++i) {
    word& here = words.emplace_back(i);
    REQUIRE(w.futexes.add(ops.emplace_back(waiting_for(here, i), &no_completion)) == -EINPROGRESS);
  }
  word one_more{0};
  operation too_many(waiting_for(one_more, 0), &no_completion);
  CHECK(w.futexes.add(too_many) == -ENOSPC);
  for (std::size_t i = 0; i < ops.size(); i += 2) CHECK(w.futexes.remove(ops[i]));
  for (word& here : words) {
    here.fetch_add(1'000);
    wake(here);
  }
  REQUIRE(w.collect_until(ops.size() / 2));
  for (operation* op : w.woken) CHECK(op->asked.offset % 2 == 1);
  w.collect();
  CHECK(w.woken.size() == ops.size() / 2);
}

TEST_CASE("futex_waits: a thousand changes by another thread are all seen") {
  if (!can_wait()) return;
  waits w;
  word here{0};
  std::thread other([&] {
    for (std::uint32_t i = 1; i <= 1'000; ++i) {
      while (here.load() != 2 * i - 2) std::this_thread::yield();
      here.store(2 * i - 1);
      wake(here);
    }
  });
  operation* none = nullptr;
  for (std::uint32_t i = 1; i <= 1'000; ++i) {
    operation op(waiting_for(here, 2 * i - 2), &no_completion);
    const int value = w.futexes.add(op);
    if (value == -EINPROGRESS) {
      REQUIRE(w.collect_until(1));
      CHECK(w.woken[0] == &op);
    } else {
      CHECK(value == -EAGAIN);
    }
    w.woken.assign(0, none);
    here.store(2 * i);
  }
  other.join();
}

// C2: else a wake-up for one of several is lost, for the next one hears nothing of it.
TEST_CASE("futex_waits: who is removed has swallowed no wake-up that somebody was told of") {
  if (!can_wait()) return;
  constexpr int rounds = 1'000;
  waits w;
  word here{7};
  std::atomic<int> begun{0};
  std::atomic<int> ended{0};
  long told = 0;
  std::thread waker([&] {
    for (int round = 1; round <= rounds; ++round) {
      while (begun.load() != round) std::this_thread::yield();
      told = wake(here);
      ended.store(round);
    }
  });
  operation op(waiting_for(here, 7), &no_completion);
  int swallowed = 0;
  for (int round = 1; round <= rounds; ++round) {
    REQUIRE(w.futexes.add(op) == -EINPROGRESS);
    begun.store(round);
    const bool removed = w.futexes.remove(op);
    while (ended.load() != round) std::this_thread::yield();
    if (removed) {
      swallowed += told == 0 ? 0 : 1;
    } else {
      CHECK(told == 1);
      REQUIRE(w.collect_until(1));
      w.woken.clear();
    }
  }
  waker.join();
  CHECK(swallowed == 0);
}
