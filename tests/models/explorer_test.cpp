#include "models/explorer.hpp"

#include <doctest/doctest.h>

#include <array>
#include <mutex>
#include <string>

#include "models/memory.hpp"

using keel::test::any_of;
using keel::test::atomic;
using keel::test::bell;
using keel::test::condition_variable;
using keel::test::expect;
using keel::test::explore;
using keel::test::findings;
using keel::test::futex_wait;
using keel::test::futex_wake;
using keel::test::model;
using keel::test::mutex;
using keel::test::plain;

namespace {

constexpr unsigned any_number = 1000;

const char* letter(unsigned thread) {
  constexpr const char* letters[] = {"a", "b", "c"};
  return letters[thread];
}

class program : public model {
 public:
  explicit program(unsigned threads = 2) : threads_(threads) {}
  unsigned threads() const override { return threads_; }
  const char* name(unsigned thread) const override { return letter(thread); }

 private:
  unsigned threads_;
};

// Each thread does `steps` things that the others can see.
struct independent : program {
  independent(unsigned threads, unsigned each) : program(threads), steps(each) {}
  void run(unsigned) override {
    for (unsigned i = 0; i < steps; ++i) shared.fetch_add(1);
  }
  void finish() override { expect(shared.now() == threads() * steps, "a step was lost"); }
  unsigned steps;
  atomic<unsigned> shared;
};

std::uint64_t schedules(unsigned threads, unsigned steps, unsigned preemptions) {
  const findings found = explore<independent>({.preemptions = preemptions}, threads, steps);
  CHECK_MESSAGE(found.failure == "", found.schedule);
  CHECK(found.complete);
  return found.schedules;
}

// The same number by another way.
std::uint64_t count(std::array<unsigned, 3> left, unsigned now, unsigned preemptions) {
  const bool may_go_on = now < 3 && left[now] != 0;
  std::uint64_t all = 0;
  bool some = false;
  for (unsigned next = 0; next < 3; ++next) {
    if (left[next] == 0) continue;
    some = true;
    const unsigned cost = may_go_on && next != now ? 1 : 0;
    if (cost > preemptions) continue;
    --left[next];
    all += count(left, next, preemptions - cost);
    ++left[next];
  }
  return some ? all : 1;
}

}  // namespace

TEST_CASE("explorer: it runs each interleaving of independent threads once") {
  CHECK(schedules(1, 5, any_number) == 1);
  CHECK(schedules(2, 1, any_number) == 2);
  CHECK(schedules(2, 3, any_number) == 20);    // 6! / (3! 3!)
  CHECK(schedules(2, 6, any_number) == 924);   // 12! / (6! 6!)
  CHECK(schedules(3, 2, any_number) == 90);    // 6! / (2! 2! 2!)
  CHECK(schedules(3, 3, any_number) == 1680);  // 9! / (3! 3! 3!)
}

TEST_CASE("explorer: with a bound it runs each interleaving with so many preemptions at most") {
  CHECK(schedules(2, 3, 0) == 2);
  CHECK(schedules(3, 4, 0) == 6);
  CHECK(schedules(2, 3, 1) == 6);  // one of two begins, and is interrupted after 1, 2 or 3 steps
  for (unsigned preemptions = 0; preemptions < 5; ++preemptions) {
    CAPTURE(preemptions);
    CHECK(schedules(3, 3, preemptions) == count({3, 3, 3}, 3, preemptions));
    CHECK(schedules(2, 5, preemptions) == count({5, 5, 0}, 3, preemptions));
  }
}

TEST_CASE("explorer: each outcome of a choice is run") {
  struct chooser : program {
    chooser() : program(1) {}
    void run(unsigned) override { (any_of(3) == 1) ? void(any_of(2)) : void(any_of(1)); }
  };
  CHECK(explore<chooser>({}).schedules == 4);
}

namespace {

// Both announce themselves and then look for the other: one of them has to see it.
struct announce_then_look : program {
  announce_then_look(std::memory_order o, bool with_fence) : order(o), fenced(with_fence) {
    label(&said[0], "a's flag");
    label(&said[1], "b's flag");
  }
  void run(unsigned me) override {
    said[me].store(1, order);
    if (fenced) keel::test::fence(std::memory_order_seq_cst);
    saw[me] = said[1 - me].load(order) != 0;
  }
  void finish() override { expect(saw[0] || saw[1], "neither saw the other"); }
  std::memory_order order;
  bool fenced;
  atomic<int> said[2];
  bool saw[2] = {};
};

// Peterson's lock for two: announce, be polite, look.
struct peterson : program {
  explicit peterson(std::memory_order o) : order(o) {}
  void run(unsigned me) override {
    wants[me].store(1, order);
    turn.store(1 - me, order);
    while (wants[1 - me].load(order) != 0 && turn.load(order) == 1 - me) keel::test::yield();
    guarded = guarded + 1;
    wants[me].store(0, order == std::memory_order_relaxed ? std::memory_order_release : order);
  }
  void finish() override { expect(guarded == 2, "both were inside"); }
  std::memory_order order;
  atomic<int> wants[2];
  atomic<unsigned> turn{0};
  plain<int> guarded{0};
};

struct message_passing : program {
  message_passing(std::memory_order s, std::memory_order l) : store_order(s), load_order(l) {}
  void run(unsigned me) override {
    if (me == 0) {
      data = 42;
      ready.store(true, store_order);
    } else if (ready.load(load_order)) {
      expect(data == 42, "old data");
    }
  }
  std::memory_order store_order;
  std::memory_order load_order;
  plain<int> data{0};
  atomic<bool> ready{false};
};

constexpr auto relaxed = std::memory_order_relaxed;
constexpr auto acquire = std::memory_order_acquire;
constexpr auto release = std::memory_order_release;
constexpr auto seq_cst = std::memory_order_seq_cst;

}  // namespace

