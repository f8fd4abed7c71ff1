// Receives into pool buffers against the real kernel: shortage, growth, leases, and life without provided
// buffers.

#include <doctest/doctest.h>
#include <keel/kevent_sys/queue.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/engines.hpp"
#include "support/fd_pairs.hpp"
#include "support/recorded_operation.hpp"

using keel::kevent_sys::answer;
using keel::kevent_sys::buffer_lease;
using keel::kevent_sys::engine_options;
using keel::kevent_sys::opcode;
using keel::kevent_sys::operation;
using keel::kevent_sys::queue;
using keel::kevent_sys::queue_options;
using keel::test::answer_of;
using keel::test::fd_pair;
using keel::test::missing;
using keel::test::on_epoll;
using keel::test::on_uring;
using keel::test::recorded;
using keel::test::turn_until;
using keel::test::unix_pair;

namespace {

// The ways of io_uring to receive: with buffers that the kernel chooses, and with a poll and a call. For
// epoll they are one.
constexpr bool ways[] = {true, false};

engine_options pool_of(std::uint32_t buffers, std::uint32_t limit, bool provided,
                       std::uint32_t bytes = 4096) {
  return {.buffers = buffers, .buffers_limit = limit, .buffer_bytes = bytes, .provided_buffers = provided};
}

// Collects what arrives on a descriptor, armed again as long as it goes on. May keep its leases.
struct stream : operation {
  stream(queue& its_queue, fd_pair its_pair)
      : operation({.code = opcode::receive, .multishot = true, .fd = its_pair.ours.get()}, &note),
        q(its_queue),
        pair(std::move(its_pair)) {}

  static void note(operation& self, answer a) noexcept {
    auto& me = static_cast<stream&>(self);
    if (a.has_buffer()) {
      buffer_lease lease(me.q.buffers(), a.buffer(), std::uint32_t(a.value));
      me.text += lease.text();
      if (me.keeps) me.kept.push_back(std::move(lease));
    }
    if (a.more()) return;
    me.last = a.value;
    if (a.value > 0) me.q.submit(me);
  }
  void start() { q.submit(*this); }
  void stop() {
    q.cancel(*this);
    REQUIRE(turn_until(q, [&] { return !in_flight(); }));
  }

  queue& q;
  fd_pair pair;
  std::string text;
  bool keeps = false;
  std::vector<buffer_lease> kept;
  int last = 1;
};

}  // namespace

TEST_CASE_TEMPLATE("E1: engine: 64 streams share 4 buffers: all bytes arrive, in order, and nothing spins",
                   Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  constexpr int streams_count = 64;
  constexpr int rounds = 50;
  for (const bool provided : ways) {
    CAPTURE(provided);
    queue q(Engine::options(pool_of(4, 4, provided)));
    std::deque<stream> streams;
    for (int i = 0; i < streams_count; ++i) streams.emplace_back(q, unix_pair()).start();
    std::string expected;
    for (int round = 0; round < rounds; ++round) {
      const std::string chunk = "chunk " + std::to_string(round) + std::string(1000, char('a' + round % 26));
      expected += chunk;
      for (stream& s : streams) s.pair.put(chunk);
      REQUIRE(turn_until(q, [&] {
        for (const stream& s : streams)
          if (s.text.size() < expected.size()) return false;
        return true;
      }));
    }
    for (stream& s : streams) {
      CHECK(s.text == expected);
      s.pair.theirs.reset();
    }
    REQUIRE(turn_until(q, [&] { return q.in_flight() == 0; }));
    for (const stream& s : streams) CHECK(s.last == 0);
    CHECK(q.counters().starved > 0);
    CHECK(q.buffers().size() == 4);
    CHECK(q.buffers().away() == 0);
    // Each round moves 64 chunks through 4 buffers: 16 turns, and some for those that came in vain.
    CHECK(q.counters().enters < rounds * streams_count * 2);
  }
}

