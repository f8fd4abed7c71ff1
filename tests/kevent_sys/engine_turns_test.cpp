// The turns of an engine: bursts, sleeping and waking, signals, threads, fork.

#include <doctest/doctest.h>
#include <keel/kevent_sys/queue.hpp>

#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <optional>
#include <thread>
#include <vector>

#include "support/build.hpp"
#include "support/burst.hpp"
#include "support/death_test.hpp"
#include "support/descriptors.hpp"
#include "support/engines.hpp"
#include "support/fd_pairs.hpp"
#include "support/in_child.hpp"
#include "support/recorded_operation.hpp"

using keel::kevent_sys::answer;
using keel::kevent_sys::engine_options;
using keel::kevent_sys::never;
using keel::kevent_sys::opcode;
using keel::kevent_sys::operation;
using keel::kevent_sys::queue;
using keel::kevent_sys::queue_options;
using keel::kevent_sys::timer;
using keel::test::answer_of;
using keel::test::burst;
using keel::test::fd_pair;
using keel::test::missing;
using keel::test::on_epoll;
using keel::test::on_uring;
using keel::test::recorded;
using keel::test::turn_until;
using keel::test::unix_pair;

namespace {

template <class Engine>
queue_options small(std::uint32_t ring_events) {
  queue_options options = Engine::options({.entries = 64});
  options.ring_events = ring_events;
  return options;
}

struct pinged {
  explicit pinged(queue& its_queue, int fd)
      : q(its_queue), op({.code = opcode::recv, .fd = fd, .size_bytes = 16, .data = buffer.data()}) {}
  bool once(const fd_pair& pair) {
    op.answers.clear();
    q.submit(op);
    q.wait(0);
    q.consume();
    pair.put("ping");
    return turn_until(q, [&] { return op.ended(); }) && op.value() == 4;
  }
  queue& q;
  std::array<char, 16> buffer{};
  recorded op;
};

void check_stopped(queue& q, recorded& op) {
  q.cancel(op);
  REQUIRE(turn_until(q, [&] { return !op.in_flight(); }));
}

}  // namespace

