// Engines of queues that several threads share: what a lock around each call but block() has to give.

#include <doctest/doctest.h>
#include <keel/kevent_sys/engine.hpp>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <mutex>
#include <thread>

#include "support/engines.hpp"
#include "support/fd_pairs.hpp"
#include "support/recorded_operation.hpp"

using keel::kevent_sys::answer;
using keel::kevent_sys::engine;
using keel::kevent_sys::engine_choice;
using keel::kevent_sys::event_sink;
using keel::kevent_sys::never;
using keel::kevent_sys::opcode;
using keel::test::fd_pair;
using keel::test::missing;
using keel::test::on_epoll;
using keel::test::on_uring;
using keel::test::recorded;
using keel::test::unix_pair;

namespace {

constexpr std::uint64_t second_ns = 1'000'000'000;

// An engine, and what a queue does around it.
struct shared {
  explicit shared(engine_choice choice) {
    auto made = keel::kevent_sys::make_engine(
        sink, {.choice = choice, .completions = 64, .buffers = 0, .shared = true});
    REQUIRE(made);
    used = *made;
  }
  ~shared() {
    for (recorded* op : running) used->cancel(*op);
    while (used->in_flight() != 0) collect(true);
    delete used;
  }
  void start(recorded& op) {
    const std::lock_guard lock(mutex);
    running.push_back(&op);
    used->submit(op);
    used->poll(0);
    consume();
  }
  void collect(bool may_sleep = false) {
    if (may_sleep) used->block(used->now_ns() + second_ns);
    const std::lock_guard lock(mutex);
    used->poll(0);
    consume();
  }
  bool collect_until(const recorded& op, std::size_t answers) {
    const std::uint64_t limit_ns = used->now_ns() + 20 * second_ns;
    while (op.answers.size() < answers) {
      if (used->now_ns() > limit_ns) return false;
      collect(true);
    }
    return true;
  }
  void consume() {
    while (sink.waiting() > 0) sink.consume_one();
  }
  bool readable() const {
    pollfd at{used->fd(), POLLIN, 0};
    return ::poll(&at, 1, 0) == 1;
  }

  std::mutex mutex;
  event_sink sink{64};
  engine* used = nullptr;
  std::vector<recorded*> running;
};

}  // namespace

TEST_CASE_TEMPLATE("shared engine: what one thread submits, another collects", Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  const fd_pair pair = unix_pair();
  recorded op({.code = opcode::poll, .multishot = true, .fd = pair.ours.get(), .flags = POLLIN});
  shared s(Engine::choice);
  std::thread([&] { s.start(op); }).join();
  CHECK(!s.readable());

  REQUIRE(::send(pair.theirs.get(), "x", 1, 0) == 1);

  CHECK(s.collect_until(op, 1));
  CHECK(op.answers[0].value == POLLIN);
  CHECK(op.answers[0].more());
}

TEST_CASE_TEMPLATE("C10: shared engine: a receive goes on when the thread that submitted it has exited",
                   Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  const fd_pair pair = unix_pair();
  std::array<char, 8> buffer{};
  recorded op({.code = opcode::recv, .fd = pair.ours.get(), .size_bytes = 8, .data = buffer.data()});
  shared s(Engine::choice);
  std::thread([&] { s.start(op); }).join();
  s.collect();
  CHECK(op.answers.empty());

  REQUIRE(::send(pair.theirs.get(), "hello", 5, 0) == 5);

  CHECK(s.collect_until(op, 1));
  CHECK(op.value() == 5);
}

TEST_CASE_TEMPLATE("shared engine: ring() makes the descriptor readable until the next poll", Engine,
                   on_uring, on_epoll) {
  if (missing<Engine>()) return;
  shared s(Engine::choice);
  CHECK(!s.readable());
  s.used->ring();
  s.used->ring();
  CHECK(s.readable());
  s.used->block(never);
  CHECK(s.readable());
  s.collect();
  CHECK(!s.readable());
}

TEST_CASE_TEMPLATE("shared engine: ring() ends the sleep of another thread", Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  shared s(Engine::choice);
  std::thread sleeper([&] { s.used->block(never); });
  {
    const std::lock_guard lock(s.mutex);
    s.used->ring();
  }
  sleeper.join();
  s.collect();
}

TEST_CASE_TEMPLATE("shared engine: the alarm makes the descriptor readable, not early", Engine, on_uring,
                   on_epoll) {
  if (missing<Engine>()) return;
  shared s(Engine::choice);
  const std::uint64_t start_ns = s.used->now_ns();
  s.used->set_alarm(start_ns + 30'000'000);
  CHECK(!s.readable());
  pollfd at{s.used->fd(), POLLIN, 0};
  REQUIRE(::poll(&at, 1, 20'000) == 1);
  CHECK(s.used->now_ns() >= start_ns + 30'000'000);
  s.collect();
  CHECK(!s.readable());
}

TEST_CASE_TEMPLATE("shared engine: an alarm moved forward comes at the new time", Engine, on_uring,
                   on_epoll) {
  if (missing<Engine>()) return;
  shared s(Engine::choice);
  const std::uint64_t start_ns = s.used->now_ns();
  s.used->set_alarm(start_ns + 3600 * second_ns);
  s.used->set_alarm(start_ns + 10'000'000);
  s.used->block(start_ns + 60 * second_ns);
  CHECK(s.readable());
  CHECK(s.used->now_ns() >= start_ns + 10'000'000);
  CHECK(s.used->now_ns() < start_ns + 50 * second_ns);
  s.collect();
}

TEST_CASE_TEMPLATE("shared engine: a block ends at its deadline", Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  shared s(Engine::choice);
  const std::uint64_t start_ns = s.used->now_ns();
  s.used->block(start_ns + 5'000'000);
  CHECK(s.used->now_ns() >= start_ns + 5'000'000);
  s.used->block(1);
}