TEST_CASE_TEMPLATE(
    "E5: engine: with all buffers in a reader's hands the queue sleeps, and goes on with the first one back",
    Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  for (const bool provided : ways) {
    CAPTURE(provided);
    queue q(Engine::options(pool_of(2, 2, provided)));
    stream hoarder(q, unix_pair());
    hoarder.keeps = true;
    stream other(q, unix_pair());
    hoarder.start();
    for (int i = 0; i < 2; ++i) {
      hoarder.pair.put("mine");
      REQUIRE(turn_until(q, [&] { return hoarder.kept.size() == std::size_t(i) + 1; }));
    }
    other.start();
    other.pair.put("please");
    q.wait(0);
    q.consume();
    q.wait(0);
    q.consume();
    CHECK(other.text.empty());

    const std::uint64_t enters = q.counters().enters;
    q.wait(q.fresh_now_ns() + 20'000'000);
    q.consume();
    CHECK(q.counters().enters <= enters + 1);
    CHECK(other.text.empty());

    hoarder.kept.pop_back();
    REQUIRE(turn_until(q, [&] { return other.text == "please"; }));
    hoarder.kept.clear();
    hoarder.stop();
    other.stop();
  }
}

TEST_CASE_TEMPLATE("engine: a buffer that another thread gives back wakes a queue that sleeps for want of it",
                   Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  for (const bool provided : ways) {
    CAPTURE(provided);
    queue q(Engine::options(pool_of(1, 1, provided)));
    recorded wake({.code = opcode::wake, .multishot = true});
    q.submit(wake);
    stream s(q, unix_pair());
    s.keeps = true;
    s.start();
    s.pair.put("one");
    REQUIRE(turn_until(q, [&] { return s.kept.size() == 1; }));
    s.pair.put("two");
    q.wait(0);
    q.consume();
    q.wait(0);
    q.consume();
    std::thread reader([lease = std::move(s.kept.back())]() mutable { lease.reset(); });
    s.kept.clear();
    REQUIRE(turn_until(q, [&] { return s.text == "onetwo"; }));
    reader.join();
    s.kept.clear();
    s.stop();
    q.cancel(wake);
    REQUIRE(turn_until(q, [&] { return q.in_flight() == 0; }));
  }
}

TEST_CASE_TEMPLATE("engine: the pool grows as far as its limit when readers hold many, even from nothing",
                   Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  for (const bool provided : ways) {
    for (const std::uint32_t start : {0u, 2u}) {
      CAPTURE(provided);
      CAPTURE(start);
      queue q(Engine::options(pool_of(start, 16, provided)));
      std::deque<stream> streams;
      for (int i = 0; i < 20; ++i) {
        stream& s = streams.emplace_back(q, unix_pair());
        s.keeps = true;
        s.start();
        s.pair.put("held");
      }
      const auto held = [&] {
        std::size_t count = 0;
        for (const stream& s : streams) count += s.kept.size();
        return count;
      };
      REQUIRE(turn_until(q, [&] { return held() == 16; }));
      q.wait(0);
      q.consume();
      CHECK(q.buffers().size() == 16);
      CHECK(q.buffers().away() == 16);
      for (stream& s : streams) s.kept.clear();
      REQUIRE(turn_until(q, [&] {
        for (const stream& s : streams)
          if (s.text != "held") return false;
        return true;
      }));
      for (stream& s : streams) s.stop();
    }
  }
}

TEST_CASE_TEMPLATE("engine: a receive that waits for a buffer can be cancelled, and the next one still works",
                   Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  for (const bool provided : ways) {
    CAPTURE(provided);
    queue q(Engine::options(pool_of(1, 1, provided)));
    fd_pair a = unix_pair();
    fd_pair b = unix_pair();
    a.put("a");
    b.put("b");
    recorded first({.code = opcode::receive, .fd = a.ours.get()});
    CHECK(answer_of(q, first) == 1);
    recorded second({.code = opcode::receive, .fd = b.ours.get()});
    q.submit(second);
    for (int i = 0; i < 3; ++i) {
      q.wait(0);
      q.consume();
    }
    CHECK(q.counters().starved == 1);
    q.cancel(second);
    REQUIRE(turn_until(q, [&] { return second.ended(); }));
    CHECK(second.value() == -ECANCELED);

    q.buffers().give_back(first.answers[0].buffer());
    CHECK(answer_of(q, second) == 1);
    q.buffers().give_back(second.answers.back().buffer());
  }
}