TEST_CASE("explorer: a store that waits in a store buffer is not seen by others, unless a fence drains it") {
  CHECK(explore<announce_then_look>({}, seq_cst, false).failure == "");
  CHECK(explore<announce_then_look>({}, relaxed, true).failure == "");
  const findings found = explore<announce_then_look>({}, relaxed, false);
  CHECK(found.failure == "neither saw the other");
  // Sequentially consistent accesses are ordered by themselves: with interleavings alone it cannot be found.
  CHECK(explore<announce_then_look>({.stale_reads = 0}, relaxed, false).failure == "");
  CHECK(
      explore<announce_then_look>({.weaken = {seq_cst, std::memory_order_acq_rel}}, seq_cst, false).failed());
}

TEST_CASE("explorer: Peterson's lock needs sequential consistency, and is right with it") {
  CHECK(explore<peterson>({}, seq_cst).failure == "");
  CHECK(explore<peterson>({.stale_reads = 2}, relaxed).failed());
}

TEST_CASE("explorer: what is published without release, or taken without acquire, is a data race") {
  CHECK(explore<message_passing>({}, release, acquire).failure == "");
  CHECK(explore<message_passing>({}, seq_cst, seq_cst).failure == "");
  CHECK(explore<message_passing>({}, relaxed, acquire).failure.find("data race") != std::string::npos);
  CHECK(explore<message_passing>({}, release, relaxed).failure.find("data race") != std::string::npos);
}

namespace {

// The classic: it looks, and goes to sleep for what has happened in between.
struct lost_wake_up : program {
  explicit lost_wake_up(bool looks_under_lock) : careful(looks_under_lock) {}
  void run(unsigned me) override {
    if (me == 0) {
      {
        const std::lock_guard lock(guard);
        there = true;
      }
      changed.notify_one();
    } else if (careful) {
      std::unique_lock lock(guard);
      while (!there) changed.wait(guard);
    } else {
      if (look()) return;
      std::unique_lock lock(guard);
      changed.wait(guard);
    }
  }
  bool look() {
    const std::lock_guard lock(guard);
    return there;
  }
  bool careful;
  mutex guard;
  condition_variable changed;
  plain<bool> there{false};
};

struct futex_sleep : program {
  explicit futex_sleep(bool wakes) : wakes_others(wakes) { label(&word, "the word"); }
  void run(unsigned me) override {
    if (me == 0) {
      word.store(1);
      if (wakes_others) futex_wake(word, 1);
    } else {
      while (word.load() == 0) futex_wait(word, 0);
    }
  }
  bool wakes_others;
  atomic<std::uint32_t> word;
};

struct both_locks : program {
  explicit both_locks(bool ordered) : in_order(ordered) {}
  void run(unsigned me) override {
    const bool crossed = me == 1 && !in_order;
    const std::lock_guard first(crossed ? second_lock : first_lock);
    const std::lock_guard second(crossed ? first_lock : second_lock);
  }
  bool in_order;
  mutex first_lock;
  mutex second_lock;
};

}  // namespace

TEST_CASE("explorer: a lost wake-up is found, on a condition variable and on a futex") {
  CHECK(explore<lost_wake_up>({}, true).failure == "");
  CHECK(explore<lost_wake_up>({}, false).failure.find("nobody can go on") == 0);
  CHECK(explore<futex_sleep>({}, true).failure == "");
  CHECK(explore<futex_sleep>({}, false).failure == "nobody can go on: b: sleeps on the word");
}

TEST_CASE("explorer: locks that are taken in two orders are a deadlock") {
  CHECK(explore<both_locks>({}, true).failure == "");
  CHECK(explore<both_locks>({}, false).failure.find("nobody can go on: a: locks") == 0);
}

TEST_CASE("explorer: a thread that turns in circles is a failure") {
  struct circles : program {
    circles() : program(1) {}
    void run(unsigned) override {
      while (word.load() == 0) {
      }
    }
    atomic<int> word;
  };
  CHECK(explore<circles>({}).failure == "this does not come to an end");
}

TEST_CASE("explorer: a failure comes with its schedule, which can be run again") {
  const findings found = explore<announce_then_look>({}, relaxed, false);
  REQUIRE(found.failed());
  CHECK_MESSAGE(found.schedule ==
                    "  a              stores to a's flag: 1\n"
                    "  a              loads b's flag: 0\n"
                    "  b              stores to b's flag: 1\n"
                    "  b              loads a's flag: still 0\n"
                    "                 FAILED: neither saw the other\n",
                found.schedule);
  const findings again = explore<announce_then_look>({.only = found.choices}, relaxed, false);
  CHECK(again.schedules == 1);
  CHECK(again.schedule == found.schedule);
}

TEST_CASE("explorer: a bell that rang before the wait ends it, and a wait hears all rings before it") {
  struct rings : program {
    explicit rings(unsigned times) : program(2), waits(times) {}
    void run(unsigned me) override {
      for (unsigned i = 0; me == 0 && i < 2; ++i) ringing.ring();
      for (unsigned i = 0; me == 1 && i < waits; ++i) ringing.wait();
    }
    unsigned waits;
    bell ringing;
  };
  CHECK(explore<rings>({}, 1u).failure == "");
  CHECK(explore<rings>({}, 2u).failed());
}
