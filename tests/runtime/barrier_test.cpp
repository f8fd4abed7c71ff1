#include <keel/runtime/barrier.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/scope.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "support/death_test.hpp"
#include "support/hand_wait.hpp"
#include "support/in_runtime.hpp"
#include "support/seed.hpp"
#include "support/sweep.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::barrier;
using keel::errc;
using keel::task;
using keel::test::hand_wait;
using keel::test::in_runtime;
using keel::test::run_simulated;
using keel::test::some_turns;

using arrival = hand_wait<barrier::wait_op>;

TEST_CASE("barrier: all go on when the last has arrived, phase after phase") {
  in_runtime([]() -> task<> {
    struct shared {
      barrier b{3};
      std::vector<int> phases;
    } all;
    auto participant = [](shared& s) -> task<> {
      for (int phase = 0; phase < 4; ++phase) {
        s.phases.push_back(phase);
        const auto ended = co_await s.b.arrive_and_wait();
        CHECK(ended);
      }
    };
    auto body = [&](keel::scope& children) -> task<> {
      for (int i = 0; i < 3; ++i) children.spawn(participant, std::ref(all));
      co_return;
    };
    co_await keel::scope(body);
    CHECK(all.phases == std::vector<int>{0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3});
    CHECK(all.b.phase() == 4);
    CHECK(all.b.missing() == 3);
  });
}

TEST_CASE("barrier: its function is called once per phase, before anybody goes on") {
  run_simulated([]() -> task<> {
    std::vector<std::string> notes;
    auto note = [&notes] { notes.emplace_back("phase"); };
    barrier b(2, note, "a named barrier");
    arrival first(b.arrive_and_wait());
    first.start();
    CHECK(keel::scheduler::current()->root().waits_for == std::string("a named barrier"));
    CHECK(notes.empty());
    const auto ended = co_await b.arrive_and_wait();
    CHECK(ended);
    notes.emplace_back("last");
    co_await some_turns();
    CHECK(first.granted());
    CHECK(notes == std::vector<std::string>{"phase", "last"});
    b.arrive_and_drop();
    b.arrive_and_drop();
    CHECK(notes.size() == 3);
  }());
}

TEST_CASE("barrier: for one it is always open, and a loop lets the others run") {
  in_runtime([]() -> task<> {
    barrier b(1);
    bool others_ran = false;
    auto other = [](bool& ran) -> task<> {
      ran = true;
      co_return;
    };
    keel::spawn(other, std::ref(others_ran));
    while (!others_ran && b.phase() < 10'000) {
      const auto ended = co_await b.arrive_and_wait();
      REQUIRE(ended);
    }
    CHECK(b.phase() <= 200);
  });
}

TEST_CASE("barrier: a stopped wait takes its arrival back, and the phase waits for another") {
  run_simulated([]() -> task<> {
    barrier b(2);
    arrival stopped(b.arrive_and_wait());
    stopped.start();
    CHECK(b.missing() == 1);
    stopped.stop();
    CHECK(b.missing() == 2);
    arrival first(b.arrive_and_wait());
    first.start();
    co_await some_turns();
    CHECK(stopped.canceled());
    CHECK(!first.done());
    arrival second(b.arrive_and_wait());
    second.start();
    co_await some_turns();
    CHECK(first.granted());
    CHECK(second.granted());
  }());
}

TEST_CASE("barrier: after a timeout one may arrive again") {
  run_simulated([]() -> task<> {
    barrier b(2);
    const auto late = co_await keel::with_timeout(1s, b.arrive_and_wait());
    CHECK(late.error() == errc::timed_out);
    arrival other(b.arrive_and_wait());
    other.start();
    const auto in_time = co_await keel::with_timeout(1s, b.arrive_and_wait());
    CHECK(in_time);
    co_await some_turns();
    CHECK(other.granted());
  }());
}

TEST_CASE("barrier: who was stopped before arrives only if it ends the phase") {
  run_simulated([]() -> task<> {
    barrier b(2);
    arrival first(b.arrive_and_wait());
    first.stop();
    first.start();
    CHECK(first.canceled());
    CHECK(b.missing() == 2);
    arrival second(b.arrive_and_wait());
    second.start();
    arrival last(b.arrive_and_wait());
    last.stop();
    last.start();
    CHECK(last.granted());
    co_await some_turns();
    CHECK(second.granted());
  }());
}

TEST_CASE("barrier: who drops out may end the phase, and is not missed in the next") {
  run_simulated([]() -> task<> {
    barrier b(3);
    arrival first(b.arrive_and_wait());
    arrival second(b.arrive_and_wait());
    first.start();
    second.start();
    b.arrive_and_drop();
    CHECK(b.phase() == 1);
    CHECK(b.participants() == 2);
    CHECK(b.missing() == 2);
    co_await some_turns();
    CHECK(first.granted());
    CHECK(second.granted());
  }());
}