TEST_CASE_TEMPLATE("B1: engine: bursts far beyond all queues: everything is answered once, in order", Engine,
                   on_uring, on_epoll) {
  if (missing<Engine>()) return;
  for (const std::uint32_t ring_events : {16u, 1024u}) {
    queue q(small<Engine>(ring_events));
    for (const std::size_t count : {65u, 1'000u, 10'000u}) {
      const burst all(q, count);
      REQUIRE(turn_until(q, [&] { return all.done(); }));
      CHECK(all.in_order());
      CHECK(q.idle());
    }
    CHECK(q.counters().submitted == 11'065);
  }
}

TEST_CASE_TEMPLATE("B1: engine: what is submitted before the first turn waits for it, even a burst", Engine,
                   on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(small<Engine>(1024));
  const burst all(q, 500);
  CHECK(q.counters().enters == 0);
  REQUIRE(turn_until(q, [&] { return all.done(); }));
  CHECK(all.in_order());
}

TEST_CASE_TEMPLATE("engine: a burst that is cancelled before the first turn ends without the kernel", Engine,
                   on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(small<Engine>(16));
  fd_pair pair = unix_pair();
  std::array<char, 1> byte{};
  std::deque<recorded> ops;
  for (int i = 0; i < 200; ++i) {
    q.submit(ops.emplace_back(keel::kevent_sys::request{
        .code = opcode::recv, .fd = pair.ours.get(), .size_bytes = 1, .data = byte.data()}));
  }
  for (recorded& op : ops) q.cancel(op);
  REQUIRE(turn_until(q, [&] { return q.idle(); }));
  for (const recorded& op : ops) CHECK(op.value() == -ECANCELED);
}

TEST_CASE_TEMPLATE("B9: engine: turns that never sleep still see what arrives", Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  fd_pair pair = unix_pair();
  std::array<char, 16> buffer{};
  recorded op({.code = opcode::recv, .fd = pair.ours.get(), .size_bytes = 16, .data = buffer.data()});
  for (int round = 0; round < 100; ++round) {
    q.submit(op);
    q.wait(0);
    q.consume();
    pair.put("x");
    for (int turn = 0; turn < 3 && op.in_flight(); ++turn) {
      q.wait(0);
      q.consume();
    }
    REQUIRE(op.value() == 1);
  }
}

TEST_CASE_TEMPLATE("B10: engine: a hundred answers at once arrive within a few turns", Engine, on_uring,
                   on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  std::deque<fd_pair> pairs;
  std::deque<std::array<char, 16>> buffers;
  std::deque<recorded> ops;
  for (int i = 0; i < 100; ++i) {
    const fd_pair& pair = pairs.emplace_back(unix_pair());
    q.submit(ops.emplace_back(keel::kevent_sys::request{.code = opcode::recv,
                                                        .fd = pair.ours.get(),
                                                        .size_bytes = 16,
                                                        .data = buffers.emplace_back().data()}));
  }
  q.wait(0);
  for (const fd_pair& pair : pairs) pair.put("x");
  int turns = 0;
  for (; q.in_flight() > 0 && turns < 20; ++turns) {
    q.wait(q.fresh_now_ns() + 1'000'000'000);
    q.consume();
  }
  CHECK(turns <= 12);
  for (const recorded& op : ops) CHECK(op.value() == 1);
}

TEST_CASE_TEMPLATE("B4 I7: engine: signals by the thousand disturb neither answers nor timers", Engine,
                   on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  fd_pair pair = unix_pair();
  struct sigaction act {};
  struct sigaction before {};
  static std::atomic<int> signals;
  signals = 0;
  act.sa_handler = [](int) { signals.fetch_add(1, std::memory_order_relaxed); };
  ::sigaction(SIGALRM, &act, &before);
  const itimerval storm{{0, 100}, {0, 100}};
  ::setitimer(ITIMER_REAL, &storm, nullptr);

  pinged ping(q, pair.ours.get());
  timer t([](operation&, answer) noexcept {});
  for (int round = 0; round < 200; ++round) {
    CHECK(ping.once(pair));
    const std::uint64_t due = q.fresh_now_ns() + 1'000'000;
    q.arm_at(t, due);
    REQUIRE(turn_until(q, [&] { return !t.in_flight(); }));
    CHECK(q.now_ns() >= due);
  }

  const itimerval calm{};
  ::setitimer(ITIMER_REAL, &calm, nullptr);
  ::sigaction(SIGALRM, &before, nullptr);
  CHECK(signals.load() > 100);
}

TEST_CASE_TEMPLATE("B11: engine: a wake from another thread is never lost", Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  constexpr std::uint32_t rounds = keel::test::sanitized ? 20'000 : 100'000;
  queue q(Engine::options());
  recorded wake({.code = opcode::wake, .multishot = true});
  q.submit(wake);
  std::atomic<std::uint32_t> posted{0};
  std::atomic<std::uint32_t> seen{0};
  std::atomic<bool> failed{false};
  std::thread other([&] {
    for (std::uint32_t i = 1; i <= rounds && !failed; ++i) {
      posted.store(i);
      q.wake();
      while (seen.load() < i && !failed) std::this_thread::yield();
    }
  });
  std::uint32_t last = 0;
  while (last < rounds && !failed) {
    const std::uint64_t limit = q.fresh_now_ns() + 5'000'000'000;
    q.wait(limit);
    q.consume();
    // In one turn of a thousand it does not sleep.
    if (last % 1000 == 0) q.wait(0);
    wake.answers.clear();
    failed = q.now_ns() >= limit;
    last = posted.load();
    seen.store(last);
  }
  other.join();
  CHECK_FALSE(failed);
  CHECK(wake.in_flight());
  check_stopped(q, wake);
}

TEST_CASE_TEMPLATE(
    "engine: a wake before the wait ends it at once, and a wake operation can be stopped and submitted again",
    Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  recorded wake({.code = opcode::wake, .multishot = true});
  for (int round = 0; round < 3; ++round) {
    q.submit(wake);
    q.wait(0);
    q.consume();
    wake.answers.clear();
    q.wake();
    const std::uint64_t limit = q.fresh_now_ns() + 5'000'000'000;
    q.wait(limit);
    CHECK(q.now_ns() < limit);
    q.consume();
    CHECK(wake.answers.size() == 1);
    check_stopped(q, wake);
  }
}

TEST_CASE_TEMPLATE(
    "engine: the queue's descriptor is readable when there is something to collect, and only then", Engine,
    on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  fd_pair pair = unix_pair();
  std::array<char, 16> buffer{};
  recorded op({.code = opcode::recv, .fd = pair.ours.get(), .size_bytes = 16, .data = buffer.data()});
  q.submit(op);
  q.wait(0);
  queue watcher(Engine::options());
  recorded readable({.code = opcode::poll, .fd = q.fd(), .flags = 1});
  watcher.submit(readable);
  watcher.wait(0);
  watcher.consume();
  CHECK(readable.in_flight());
  pair.put("x");
  REQUIRE(turn_until(watcher, [&] { return readable.ended(); }));
  CHECK(op.in_flight());
  q.wait(0);
  q.consume();
  CHECK(op.value() == 1);
}

TEST_CASE_TEMPLATE("engine: a queue may be made on one thread, used on another and destroyed on a third",
                   Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue here(Engine::options());
  CHECK(answer_of(here, {.code = opcode::nop}) == 0);
  std::optional<queue> other(std::in_place, Engine::options());
  fd_pair pair = unix_pair();
  std::thread([&] {
    pinged ping(*other, pair.ours.get());
    for (int i = 0; i < 10; ++i) CHECK(ping.once(pair));
  }).join();
  std::thread([&] { other.reset(); }).join();
  // The rings of this thread are as they were.
  CHECK(answer_of(here, {.code = opcode::nop}) == 0);
  other.emplace(Engine::options());
  std::thread([&] { answer_of(*other, {.code = opcode::nop}); }).join();
  other.reset();
  CHECK(answer_of(here, {.code = opcode::nop}) == 0);
}

TEST_CASE_TEMPLATE("D7: engine: every descriptor of a queue is CLOEXEC, and none is left behind", Engine,
                   on_uring, on_epoll) {
  if (missing<Engine>()) return;
  const std::size_t before = keel::test::open_descriptors();
  bool inherited[64];
  for (int fd = 0; fd < 64; ++fd) inherited[fd] = keel::test::is_open(fd);
  for (const bool provided : {true, false}) {
    queue q(Engine::options({.provided_buffers = provided}));
    CHECK(answer_of(q, {.code = opcode::nop}) == 0);
    CHECK(keel::test::open_descriptors() > before);
    for (int fd = 0; fd < 64; ++fd)
      if (keel::test::is_open(fd) && !inherited[fd]) CHECK(keel::test::is_close_on_exec(fd));
  }
  CHECK(keel::test::open_descriptors() == before);
}

TEST_CASE_TEMPLATE(
    "I3: engine: a forked child ends in peace, can have queues of its own, and leaves its parent's alone",
    Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue q(Engine::options());
  fd_pair pair = unix_pair();
  std::array<char, 16> buffer{};
  recorded op({.code = opcode::recv, .fd = pair.ours.get(), .size_bytes = 16, .data = buffer.data()});
  q.submit(op);
  recorded unsubmitted({.code = opcode::nop});
  q.wait(0);
  q.submit(unsubmitted);

  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::signal(SIGABRT, SIG_DFL);
    queue own(Engine::options());
    recorded nop({.code = opcode::nop});
    own.submit(nop);
    own.wait(own.fresh_now_ns() + 1'000'000'000);
    own.consume();
    ::_exit(nop.ended() ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);

  pair.put("still here");
  REQUIRE(turn_until(q, [&] { return op.ended() && unsubmitted.ended(); }));
  CHECK(op.value() == 10);
}

TEST_CASE_TEMPLATE("I6: engine: a process may end by exit() while a queue and its operations live", Engine,
                   on_uring, on_epoll) {
  if (missing<Engine>()) return;
  const auto child = keel::test::in_child([] {
    static queue* q = new queue(Engine::options());
    static recorded* wake = new recorded({.code = opcode::wake, .multishot = true});
    q->submit(*wake);
    q->wait(0);
    std::exit(0);
    return 1;
  });
  CHECK(child.exit_code == 0);
}
