#include <keel/runtime/semaphore.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/scope.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "support/death_test.hpp"
#include "support/line_model.hpp"
#include "support/sweep.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::semaphore;
using keel::task;
using keel::test::hand_wait;
using keel::test::in_runtime;
using keel::test::run_simulated;
using keel::test::some_turns;

static_assert(std::is_same_v<keel::await_result<semaphore::acquire_op>, keel::result<void>>);
static_assert(std::is_same_v<keel::await_result<semaphore::hold_op>, keel::result<semaphore::permit>>);

namespace {

// A weight is how many permits; the odd ones are held by an object.
struct semaphore_subject {
  static std::size_t pick(std::mt19937_64& random) { return random() % 5; }
  std::unique_ptr<keel::test::any_wait> wait(std::size_t weight) {
    if (weight % 2 == 0) return std::make_unique<hand_wait<semaphore::acquire_op>>(s.acquire(weight));
    return std::make_unique<hand_wait<semaphore::hold_op>>(s.hold(weight));
  }
  static void arrives(std::size_t) {}
  bool fits(std::size_t weight) const { return weight <= available; }
  void took(std::size_t weight) { available -= weight; }
  void give_back(keel::test::any_wait& wait, std::size_t weight) {
    wait.drop();
    if (weight % 2 == 0) s.release(weight);
    available += weight;
  }
  void other(std::mt19937_64& random, bool nobody_waits) {
    REQUIRE(s.available() == available);
    const std::size_t weight = random() % 5;
    const bool acquired = s.try_acquire(weight);
    REQUIRE(acquired == (nobody_waits && fits(weight)));
    if (acquired) s.release(weight);
  }

  semaphore s{6};
  std::size_t available = 6;
};

}  // namespace

TEST_CASE("semaphore: so many at once, and the others one after the other") {
  run_simulated([]() -> task<> {
    struct shared {
      semaphore s{3};
      int inside = 0;
      int most = 0;
    } all;
    auto worker = [](shared& a) -> task<> {
      const auto permit = co_await a.s.hold();
      CHECK(permit);
      a.most = std::max(a.most, ++a.inside);
      co_await keel::test::pause(1ms);
      --a.inside;
    };
    auto body = [&worker, &all](keel::scope& children) -> task<> {
      for (int i = 0; i < 10; ++i) children.spawn(worker, std::ref(all));
      co_return;
    };
    const auto before = keel::test::now();
    co_await keel::scope(body);
    CHECK(all.most == 3);
    CHECK(all.s.available() == 3);
    CHECK(keel::test::now() - before >= 4ms);
    CHECK(keel::test::now() - before < 5ms);
  }());
}

TEST_CASE("semaphore: who wants many is not overtaken by those who want few") {
  run_simulated([]() -> task<> {
    semaphore s(2);
    hand_wait many(s.acquire(3));
    hand_wait few(s.acquire(1));
    many.start();
    few.start();
    CHECK(!s.try_acquire(1));
    CHECK(s.available() == 2);
    co_await some_turns();
    CHECK(!few.done());
    s.release(1);
    co_await some_turns();
    CHECK(many.granted());
    CHECK(!few.done());
    s.release(1);
    co_await some_turns();
    CHECK(few.granted());
  }());
}

// H12
TEST_CASE("semaphore: when who wants many is stopped, those behind get what there is") {
  run_simulated([]() -> task<> {
    semaphore s(2);
    hand_wait many(s.acquire(3));
    hand_wait few(s.acquire(1));
    hand_wait other(s.acquire(1));
    hand_wait last(s.acquire(1));
    many.start();
    few.start();
    other.start();
    last.start();
    many.stop();
    co_await some_turns();
    CHECK(many.canceled());
    CHECK(few.granted());
    CHECK(other.granted());
    CHECK(!last.done());
    s.release();
    co_await some_turns();
    CHECK(last.granted());
  }());
}

