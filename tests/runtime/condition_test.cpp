#include <keel/runtime/condition.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/scope.hpp>

#include <doctest/doctest.h>

#include <deque>
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
using keel::condition;
using keel::errc;
using keel::mutex;
using keel::task;
using keel::test::hand_wait;
using keel::test::in_runtime;
using keel::test::run_simulated;
using keel::test::some_turns;

namespace {

struct mailbox {
  mutex m;
  condition changed;
  std::deque<int> letters;
};

task<> put(mailbox& box, int letter) {
  const auto guard = co_await box.m.lock();
  box.letters.push_back(letter);
  box.changed.notify_one();
}

task<keel::result<int>> get(mailbox& box) {
  auto guard = co_await keel::or_return(box.m.lock());
  auto has_one = [&box] { return !box.letters.empty(); };
  co_await keel::or_return(box.changed.wait(guard, has_one));
  const int letter = box.letters.front();
  box.letters.pop_front();
  co_return letter;
}

// A wait by hand, with the guard that it needs.
struct held_wait {
  held_wait(condition& c, mutex& m) : guard(m.try_lock()), wait(c.wait(guard)) {}
  mutex::guard guard;
  hand_wait<condition::wait_op> wait;
};

}  // namespace

TEST_CASE("condition: the wait unlocks, and has the mutex again when it ends") {
  in_runtime([]() -> task<> {
    mailbox box;
    auto handle = keel::spawn(get, std::ref(box));
    co_await some_turns();
    CHECK(!box.m.locked());
    co_await put(box, 7);
    const auto letter = co_await std::move(handle);
    REQUIRE(letter);
    CHECK(*letter == 7);
    CHECK(!box.m.locked());
  });
}

TEST_CASE("condition: a predicate that is true is not waited for, and one that is false is asked again") {
  run_simulated([]() -> task<> {
    mutex m;
    condition c;
    int value = 1;
    int asked = 0;
    auto guard = m.try_lock();
    auto is_three = [&] {
      ++asked;
      CHECK(m.locked());
      return value == 3;
    };
    hand_wait wait(c.wait(guard, is_three));
    wait.start();
    CHECK(asked == 1);
    for (; value < 3; ++value) {
      c.notify_all();
      co_await some_turns();
      CHECK(!wait.done());
    }
    c.notify_one();
    co_await some_turns();
    CHECK(wait.granted());
    CHECK(asked == 4);
    CHECK(m.locked());
    const auto at_once = co_await c.wait(guard, is_three);
    CHECK(at_once);
  }());
}

TEST_CASE("condition: each notification is for the first who waits; without one it is lost") {
  run_simulated([]() -> task<> {
    mutex m;
    condition c;
    c.notify_one();
    c.notify_all();
    held_wait first(c, m);
    first.wait.start();
    held_wait second(c, m);
    second.wait.start();
    co_await some_turns();
    CHECK(!first.wait.done());
    c.notify_one();
    co_await some_turns();
    CHECK(first.wait.granted());
    CHECK(!second.wait.done());
    first.guard.unlock();
    c.notify_one();
    co_await some_turns();
    CHECK(second.wait.granted());
  }());
}

TEST_CASE("condition: who was notified gets the mutex in its turn, one after the other") {
  run_simulated([]() -> task<> {
    mutex m("the mutex");
    condition c("the condition");
    held_wait first(c, m);
    first.wait.start();
    CHECK(keel::scheduler::current()->root().waits_for == std::string("the condition"));
    held_wait second(c, m);
    second.wait.start();
    auto held = m.try_lock();
    hand_wait other(m.lock());
    other.start();
    c.notify_all();
    CHECK(keel::scheduler::current()->root().waits_for == std::string("the mutex"));
    co_await some_turns();
    CHECK(!first.wait.done());
    held.unlock();
    co_await some_turns();
    CHECK(other.granted());
    CHECK(!first.wait.done());
    other.drop();
    co_await some_turns();
    CHECK(first.wait.granted());
    CHECK(!second.wait.done());
    first.guard.unlock();
    co_await some_turns();
    CHECK(second.wait.granted());
  }());
}

TEST_CASE("condition: a stopped wait has the mutex, too, and waits for it") {
  run_simulated([]() -> task<> {
    mutex m;
    condition c;
    held_wait wait(c, m);
    wait.wait.start();
    auto held = m.try_lock();
    wait.wait.stop();
    co_await some_turns();
    CHECK(!wait.wait.done());
    held.unlock();
    CHECK(m.locked());
    co_await some_turns();
    CHECK(wait.wait.canceled());
    CHECK(wait.wait.answer().why().doing == std::string("wait for a condition"));
    wait.guard.unlock();
    CHECK(!m.locked());
  }());
}

