#include <keel/kevent_sys/adaptive_spin.hpp>

#include <doctest/doctest.h>
#include <keel/kevent_sys/queue.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <thread>

#include "support/engines.hpp"
#include "support/fd_pairs.hpp"
#include "support/recorded_operation.hpp"

using keel::kevent_sys::adaptive_spin;
using keel::kevent_sys::opcode;
using keel::kevent_sys::queue;
using keel::kevent_sys::queue_options;
using keel::test::fd_pair;
using keel::test::missing;
using keel::test::on_epoll;
using keel::test::on_uring;
using keel::test::recorded;
using keel::test::turn_until;

namespace {

// How many of `waits` waits spin, when `pays` says of each spin what it comes to.
template <class Pays>
int attempts(adaptive_spin& spin, int waits, Pays pays) {
  int count = 0;
  for (int i = 0; i < waits; ++i) {
    if (!spin.worth_trying()) continue;
    if (pays(count++)) {
      spin.answered();
    } else {
      spin.in_vain();
    }
  }
  return count;
}

bool always(int) {
  return true;
}
bool never(int) {
  return false;
}

template <class Engine>
queue_options spinning(std::uint32_t spin_ns) {
  return Engine::options({.spin_ns = spin_ns});
}

constexpr std::uint32_t second = 1'000'000'000;

}  // namespace

TEST_CASE("adaptive_spin: while spins are answered, every wait spins") {
  adaptive_spin spin;
  CHECK(attempts(spin, 10'000, always) == 10'000);
  CHECK(attempts(spin, 10'000, [](int i) { return i % 4 != 0; }) == 10'000);
}

TEST_CASE("adaptive_spin: spins that never pay become rare") {
  adaptive_spin spin;
  CHECK(attempts(spin, 1'000, never) <= 12);
  CHECK(attempts(spin, 100'000, never) <= 20);
  CHECK(attempts(spin, 1'000'000, never) <= 1'000'000 / int(adaptive_spin::pause_max) + 1);
}

TEST_CASE("adaptive_spin: it comes back when the times are better, and gives up again faster than it began") {
  adaptive_spin spin;
  attempts(spin, 1'000'000, never);
  CHECK(attempts(spin, 20'000, always) >= 20'000 - int(adaptive_spin::pause_max));
  CHECK(attempts(spin, 1'000, never) <= 16);
  adaptive_spin doubtful;
  // One in two is not enough.
  CHECK(attempts(doubtful, 10'000, [](int i) { return i % 2 == 0; }) < 2'000);
}

TEST_CASE_TEMPLATE("engine: without spin_ns nothing spins", Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  q.wait(q.fresh_now_ns() + 1'000'000);
  CHECK(q.counters().spins == 0);
  CHECK(q.counters().spun_ns == 0);
}

TEST_CASE_TEMPLATE("engine: a wait that is answered while it spins does not sleep", Engine, on_uring,
                   on_epoll) {
  if (missing<Engine>()) return;
  queue q(spinning<Engine>(4 * second));
  fd_pair pair = keel::test::unix_pair();
  std::array<char, 16> buffer{};
  recorded op({.code = opcode::recv, .fd = pair.ours.get(), .size_bytes = 16, .data = buffer.data()});
  std::atomic<int> round{0};
  std::thread peer([&] {
    for (int i = 1; i <= 100; ++i) {
      while (round.load() < i) std::this_thread::yield();
      pair.put("x");
    }
  });
  for (int i = 1; i <= 100; ++i) {
    q.submit(op);
    q.wait(0);
    round.store(i);
    REQUIRE(turn_until(q, [&] { return op.answers.size() == std::size_t(i); }));
  }
  peer.join();
  CHECK(q.counters().spins > 0);
  CHECK(q.counters().waits == 0);
  CHECK(q.counters().spun_ns > 0);
}

TEST_CASE_TEMPLATE("engine: what was submitted is handed over before a spin, not after it", Engine, on_uring,
                   on_epoll) {
  if (missing<Engine>()) return;
  queue q(spinning<Engine>(4 * second));
  recorded op({.code = opcode::nop});
  q.submit(op);
  CHECK(q.wait(q.fresh_now_ns() + second) == 1);
  q.consume();
  CHECK(op.ended());
  CHECK(q.counters().spun_ns == 0);
}

TEST_CASE_TEMPLATE("engine: a spin ends at the deadline, and a spin in vain ends in sleep", Engine, on_uring,
                   on_epoll) {
  if (missing<Engine>()) return;
  // Somebody else may have this CPU until the deadline has passed: then the next try counts.
  queue q(spinning<Engine>(4 * second));
  for (int attempt = 0; attempt < 1'000 && q.counters().spun_ns < 1'000'000; ++attempt) {
    const std::uint64_t deadline = q.fresh_now_ns() + 2'000'000;
    q.wait(deadline);
    CHECK(q.now_ns() >= deadline);
  }
  CHECK(q.counters().spun_ns >= 1'000'000);
  CHECK(q.counters().waits == 0);

  queue brief(spinning<Engine>(1'000));
  for (int attempt = 0; attempt < 1'000 && brief.counters().waits == 0; ++attempt)
    brief.wait(brief.fresh_now_ns() + 2'000'000);
  CHECK(brief.counters().waits == 1);
  CHECK(brief.counters().spins == 0);
  CHECK(brief.counters().spun_ns >= 1'000);
}
