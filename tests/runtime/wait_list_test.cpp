// The rules in wait_list.hpp, for everything that follows them: each primitive is a `case` that knows how to
// wait for it and how to grant.
#include <keel/runtime/wait_list.hpp>

#include <keel/runtime/barrier.hpp>
#include <keel/runtime/condition.hpp>
#include <keel/runtime/event.hpp>
#include <keel/runtime/latch.hpp>
#include <keel/runtime/mutex.hpp>
#include <keel/runtime/runtime.hpp>
#include <keel/runtime/semaphore.hpp>
#include <keel/runtime/shared_mutex.hpp>
#include <keel/runtime/spawn.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "support/death_test.hpp"
#include "support/hand_wait.hpp"
#include "support/in_runtime.hpp"
#include "support/virtual_time.hpp"

using keel::errc;
using keel::task;
using keel::test::any_wait;
using keel::test::hand_wait;
using keel::test::in_runtime;
using keel::test::run_simulated;
using keel::test::some_turns;

namespace {

template <class Op>
std::unique_ptr<any_wait> by_hand(Op op) {
  return std::make_unique<hand_wait<Op>>(std::move(op));
}

// What most cases do: the waits need no care.
struct plain_case {
  static constexpr bool grants_all = false;  // a grant is for all who wait
  static constexpr bool may_go = true;       // the object may go once it has granted
  static constexpr bool can_be_had_at_once = true;
  void ended(std::size_t) {}
};

// Each is closed at first; grant() lets go on who waits, or the next who comes.
struct event_case : plain_case {
  static constexpr bool grants_all = true;
  static constexpr const char* what = "an event";
  std::unique_ptr<any_wait> wait(std::size_t) { return by_hand(object->wait()); }
  void grant() { object->set(); }
  std::optional<keel::event> object{std::in_place};
};

struct auto_event_case : plain_case {
  static constexpr const char* what = "an event";
  std::unique_ptr<any_wait> wait(std::size_t) { return by_hand(object->wait()); }
  void grant() { object->set(); }
  std::optional<keel::auto_event> object{std::in_place};
};

struct mutex_case : plain_case {
  static constexpr bool may_go = false;
  static constexpr const char* what = "a mutex";
  std::unique_ptr<any_wait> wait(std::size_t) { return by_hand(object->lock()); }
  void grant() { held.unlock(); }
  std::optional<keel::mutex> object{std::in_place};
  keel::mutex::guard held = object->try_lock();
};

struct writer_case : plain_case {
  static constexpr bool may_go = false;
  static constexpr const char* what = "a shared mutex";
  std::unique_ptr<any_wait> wait(std::size_t) { return by_hand(object->lock()); }
  void grant() { held.unlock(); }
  std::optional<keel::shared_mutex> object{std::in_place};
  keel::shared_mutex::shared_guard held = object->try_lock_shared();
};

struct reader_case : plain_case {
  static constexpr bool grants_all = true;
  static constexpr bool may_go = false;
  static constexpr const char* what = "a shared mutex";
  std::unique_ptr<any_wait> wait(std::size_t) { return by_hand(object->lock_shared()); }
  void grant() { held.unlock(); }
  std::optional<keel::shared_mutex> object{std::in_place};
  keel::shared_mutex::guard held = object->try_lock();
};

struct semaphore_case : plain_case {
  static constexpr const char* what = "a semaphore";
  std::unique_ptr<any_wait> wait(std::size_t) { return by_hand(object->acquire(3)); }
  void grant() { object->release(3); }
  std::optional<keel::semaphore> object{std::in_place, 2U};
};

struct permit_case : semaphore_case {
  static constexpr bool may_go = false;
  std::unique_ptr<any_wait> wait(std::size_t) { return by_hand(object->hold(3)); }
};

struct latch_case : plain_case {
  static constexpr bool grants_all = true;
  static constexpr const char* what = "a latch";
  std::unique_ptr<any_wait> wait(std::size_t) { return by_hand(object->wait()); }
  void grant() { object->count_down(2); }
  std::optional<keel::latch> object{std::in_place, 2U};
};

// Of many participants all but those who wait drop out.
struct barrier_case : plain_case {
  static constexpr bool grants_all = true;
  static constexpr bool can_be_had_at_once = false;
  static constexpr const char* what = "a barrier";
  std::unique_ptr<any_wait> wait(std::size_t) { return by_hand(object->arrive_and_wait()); }
  void grant() {
    while (object->phase() == 0) object->arrive_and_drop();
  }
  std::optional<keel::barrier> object{std::in_place, 10U};
};

// A wait needs the mutex, and has it again at its end.
struct condition_case : plain_case {
  static constexpr bool can_be_had_at_once = false;
  static constexpr const char* what = "a condition";
  std::unique_ptr<any_wait> wait(std::size_t i) {
    guards[i] = m.try_lock();
    REQUIRE(guards[i]);
    return by_hand(object->wait(guards[i]));
  }
  void grant() { object->notify_one(); }
  void ended(std::size_t i) { guards[i].unlock(); }
  keel::mutex m;
  std::optional<keel::condition> object{std::in_place};
  std::array<keel::mutex::guard, 3> guards;
};

struct notify_all_case : condition_case {
  static constexpr bool grants_all = true;
  void grant() { object->notify_all(); }
};

#define ALL_CASES                                                                                            \
  event_case, auto_event_case, mutex_case, writer_case, reader_case, semaphore_case, permit_case,            \
      latch_case, barrier_case, condition_case, notify_all_case

// Lets waiters run, and lets the case care for those that have ended.
template <class Case>
task<> settle(Case& c, std::vector<std::unique_ptr<any_wait>>& waits, std::vector<bool>& cared_for) {
  for (bool again = true; again;) {
    co_await some_turns(2);
    again = false;
    for (std::size_t i = 0; i < waits.size(); ++i) {
      if (!waits[i]->done() || cared_for[i]) continue;
      cared_for[i] = again = true;
      c.ended(i);
    }
  }
}

enum action { grant, stop_first, stop_second };

struct script {
  std::array<action, 3> order;
  unsigned turns_after;  // bit i: the waiters run after action i
  bool object_goes;      // before they run
};

// What the rules say: who of two that wait is granted.
template <class Case>
std::array<bool, 2> expected(const script& s) {
  std::array<bool, 2> granted{};
  std::deque<std::size_t> line{0, 1};
  for (const action a : s.order) {
    if (a != grant) {
      std::erase(line, a == stop_first ? 0U : 1U);
      continue;
    }
    while (!line.empty()) {
      granted[line.front()] = true;
      line.pop_front();
      if (!Case::grants_all) break;
    }
  }
  return granted;
}

template <class Case>
task<> play(script s) {
  Case c;
  std::vector<std::unique_ptr<any_wait>> waits;
  std::vector<bool> cared_for(2);
  for (std::size_t i = 0; i < 2; ++i) {
    waits.push_back(c.wait(i));
    waits[i]->start();
  }
  for (std::size_t i = 0; i < 3; ++i) {
    if (s.order[i] == grant) {
      c.grant();
    } else {
      waits[s.order[i] == stop_first ? 0 : 1]->stop();
    }
    if ((s.turns_after >> i & 1) != 0) co_await some_turns(1);
  }
  // Whoever still waits has been stopped, so nobody does.
  if (s.object_goes) c.object.reset();
  co_await settle(c, waits, cared_for);
  const std::array<bool, 2> granted = expected<Case>(s);
  for (std::size_t i = 0; i < 2; ++i) {
    CAPTURE(i);
    CHECK(waits[i]->done());
    CHECK(waits[i]->granted() == granted[i]);
  }
}

}  // namespace

