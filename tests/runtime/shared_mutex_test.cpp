#include <keel/runtime/shared_mutex.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/scope.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "support/death_test.hpp"
#include "support/line_model.hpp"
#include "support/sweep.hpp"

using namespace std::chrono_literals;
using keel::shared_mutex;
using keel::task;
using keel::test::hand_wait;
using keel::test::in_runtime;
using keel::test::run_simulated;
using keel::test::some_turns;

namespace {

constexpr std::size_t reads = 0;
constexpr std::size_t writes = 1;

struct shared_mutex_subject {
  static std::size_t pick(std::mt19937_64& random) { return random() % 3 == 0 ? writes : reads; }
  std::unique_ptr<keel::test::any_wait> wait(std::size_t weight) {
    if (weight == reads) return std::make_unique<hand_wait<shared_mutex::lock_shared_op>>(m.lock_shared());
    return std::make_unique<hand_wait<shared_mutex::lock_op>>(m.lock());
  }
  static void arrives(std::size_t) {}
  bool fits(std::size_t weight) const { return !writer && (weight == reads || readers == 0); }
  void took(std::size_t weight) {
    if (weight == reads) {
      ++readers;
    } else {
      writer = true;
    }
  }
  void give_back(keel::test::any_wait& wait, std::size_t weight) {
    wait.drop();
    if (weight == reads) {
      --readers;
    } else {
      writer = false;
    }
  }
  void other(std::mt19937_64& random, bool nobody_waits) {
    REQUIRE(m.readers() == readers);
    REQUIRE(m.locked() == writer);
    if (random() % 2 == 0) {
      const auto guard = m.try_lock();
      REQUIRE(static_cast<bool>(guard) == (nobody_waits && fits(writes)));
    } else {
      const auto guard = m.try_lock_shared();
      REQUIRE(static_cast<bool>(guard) == (nobody_waits && fits(reads)));
    }
  }

  shared_mutex m;
  std::size_t readers = 0;
  bool writer = false;
};

}  // namespace

TEST_CASE("shared_mutex: readers share it, a writer has it alone") {
  run_simulated([]() -> task<> {
    shared_mutex m;
    auto first = co_await m.lock_shared();
    auto second = co_await m.lock_shared();
    REQUIRE(first);
    REQUIRE(second);
    CHECK(m.readers() == 2);
    hand_wait writer(m.lock());
    writer.start();
    first->unlock();
    co_await some_turns();
    CHECK(!writer.done());
    second->unlock();
    co_await some_turns();
    CHECK(writer.granted());
    CHECK(m.locked());
    CHECK(!m.try_lock());
    CHECK(!m.try_lock_shared());
    writer.drop();
    CHECK(!m.locked());
  }());
}

// H1
TEST_CASE("shared_mutex: a reader that comes while a writer waits stands behind it") {
  run_simulated([]() -> task<> {
    shared_mutex m;
    auto first = m.try_lock_shared();
    hand_wait writer(m.lock());
    hand_wait reader(m.lock_shared());
    writer.start();
    reader.start();
    CHECK(!m.try_lock_shared());
    co_await some_turns();
    CHECK(!reader.done());
    first.unlock();
    co_await some_turns();
    CHECK(writer.granted());
    CHECK(!reader.done());
    writer.drop();
    co_await some_turns();
    CHECK(reader.granted());
  }());
}

TEST_CASE("shared_mutex: readers next to one another in line are let in together, up to the next writer") {
  run_simulated([]() -> task<> {
    shared_mutex m;
    auto held = m.try_lock();
    hand_wait a(m.lock_shared());
    hand_wait b(m.lock_shared());
    hand_wait writer(m.lock());
    hand_wait c(m.lock_shared());
    a.start();
    b.start();
    writer.start();
    c.start();
    held.unlock();
    CHECK(m.readers() == 2);
    co_await some_turns();
    CHECK(a.granted());
    CHECK(b.granted());
    CHECK(!writer.done());
    CHECK(!c.done());
    a.drop();
    b.drop();
    co_await some_turns();
    CHECK(writer.granted());
    CHECK(!c.done());
    writer.drop();
    co_await some_turns();
    CHECK(c.granted());
  }());
}

