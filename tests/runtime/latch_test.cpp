#include <keel/runtime/latch.hpp>

#include <keel/runtime/run.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "support/death_test.hpp"
#include "support/line_model.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::latch;
using keel::task;
using keel::test::hand_wait;
using keel::test::in_runtime;
using keel::test::run_simulated;
using keel::test::some_turns;

namespace {

// A weight of 1 arrives before it waits.
struct latch_subject {
  std::size_t pick(std::mt19937_64& random) const { return count > 1 && random() % 8 == 0 ? 1 : 0; }
  std::unique_ptr<keel::test::any_wait> wait(std::size_t weight) {
    return std::make_unique<hand_wait<latch::wait_op>>(weight == 1 ? l.arrive_and_wait() : l.wait());
  }
  void arrives(std::size_t weight) { count -= weight; }
  bool fits(std::size_t) const { return count == 0; }
  static void took(std::size_t) {}
  static void give_back(keel::test::any_wait&, std::size_t) {}
  void other(std::mt19937_64& random, bool) {
    REQUIRE(l.count() == count);
    REQUIRE(l.is_open() == (count == 0));
    if (count == 0) return;
    const std::size_t by = random() % 2;
    l.count_down(by);
    count -= by;
  }

  latch l{100};
  std::size_t count = 100;
};

}  // namespace

TEST_CASE("latch: it opens at zero, for those who wait and those who come, and stays open") {
  in_runtime([]() -> task<> {
    latch l(3);
    std::vector<int> notes;
    auto waits = [](latch& wanted, std::vector<int>& seen, int n) -> task<> {
      const auto opened = co_await wanted.wait();
      if (opened) seen.push_back(n);
    };
    for (int i = 0; i < 3; ++i) keel::spawn(waits, std::ref(l), std::ref(notes), i);
    co_await some_turns();
    l.count_down();
    CHECK(l.count() == 2);
    co_await some_turns();
    CHECK(notes.empty());
    l.count_down(2);
    CHECK(l.is_open());
    co_await some_turns();
    CHECK(notes == std::vector<int>{0, 1, 2});
    co_await waits(l, notes, 3);
    CHECK(notes == std::vector<int>{0, 1, 2, 3});
  });
}

TEST_CASE("latch: made for nothing it is open") {
  in_runtime([]() -> task<> {
    latch l(0);
    l.count_down(0);
    const auto opened = co_await l.wait();
    CHECK(opened);
  });
}

TEST_CASE("latch: the last who arrives does not wait, and the others go on") {
  run_simulated([]() -> task<> {
    latch l(3);
    hand_wait first(l.arrive_and_wait());
    hand_wait second(l.arrive_and_wait());
    first.start();
    second.start();
    CHECK(l.count() == 1);
    const auto opened = co_await l.arrive_and_wait();
    CHECK(opened);
    co_await some_turns();
    CHECK(first.granted());
    CHECK(second.granted());
  }());
}

TEST_CASE("latch: who is stopped, before its wait or during it, has arrived all the same") {
  run_simulated([]() -> task<> {
    latch l(3);
    hand_wait before(l.arrive_and_wait());
    hand_wait during(l.arrive_and_wait());
    before.stop();
    before.start();
    CHECK(before.canceled());
    CHECK(l.count() == 2);
    during.start();
    during.stop();
    co_await some_turns();
    CHECK(during.canceled());
    CHECK(l.count() == 1);
    hand_wait last(l.arrive_and_wait());
    last.stop();
    last.start();
    CHECK(last.granted());
  }());
}

TEST_CASE("latch: an arrival that nobody awaits is none") {
  latch l(1);
  static_cast<void>(l.arrive_and_wait());
  CHECK(l.count() == 1);
}

TEST_CASE("latch: a timeout ends the wait") {
  run_simulated([]() -> task<> {
    latch l(1);
    const auto late = co_await keel::with_timeout(1s, l.wait());
    CHECK(late.error() == errc::timed_out);
    l.count_down();
  }());
}

TEST_CASE("latch: it may go as soon as it is open") {
  in_runtime([]() -> task<> {
    auto l = std::make_unique<latch>(1U);
    bool opened = false;
    auto waits = [](latch& wanted, bool& seen) -> task<> {
      const auto ended = co_await wanted.wait();
      seen = ended.has_value();
    };
    keel::spawn(waits, std::ref(*l), std::ref(opened));
    co_await some_turns();
    l->count_down();
    l.reset();
    co_await some_turns();
    CHECK(opened);
  });
}

TEST_CASE("latch: it is not counted down below zero") {
  CHECK_DEATH(latch(1).count_down(2), "a latch is counted down more often than it was made for");
}

TEST_CASE("latch: random waits, arrivals and stops end as the reference says") {
  keel::test::check_line<latch_subject>(20, 2000);
}