// H12, C2, C11
TEST_CASE_TEMPLATE("a wait: every order of a grant and two stops, in one turn or several", Case, ALL_CASES) {
  std::array<action, 3> order{grant, stop_first, stop_second};
  do {
    for (unsigned turns_after = 0; turns_after < 8; ++turns_after) {
      CAPTURE(order[0]);
      CAPTURE(order[1]);
      CAPTURE(turns_after);
      in_runtime([&] { return play<Case>({order, turns_after, false}); });
      if (Case::may_go) run_simulated(play<Case>({order, turns_after, true}));
    }
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_CASE_TEMPLATE("a wait: stopped before, what would have to wait is cancelled", Case, ALL_CASES) {
  in_runtime([]() -> task<> {
    Case c;
    std::unique_ptr<any_wait> wait = c.wait(0);
    wait->stop();
    wait->start();
    co_await some_turns(1);
    CHECK(wait->canceled());
    c.ended(0);
    // It has not taken a place, nor anything else: the grant is for the next one.
    std::unique_ptr<any_wait> next = c.wait(1);
    next->start();
    c.grant();
    co_await some_turns(1);
    CHECK(next->granted());
    c.ended(1);
  });
}

TEST_CASE_TEMPLATE("a wait: what can be had at once is had, stopped or not", Case, ALL_CASES) {
  if (!Case::can_be_had_at_once) return;
  for (const bool stopped : {false, true}) {
    in_runtime([stopped]() -> task<> {
      Case c;
      c.grant();
      std::unique_ptr<any_wait> wait = c.wait(0);
      if (stopped) wait->stop();
      wait->start();
      CHECK(wait->granted());
      c.ended(0);
      co_return;
    });
  }
}

TEST_CASE_TEMPLATE("a wait: nobody is resumed inside the call that grants or stops", Case, ALL_CASES) {
  run_simulated([]() -> task<> {
    Case c;
    std::vector<std::unique_ptr<any_wait>> waits;
    std::vector<bool> cared_for(3);
    for (std::size_t i = 0; i < 3; ++i) {
      waits.push_back(c.wait(i));
      waits[i]->start();
    }
    waits[1]->stop();
    c.grant();
    CHECK(!waits[0]->done());
    CHECK(!waits[1]->done());
    waits[2]->stop();
    co_await settle(c, waits, cared_for);
    CHECK(waits[0]->granted());
    CHECK(waits[1]->canceled());
    CHECK(waits[2]->granted() == Case::grants_all);
  }());
}

TEST_CASE_TEMPLATE("a wait: a stop in one turn with the grant of ten ends ten, and nobody twice", Case,
                   event_case, auto_event_case, semaphore_case, latch_case) {
  run_simulated([]() -> task<> {
    Case c;
    std::vector<std::unique_ptr<any_wait>> waits;
    for (std::size_t i = 0; i < 10; ++i) {
      waits.push_back(c.wait(i));
      waits[i]->start();
    }
    c.grant();
    for (auto& wait : waits) wait->stop();
    co_await some_turns(1);
    for (std::size_t i = 0; i < 10; ++i) CHECK(waits[i]->granted() == (i == 0 || Case::grants_all));
  }());
}

TEST_CASE_TEMPLATE("a wait: a task that waits is said to wait for it", Case, ALL_CASES) {
  run_simulated([]() -> task<> {
    Case c;
    std::unique_ptr<any_wait> wait = c.wait(0);
    wait->start();
    CHECK(keel::scheduler::current()->root().waits_for == std::string(Case::what));
    c.grant();
    co_await some_turns(1);
    c.ended(0);
  }());
}

TEST_CASE_TEMPLATE("a wait: an object that somebody waits for must not go", Case, ALL_CASES) {
  CHECK_DEATH(run_simulated([]() -> task<> {
                auto c = std::make_unique<Case>();
                std::unique_ptr<any_wait> wait = c->wait(0);
                wait->start();
                c->object.reset();
                co_return;
              }()),
              "was destroyed while");
}

namespace {

task<> wait_for(keel::event& e) {
  const auto happened = co_await e.wait();
  CHECK(happened);
}

// A runtime in which somebody waits for `e`.
struct waiting_runtime {
  explicit waiting_runtime(keel::event& e) : rt({.factory = world.factory()}) {
    rt.spawn(wait_for, std::ref(e));
    for (int i = 0; i < 3; ++i) rt.run_once(rt.at(0).now());
  }
  keel::kevent_sys::sim_world world;
  keel::runtime rt;
};

}  // namespace

TEST_CASE("a wait: those who wait at the same time are tasks of one scheduler") {
  CHECK_DEATH(
      [] {
        keel::event e;
        const waiting_runtime first(e);
        const waiting_runtime second(e);
      }(),
      "belongs to the scheduler whose tasks use it");
}

TEST_CASE("a wait: it is not granted by another thread") {
  CHECK_DEATH(
      [] {
        keel::event e;
        const waiting_runtime first(e);
        std::thread([&e] { e.set(); }).join();
      }(),
      "is given on its own thread");
}

TEST_CASE("a wait: the host of a runtime may grant between two turns") {
  keel::event e;
  waiting_runtime w(e);
  e.set();
  w.rt.run();
  CHECK(w.rt.at(0).live_tasks() == 0);
}

TEST_CASE("a wait: an object may be used by another scheduler when nobody uses it") {
  keel::mutex m;
  for (int i = 0; i < 2; ++i) {
    run_simulated([](keel::mutex& shared) -> task<> {
      auto held = shared.try_lock();
      hand_wait wait(shared.lock());
      wait.start();
      held.unlock();
      co_await some_turns(1);
      CHECK(wait.granted());
    }(m));
  }
}

TEST_CASE("a wait: it may be moved before it begins, and not afterwards") {
  run_simulated([]() -> task<> {
    keel::semaphore s(1);
    auto idle = s.acquire();
    auto moved = std::move(idle);
    const auto acquired = co_await std::move(moved);
    CHECK(acquired);
  }());
  CHECK_DEATH(run_simulated([]() -> task<> {
                keel::event e;
                keel::event::wait_op op = e.wait();
                keel::resume_waiter nobody;
                keel::stop_context context;
                context.attach(*keel::scheduler::current());
                static_cast<void>(op.start(nobody, context));
                const keel::event::wait_op moved = std::move(op);
                co_return;
              }()),
              "was moved after it had started");
}