TEST_CASE("condition: stopped before, it does not unlock") {
  run_simulated([]() -> task<> {
    mutex m;
    condition c;
    held_wait wait(c, m);
    hand_wait other(m.lock());
    other.start();
    wait.wait.stop();
    wait.wait.start();
    CHECK(wait.wait.canceled());
    co_await some_turns();
    CHECK(!other.done());
    wait.guard.unlock();
    co_await some_turns();
    CHECK(other.granted());
  }());
}

// C1: or_return destroys the frame, with the wait in it, inside the wait's own start.
TEST_CASE("condition: stopped before, it may go with its frame while it starts") {
  run_simulated([]() -> task<> {
    mailbox box;
    auto handle = keel::spawn(get, std::ref(box));
    handle.request_stop();
    const auto stopped = co_await std::move(handle);
    CHECK(stopped.error() == errc::operation_canceled);
    CHECK(!box.m.locked());
  }());
}

// H12
TEST_CASE("condition: a notification before the stop is reported, one after it is for the next") {
  for (const bool notified_first : {false, true}) {
    CAPTURE(notified_first);
    run_simulated([](bool notify) -> task<> {
      mutex m;
      condition c;
      held_wait first(c, m);
      first.wait.start();
      held_wait second(c, m);
      second.wait.start();
      auto held = m.try_lock();
      if (notify) c.notify_one();
      first.wait.stop();
      if (!notify) c.notify_one();
      held.unlock();
      co_await some_turns();
      CHECK(first.wait.granted() == notify);
      first.guard.unlock();
      co_await some_turns();
      CHECK(second.wait.granted() == !notify);
      second.wait.stop();
      co_await some_turns();
    }(notified_first));
  }
}

TEST_CASE("condition: a predicate that is true beats the stop and the timeout") {
  run_simulated([]() -> task<> {
    mutex m;
    condition c;
    bool ready = false;
    auto guard = m.try_lock();
    auto is_ready = [&ready] { return ready; };
    const auto late = co_await keel::with_timeout(1s, c.wait(guard, is_ready));
    CHECK(late.error() == errc::timed_out);
    CHECK(guard);
    CHECK(m.locked());
    hand_wait wait(c.wait(guard, is_ready));
    wait.start();
    ready = true;
    wait.stop();
    co_await some_turns();
    CHECK(wait.granted());
    hand_wait stopped(c.wait(guard, is_ready));
    stopped.stop();
    stopped.start();
    CHECK(stopped.granted());
    ready = false;
    hand_wait in_vain(c.wait(guard, is_ready));
    in_vain.stop();
    in_vain.start();
    CHECK(in_vain.canceled());
  }());
}

TEST_CASE("condition: it may go as soon as all are notified") {
  run_simulated([]() -> task<> {
    mutex m;
    auto c = std::make_unique<condition>();
    held_wait first(*c, m);
    first.wait.start();
    held_wait second(*c, m);
    second.wait.start();
    c->notify_all();
    c.reset();
    co_await some_turns();
    CHECK(first.wait.granted());
    first.guard.unlock();
    co_await some_turns();
    CHECK(second.wait.granted());
  }());
}

TEST_CASE("condition: a wait needs a guard that holds its mutex") {
  CHECK_DEATH(
      [] {
        condition c;
        mutex::guard nothing;
        static_cast<void>(c.wait(nothing));
      }(),
      "who waits for a condition holds the mutex: this guard holds none");
}

TEST_CASE("condition: of many who give and take, each letter reaches one") {
  run_simulated([]() -> task<> {
    mailbox box;
    std::vector<int> seen(200);
    auto taker = [](mailbox& from, std::vector<int>& notes) -> task<> {
      for (;;) {
        const auto letter = co_await get(from);
        if (!letter) co_return;
        ++notes[static_cast<std::size_t>(*letter)];
      }
    };
    auto body = [&](keel::scope& children) -> task<> {
      for (int i = 0; i < 5; ++i) children.spawn(taker, std::ref(box), std::ref(seen));
      for (int i = 0; i < 200; ++i) {
        co_await put(box, i);
        if (i % 7 == 0) co_await some_turns(1);
      }
      co_await some_turns(50);
      children.request_stop();
    };
    co_await keel::scope(body);
    CHECK(seen == std::vector<int>(200, 1));
    CHECK(!box.m.locked());
  }());
}

namespace {

// Random waits, notifications and stops, against two queues and a holder.
class condition_check {
 public:
  explicit condition_check(std::uint64_t seed) : random_(seed) {}