TEST_CASE_TEMPLATE(
    "engine: a receive that finds no buffer while it is cancelled was cancelled, it did not fail", Engine,
    on_uring, on_epoll) {
  if (missing<Engine>()) return;
  queue_options options = Engine::options(pool_of(1, 1, true));
  options.ring_events = 2;
  queue q(options);
  fd_pair pair = unix_pair();
  pair.put("takes the only buffer");
  recorded first({.code = opcode::receive, .fd = pair.ours.get()});
  REQUIRE(answer_of(q, first) > 0);

  recorded second({.code = opcode::receive, .multishot = true, .fd = pair.ours.get()});
  q.submit(second);
  q.wait(0);
  pair.put("finds none");
  // The ring is full: the answers behind it stay with the kernel until there is room.
  recorded nops[] = {recorded({.code = opcode::nop}), recorded({.code = opcode::nop})};
  for (recorded& nop : nops) q.submit(nop);
  CHECK(q.wait(0) == 2);
  q.wait(0);
  q.cancel(second);
  REQUIRE(turn_until(q, [&] { return second.ended(); }));
  CHECK(second.value() == -ECANCELED);
  q.buffers().give_back(first.answers[0].buffer());
}

TEST_CASE_TEMPLATE("E2: engine: the end of a stream and errors use up no buffer", Engine, on_uring,
                   on_epoll) {
  if (missing<Engine>()) return;
  for (const bool provided : ways) {
    CAPTURE(provided);
    queue q(Engine::options(pool_of(2, 2, provided)));
    for (int i = 0; i < 50; ++i) {
      stream s(q, i % 2 == 0 ? unix_pair() : keel::test::tcp_pair());
      s.start();
      s.pair.put("x");
      REQUIRE(turn_until(q, [&] { return s.text == "x"; }));
      if (i % 3 == 0) {
        s.stop();
      } else if (i % 3 == 1) {
        s.pair.theirs.reset();
      } else {
        s.pair.reset_peer();
      }
      REQUIRE(turn_until(q, [&] { return !s.in_flight(); }));
      REQUIRE(q.buffers().away() == 0);
    }
    CHECK(q.counters().starved == 0);
  }
}

TEST_CASE_TEMPLATE("engine: a message larger than a buffer comes in pieces", Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  for (const bool provided : ways) {
    CAPTURE(provided);
    queue q(Engine::options(pool_of(2, 8, provided, 64)));
    stream s(q, unix_pair());
    s.start();
    const std::string text(10'000, 'x');
    s.pair.put(text);
    REQUIRE(turn_until(q, [&] { return s.text.size() >= text.size(); }));
    CHECK(s.text == text);
    s.stop();
  }
}

TEST_CASE_TEMPLATE("engine: leases outlive the queue, and end in any thread", Engine, on_uring, on_epoll) {
  if (missing<Engine>()) return;
  for (const bool provided : ways) {
    CAPTURE(provided);
    std::vector<buffer_lease> kept;
    {
      queue q(Engine::options(pool_of(4, 4, provided)));
      stream s(q, unix_pair());
      s.keeps = true;
      s.start();
      for (const char* text : {"one", "two", "three"}) {
        s.pair.put(text);
        const std::size_t before = s.kept.size();
        REQUIRE(turn_until(q, [&] { return s.kept.size() > before; }));
      }
      s.stop();
      kept = std::move(s.kept);
    }
    REQUIRE(kept.size() == 3);
    CHECK(kept[0].text() == "one");
    CHECK(kept[2].text() == "three");
    std::thread([lease = std::move(kept[1])]() mutable { CHECK(lease.text() == "two"); }).join();
    kept.clear();
  }
}
