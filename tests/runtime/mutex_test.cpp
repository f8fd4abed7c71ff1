#include <keel/runtime/mutex.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/scope.hpp>
#include <keel/runtime/when_any.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "support/death_test.hpp"
#include "support/line_model.hpp"
#include "support/sweep.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::mutex;
using keel::task;
using keel::test::in_runtime;
using keel::test::run_simulated;
using keel::test::some_turns;

static_assert(std::is_same_v<keel::await_result<mutex::lock_op>, keel::result<mutex::guard>>);
static_assert(!std::is_copy_constructible_v<mutex::guard> && !std::is_copy_constructible_v<mutex>);

namespace {

task<> note_when_locked(mutex& m, std::vector<int>& notes, int n) {
  const auto guard = co_await m.lock();
  if (!guard) co_return;
  notes.push_back(n);
  co_await some_turns(1);
}

struct mutex_subject {
  static std::size_t pick(std::mt19937_64&) { return 0; }
  std::unique_ptr<keel::test::any_wait> wait(std::size_t) {
    return std::make_unique<keel::test::hand_wait<mutex::lock_op>>(m.lock());
  }
  static void arrives(std::size_t) {}
  bool fits(std::size_t) const { return !locked; }
  void took(std::size_t) { locked = true; }
  void give_back(keel::test::any_wait& wait, std::size_t) {
    wait.drop();
    locked = false;
  }
  void other(std::mt19937_64&, bool) {
    REQUIRE(m.locked() == locked);
    const auto guard = m.try_lock();
    REQUIRE(static_cast<bool>(guard) == !locked);
  }

  mutex m;
  bool locked = false;
};

}  // namespace

TEST_CASE("mutex: one at a time, in the order in which they came") {
  in_runtime([]() -> task<> {
    mutex m;
    std::vector<int> notes;
    auto guard = co_await m.lock();
    REQUIRE(guard);
    CHECK(m.locked());
    for (int i = 0; i < 4; ++i) keel::spawn(note_when_locked, std::ref(m), std::ref(notes), i);
    co_await some_turns();
    CHECK(notes.empty());
    guard->unlock();
    CHECK(m.locked());
    co_await note_when_locked(m, notes, 4);
    CHECK(notes == std::vector<int>{0, 1, 2, 3, 4});
    CHECK(!m.locked());
  });
}

// H1, H12
TEST_CASE("mutex: who unlocks and locks in a loop does not take it from those who wait") {
  in_runtime([]() -> task<> {
    mutex m;
    std::vector<int> notes;
    auto guard = co_await m.lock();
    keel::spawn(note_when_locked, std::ref(m), std::ref(notes), 0);
    co_await some_turns();
    guard->unlock();
    CHECK(!m.try_lock());
    guard = co_await m.lock();
    CHECK(notes == std::vector<int>{0});
  });
}

// H1
TEST_CASE("mutex: a loop of locks that are free lets the others run") {
  in_runtime([]() -> task<> {
    mutex m;
    bool others_ran = false;
    auto other = [](bool& ran) -> task<> {
      ran = true;
      co_return;
    };
    keel::spawn(other, std::ref(others_ran));
    int locks = 0;
    for (; !others_ran && locks < 10'000; ++locks) {
      const auto guard = co_await m.lock();
      REQUIRE(guard);
    }
    CHECK(locks <= 200);
  });
}

TEST_CASE("mutex: a guard can be moved, unlocked early, and given to another task") {
  in_runtime([]() -> task<> {
    mutex m;
    mutex::guard first = m.try_lock();
    CHECK(first);
    CHECK(!m.try_lock());
    mutex::guard second = std::move(first);
    CHECK(!first);
    CHECK(second);
    auto holds = [](mutex::guard g) -> task<> {
      co_await some_turns(1);
      CHECK(g);
    };
    co_await holds(std::move(second));
    CHECK(!m.locked());
    second = m.try_lock();
    second = mutex::guard();
    CHECK(!m.locked());
    mutex other;
    second = m.try_lock();
    second = other.try_lock();
    CHECK(!m.locked());
    CHECK(other.locked());
    second.unlock();
    CHECK(!second);
    CHECK(!other.locked());
  });
}

TEST_CASE("mutex: an exception unlocks it") {
  in_runtime([]() -> task<> {
    mutex m;
    bool thrown = false;
    try {
      const auto guard = co_await m.lock();
      REQUIRE(guard);
      throw std::runtime_error("thrown");
    } catch (const std::runtime_error&) {
      thrown = true;
    }
    CHECK(thrown);
    CHECK(!m.locked());
  });
}