  task<> run(int steps) {
    for (int i = 0; i < steps; ++i) {
      switch (random_() % 8) {
        case 0:
        case 1: wait(); break;
        case 2: notify(); break;
        case 3: stop(); break;
        case 4: lock(); break;
        case 5: unlock(); break;
        default: co_await compare();
      }
    }
    for (auto& e : all_) e->wait.wait.stop();
    for (auto& e : all_) relock(*e, false);
    held_ = mutex::guard();
    if (holder_ == &outside_) hand_over();
    while (!all_.empty()) {
      co_await compare();
      unlock();
    }
  }

  int granted = 0;
  int canceled = 0;

 private:
  struct entry {
    entry(condition& c, mutex& m) : wait(c, m) {}
    held_wait wait;
    bool in_line = true;  // of the condition
    bool granted = false;
  };

  void wait() {
    if (holder_ != nullptr || all_.size() > 10) return;
    auto e = std::make_unique<entry>(c_, m_);
    e->wait.wait.start();
    line_.push_back(e.get());
    all_.push_back(std::move(e));
  }
  void relock(entry& e, bool notified) {
    if (!e.in_line) return;
    e.in_line = false;
    e.granted = notified;
    std::erase(line_, &e);
    if (holder_ == nullptr) {
      holder_ = &e;
    } else {
      wants_.push_back(&e);
    }
  }
  void notify() {
    const bool all = random_() % 3 == 0;
    all ? c_.notify_all() : c_.notify_one();
    while (!line_.empty()) {
      relock(*line_.front(), true);
      if (!all) break;
    }
  }
  void stop() {
    if (all_.empty()) return;
    entry& e = *all_[random_() % all_.size()];
    e.wait.wait.stop();
    relock(e, false);
  }
  // Somebody who only holds the mutex.
  void lock() {
    if (holder_ != nullptr) return;
    held_ = m_.try_lock();
    REQUIRE(held_);
    holder_ = &outside_;
  }
  void unlock() {
    if (holder_ == nullptr) return;
    if (holder_ == &outside_) {
      held_.unlock();
    } else {
      auto* e = static_cast<entry*>(holder_);
      if (!e->wait.wait.done()) return;
      REQUIRE(e->wait.wait.granted() == e->granted);
      ++(e->granted ? granted : canceled);
      e->wait.guard.unlock();
      std::erase_if(all_, [e](const auto& one) { return one.get() == e; });
    }
    hand_over();
  }
  void hand_over() {
    holder_ = nullptr;
    if (wants_.empty()) return;
    holder_ = wants_.front();
    wants_.pop_front();
  }
  task<> compare() {
    co_await some_turns(2);
    REQUIRE(m_.locked() == (holder_ != nullptr));
    for (const auto& e : all_) REQUIRE(e->wait.wait.done() == (holder_ == e.get()));
  }

  std::mt19937_64 random_;
  mutex m_;
  condition c_;
  mutex::guard held_;
  char outside_ = 0;
  void* holder_ = nullptr;
  std::deque<entry*> line_;
  std::deque<entry*> wants_;
  std::vector<std::unique_ptr<entry>> all_;
};

}  // namespace

TEST_CASE("condition: random waits, notifications, stops and unlocks end as the reference says") {
  const std::uint64_t seed = keel::test::chosen_seed();
  INFO("KEEL_SEED=", seed);
  int granted = 0;
  int canceled = 0;
  for (std::uint64_t i = 0; i < 20; ++i) {
    condition_check check(seed + i);
    run_simulated(check.run(2000));
    granted += check.granted;
    canceled += check.canceled;
  }
  CHECK(granted > 20);
  CHECK(canceled > 20);
}

TEST_CASE("condition: those who wait for it can be stopped at every point") {
  auto taker = [](mailbox& box) -> task<> {
    for (int i = 0; i < 2; ++i) {
      const auto letter = co_await get(box);
      if (!letter) co_return;
    }
  };
  auto giver = [](mailbox& box) -> task<> {
    for (int i = 0; i < 4; ++i) {
      co_await put(box, i);
      const auto slept = co_await keel::sleep_for(1ms);
      if (!slept) co_return;
    }
  };
  const unsigned runs = keel::test::sweep([taker, giver](keel::runtime& rt) {
    auto box = std::make_unique<mailbox>();
    rt.spawn(taker, std::ref(*box));
    rt.spawn(giver, std::ref(*box));
    rt.spawn(taker, std::ref(*box));
    return box;
  });
  CHECK(runs > 3);
}