// H12
TEST_CASE("shared_mutex: when a writer is stopped, the readers behind it join those who are in") {
  run_simulated([]() -> task<> {
    shared_mutex m;
    auto held = m.try_lock_shared();
    hand_wait writer(m.lock());
    hand_wait a(m.lock_shared());
    hand_wait b(m.lock_shared());
    writer.start();
    a.start();
    b.start();
    writer.stop();
    CHECK(m.readers() == 3);
    co_await some_turns();
    CHECK(writer.canceled());
    CHECK(a.granted());
    CHECK(b.granted());
  }());
}

TEST_CASE("shared_mutex: with readers and writers all the time, each gets its turns") {
  run_simulated([]() -> task<> {
    struct shared {
      shared_mutex m;
      int readers = 0;
      int writers = 0;
      int read = 0;
      int written = 0;
      bool over = false;
    } all;
    auto reader = [](shared& s) -> task<> {
      while (!s.over) {
        const auto guard = co_await s.m.lock_shared();
        ++s.readers;
        REQUIRE(s.writers == 0);
        co_await keel::test::pause(1ms);
        --s.readers;
        ++s.read;
      }
    };
    auto writer = [](shared& s) -> task<> {
      while (!s.over) {
        const auto guard = co_await s.m.lock();
        REQUIRE(++s.writers == 1);
        REQUIRE(s.readers == 0);
        co_await keel::test::pause(1ms);
        --s.writers;
        ++s.written;
      }
    };
    auto body = [&](keel::scope& children) -> task<> {
      for (int i = 0; i < 4; ++i) children.spawn(reader, std::ref(all));
      for (int i = 0; i < 2; ++i) children.spawn(writer, std::ref(all));
      co_await keel::test::pause(1s);
      all.over = true;
    };
    co_await keel::scope(body);
    CHECK(all.read > 200);
    CHECK(all.written > 200);
  }());
}

TEST_CASE("shared_mutex: guards can be moved, and unlocked early") {
  in_runtime([]() -> task<> {
    shared_mutex m;
    auto first = co_await m.lock_shared();
    REQUIRE(first);
    shared_mutex::shared_guard second = *std::move(first);
    CHECK(!*first);
    CHECK(m.readers() == 1);
    second = shared_mutex::shared_guard();
    CHECK(m.readers() == 0);
    shared_mutex::guard third = m.try_lock();
    shared_mutex::guard fourth = std::move(third);
    CHECK(!third);
    fourth.unlock();
    CHECK(!m.locked());
  });
}

TEST_CASE("shared_mutex: it must not go while it is locked, and a guard unlocks once") {
  CHECK_DEATH(
      [] {
        shared_mutex::shared_guard held;
        shared_mutex m;
        held = m.try_lock_shared();
      }(),
      "a shared mutex was destroyed while it is locked: its guards have to go before");
  CHECK_DEATH(
      [] {
        shared_mutex m;
        auto held = m.try_lock();
        held.unlock();
        held.unlock();
      }(),
      "this guard holds no mutex");
}

TEST_CASE("shared_mutex: random locks of both kinds, stops and unlocks end as the reference says") {
  keel::test::check_line<shared_mutex_subject>();
}

TEST_CASE("shared_mutex: readers and writers can be stopped at every point") {
  auto reader = [](shared_mutex& m) -> task<> {
    for (int i = 0; i < 3; ++i) {
      const auto guard = co_await m.lock_shared();
      if (!guard) co_return;
      const auto slept = co_await keel::sleep_for(1ms);
      if (!slept) co_return;
    }
  };
  auto writer = [](shared_mutex& m) -> task<> {
    for (int i = 0; i < 2; ++i) {
      const auto guard = co_await m.lock();
      if (!guard) co_return;
      const auto slept = co_await keel::sleep_for(1ms);
      if (!slept) co_return;
    }
  };
  const unsigned runs = keel::test::sweep([reader, writer](keel::runtime& rt) {
    auto m = std::make_unique<shared_mutex>();
    rt.spawn(reader, std::ref(*m));
    rt.spawn(writer, std::ref(*m));
    rt.spawn(reader, std::ref(*m));
    rt.spawn(writer, std::ref(*m));
    return m;
  });
  CHECK(runs > 5);
}