TEST_CASE("barrier: a participant that drops out when it is stopped holds nobody up") {
  run_simulated([]() -> task<> {
    barrier b(3);
    auto participant = [](barrier& with, int& phases) -> task<> {
      for (;;) {
        const auto ended = co_await with.arrive_and_wait();
        if (!ended) break;
        ++phases;
        const auto slept = co_await keel::sleep_for(1ms);
        if (!slept) break;
      }
      with.arrive_and_drop();
    };
    int phases[3] = {};
    auto first = keel::spawn(participant, std::ref(b), std::ref(phases[0]));
    auto second = keel::spawn(participant, std::ref(b), std::ref(phases[1]));
    auto third = keel::spawn(participant, std::ref(b), std::ref(phases[2]));
    co_await keel::test::pause(10ms);
    third.request_stop();
    co_await keel::test::pause(10ms);
    CHECK(phases[0] > phases[2] + 5);
    CHECK(b.participants() == 2);
    first.request_stop();
    second.request_stop();
    co_await std::move(first);
    co_await std::move(second);
    co_await std::move(third);
    CHECK(b.participants() == 0);
  }());
}

TEST_CASE("barrier: more arrivals, or more who leave, than take part are the caller's bug") {
  CHECK_DEATH(barrier(0).arrive_and_drop(), "more tasks leave a barrier than it was made for");
  CHECK_DEATH(run_simulated([]() -> task<> {
                barrier b(1);
                b.arrive_and_drop();
                static_cast<void>(co_await b.arrive_and_wait());
              }()),
              "more tasks arrive at a barrier than it was made for");
}

namespace {

// Random arrivals, stops and drops; who should have gone on is counted beside.
task<std::uint64_t> play_phases(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::size_t participants = 8;
  barrier b(participants);
  std::vector<std::unique_ptr<arrival>> waiting;  // in this phase
  std::vector<std::unique_ptr<arrival>> released;
  std::vector<std::unique_ptr<arrival>> stopped;
  std::uint64_t phase = 0;
  auto end_phase = [&] {
    ++phase;
    for (auto& wait : waiting) released.push_back(std::move(wait));
    waiting.clear();
  };
  for (int i = 0; i < 2000; ++i) {
    const bool is_last = waiting.size() + 1 == participants;
    switch (random() % 8) {
      default: {
        auto wait = std::make_unique<arrival>(b.arrive_and_wait());
        const bool before = random() % 8 == 0;
        if (before) wait->stop();
        wait->start();
        (before && !is_last ? stopped : waiting).push_back(std::move(wait));
        if (is_last) end_phase();
        break;
      }
      case 0:
      case 1:
        if (waiting.empty()) break;
        waiting.back()->stop();
        stopped.push_back(std::move(waiting.back()));
        waiting.pop_back();
        break;
      case 2:
        if (!released.empty()) released[random() % released.size()]->stop();
        break;
      case 3:
        if (participants == 1 || random() % 32 != 0) break;
        b.arrive_and_drop();
        --participants;
        if (is_last) end_phase();
        break;
      case 4:
        co_await some_turns(2);
        for (auto& wait : released) REQUIRE(wait->granted());
        for (auto& wait : stopped) REQUIRE(wait->canceled());
        for (auto& wait : waiting) REQUIRE(!wait->done());
        released.clear();
        stopped.clear();
        break;
    }
    REQUIRE(b.phase() == phase);
    REQUIRE(b.participants() == participants);
    REQUIRE(b.missing() == participants - waiting.size());
  }
  for (auto& wait : waiting) wait->stop();
  co_await some_turns(2);
  co_return phase;
}

}  // namespace

TEST_CASE("barrier: random arrivals, stops and drops end as counting says") {
  const std::uint64_t seed = keel::test::chosen_seed();
  INFO("KEEL_SEED=", seed);
  std::uint64_t phases = 0;
  for (std::uint64_t i = 0; i < 20; ++i) phases += run_simulated(play_phases(seed + i));
  CHECK(phases > 20);
}

TEST_CASE("barrier: participants can be stopped at every point") {
  auto participant = [](barrier& b) -> task<> {
    for (int i = 0; i < 3; ++i) {
      const auto ended = co_await b.arrive_and_wait();
      if (!ended) co_return;
      const auto slept = co_await keel::sleep_for(1ms);
      if (!slept) co_return;
    }
  };
  const unsigned runs = keel::test::sweep([participant](keel::runtime& rt) {
    auto b = std::make_unique<barrier>(3U);
    for (int i = 0; i < 3; ++i) rt.spawn(participant, std::ref(*b));
    return b;
  });
  CHECK(runs > 5);
}