TEST_CASE("semaphore: one release may be enough for several") {
  run_simulated([]() -> task<> {
    semaphore s(0);
    hand_wait a(s.acquire(2));
    hand_wait b(s.acquire(3));
    hand_wait c(s.acquire(1));
    a.start();
    b.start();
    c.start();
    s.release(5);
    CHECK(s.available() == 0);
    co_await some_turns();
    CHECK(a.granted());
    CHECK(b.granted());
    CHECK(!c.done());
    c.stop();
    co_await some_turns();
    CHECK(c.canceled());
    CHECK(s.available() == 0);
  }());
}

TEST_CASE("semaphore: nothing is had at once, but not before those who wait") {
  run_simulated([]() -> task<> {
    semaphore s(0);
    hand_wait nothing(s.acquire(0));
    nothing.start();
    CHECK(nothing.granted());
    hand_wait one(s.acquire(1));
    hand_wait behind(s.acquire(0));
    one.start();
    behind.start();
    CHECK(!behind.done());
    s.release();
    co_await some_turns();
    CHECK(one.granted());
    CHECK(behind.granted());
  }());
}

TEST_CASE("semaphore: a permit releases what it holds, once") {
  in_runtime([]() -> task<> {
    semaphore s(5);
    {
      auto first = co_await s.hold(2);
      REQUIRE(first);
      CHECK(first->count() == 2);
      semaphore::permit second = *std::move(first);
      CHECK(!*first);
      CHECK(s.available() == 3);
      auto third = co_await s.hold(3);
      second = *std::move(third);
      CHECK(s.available() == 2);
      CHECK(second.count() == 3);
      second.release();
      CHECK(s.available() == 5);
      second.release();
      CHECK(second.count() == 0);
    }
    CHECK(s.available() == 5);
  });
}

TEST_CASE("semaphore: a wait that timed out has taken nothing") {
  run_simulated([]() -> task<> {
    semaphore s(1);
    const auto late = co_await keel::with_timeout(1s, s.hold(2));
    CHECK(late.error() == errc::timed_out);
    CHECK(s.available() == 1);
    const auto in_time = co_await keel::with_timeout(1s, s.hold(1));
    CHECK(in_time);
  }());
}

// H1
TEST_CASE("semaphore: a loop of permits that are there lets the others run") {
  in_runtime([]() -> task<> {
    semaphore s(1);
    bool others_ran = false;
    auto other = [](bool& ran) -> task<> {
      ran = true;
      co_return;
    };
    keel::spawn(other, std::ref(others_ran));
    int permits = 0;
    for (; !others_ran && permits < 10'000; ++permits) {
      const auto permit = co_await s.hold();
      REQUIRE(permit);
    }
    CHECK(permits <= 200);
  });
}

TEST_CASE("semaphore: more permits than can be counted are refused") {
  CHECK_DEATH(semaphore(semaphore::permits_max + 1), "so many permits cannot be counted");
  CHECK_DEATH(
      [] {
        semaphore s(semaphore::permits_max);
        s.release();
      }(),
      "more permits than can be counted");
}

TEST_CASE("semaphore: random acquires, stops and releases end as the reference says") {
  keel::test::check_line<semaphore_subject>();
}

TEST_CASE("semaphore: those who hold permits and wait for them can be stopped at every point") {
  auto worker = [](semaphore& s, std::size_t count) -> task<> {
    for (int i = 0; i < 3; ++i) {
      const auto permit = co_await s.hold(count);
      if (!permit) co_return;
      const auto slept = co_await keel::sleep_for(1ms);
      if (!slept) co_return;
    }
  };
  const unsigned runs = keel::test::sweep([worker](keel::runtime& rt) {
    auto s = std::make_unique<semaphore>(3U);
    for (std::size_t i = 0; i < 4; ++i) rt.spawn(worker, std::ref(*s), 1 + i % 3);
    return s;
  });
  CHECK(runs > 5);
}