TEST_CASE("mutex: or_return yields the guard, and ends with the error") {
  run_simulated([]() -> task<> {
    mutex m;
    auto locks = [](mutex& wanted) -> task<keel::result<int>> {
      const auto guard = co_await keel::or_return(wanted.lock());
      CHECK(guard);
      co_return 1;
    };
    const auto locked = co_await locks(m);
    CHECK(locked);
    const mutex::guard held = m.try_lock();
    auto handle = keel::spawn(locks, std::ref(m));
    co_await some_turns();
    handle.request_stop();
    const auto stopped = co_await std::move(handle);
    CHECK(stopped.error() == errc::operation_canceled);
    CHECK(stopped.why().doing == std::string("lock a mutex"));
  }());
}

TEST_CASE("mutex: after a timeout, or in a lost when_any, it is not locked, and the next one gets it") {
  run_simulated([]() -> task<> {
    mutex m;
    mutex::guard held = m.try_lock();
    const auto late = co_await keel::with_timeout(1s, m.lock());
    CHECK(late.error() == errc::timed_out);
    std::vector<int> notes;
    keel::spawn(note_when_locked, std::ref(m), std::ref(notes), 1);
    const auto first = co_await keel::when_any(m.lock(), keel::sleep_for(1s));
    CHECK(first.index == 1);
    held.unlock();
    co_await some_turns();
    CHECK(notes == std::vector<int>{1});
    CHECK(!m.locked());
  }());
}

TEST_CASE("mutex: a when_any whose two locks are both granted gives both back") {
  run_simulated([]() -> task<> {
    mutex a;
    mutex b;
    {
      const auto first = co_await keel::when_any(a.lock(), b.lock());
      CHECK(first.index == 0);
      CHECK(a.locked());
      CHECK(b.locked());
    }
    CHECK(!a.locked());
    CHECK(!b.locked());
  }());
}

TEST_CASE("mutex: its name is what a task is said to wait for") {
  run_simulated([]() -> task<> {
    mutex m("the cache");
    const mutex::guard held = m.try_lock();
    keel::test::hand_wait wait(m.lock());
    wait.start();
    CHECK(keel::scheduler::current()->root().waits_for == std::string("the cache"));
    wait.stop();
    co_await some_turns();
  }());
}

TEST_CASE("mutex: it must not go while it is locked, and a guard unlocks once") {
  CHECK_DEATH(
      [] {
        mutex::guard held;
        const mutex m;
        held = const_cast<mutex&>(m).try_lock();
      }(),
      "a mutex was destroyed while it is locked: its guard has to go before");
  CHECK_DEATH(
      [] {
        mutex m;
        mutex::guard held = m.try_lock();
        held.unlock();
        held.unlock();
      }(),
      "this guard holds no mutex");
}

TEST_CASE("mutex: random locks, stops and unlocks end as the reference says") {
  keel::test::check_line<mutex_subject>();
}

// H12
TEST_CASE("mutex: random tasks with timeouts: never two at once, and nobody is forgotten") {
  struct shared {
    mutex m;
    std::mt19937_64 random;
    int inside = 0;
    int locked = 0;
    int timed_out = 0;
  };
  auto worker = [](shared& s) -> task<> {
    for (int i = 0; i < 50; ++i) {
      const auto patience = std::chrono::microseconds(s.random() % 2000);
      const auto guard = co_await keel::with_timeout(patience, s.m.lock());
      if (!guard) {
        ++s.timed_out;
        continue;
      }
      REQUIRE(++s.inside == 1);
      ++s.locked;
      if (s.random() % 2 == 0) co_await keel::test::pause(std::chrono::microseconds(s.random() % 200));
      --s.inside;
    }
  };
  const std::uint64_t seed = keel::test::chosen_seed();
  INFO("KEEL_SEED=", seed);
  run_simulated([](auto& work, std::uint64_t own_seed) -> task<> {
    shared s;
    s.random.seed(own_seed);
    auto body = [&work, &s](keel::scope& children) -> task<> {
      for (int i = 0; i < 20; ++i) children.spawn(work, std::ref(s));
      co_return;
    };
    co_await keel::scope(body);
    CHECK(s.locked + s.timed_out == 20 * 50);
    CHECK(s.locked > 50);
    CHECK(s.timed_out > 50);
    CHECK(!s.m.locked());
  }(worker, seed));
}

TEST_CASE("mutex: those who hold it and wait for it can be stopped at every point") {
  auto locker = [](mutex& m) -> task<> {
    for (int i = 0; i < 3; ++i) {
      const auto guard = co_await m.lock();
      if (!guard) co_return;
      const auto slept = co_await keel::sleep_for(1ms);
      if (!slept) co_return;
    }
  };
  const unsigned runs = keel::test::sweep([locker](keel::runtime& rt) {
    auto m = std::make_unique<mutex>();
    for (int i = 0; i < 3; ++i) rt.spawn(locker, std::ref(*m));
    return m;
  });
  CHECK(runs > 5);
}
