// Of those who listen to one object, one hears it; who leaves passes that on to the next, in another queue.
// Transcribes want, leave, pass_on and take_notice of kevent_sys/listener_table.cpp, and nudge, hear_nudge
// and flush of kevent_sys/shared_queue.

#include <doctest/doctest.h>

#include <mutex>
#include <utility>

#include "models/memory.hpp"

using keel::test::atomic;
using keel::test::bell;
using keel::test::expect;
using keel::test::exploration;
using keel::test::explore;
using keel::test::findings;
using keel::test::label;
using keel::test::model;
using keel::test::mutex;
using keel::test::step;

namespace {

enum class mutation {
  none,
  nudges_nobody,       // the next one has the object, and is not told
  leaves_nothing,      // who leaves passes nothing on
  keeps_notice,        // who leaves stays in the list of notices
  hears_after_look,    // a queue forgets its nudge when it has looked
  polls_without_look,  // the new one waits for an edge, and does not look at what is there
};

constexpr unsigned queues = 3;

// The first queue owns the object and leaves, the second leaves too, the third waits for the object's data.
struct listeners : model {
  struct place {
    bool listed = true;
    bool owns = false;
    bool noticed = false;
  };
  struct queue_state {
    mutex guard;
    atomic<bool> nudged{false};
    bell wakes;
    bool polls = false;  // the engine has a poll of the object
  };

  explicit listeners(mutation m) : broken(m) {
    label(&table, "the table's lock");
    for (unsigned i = 0; i < queues; ++i) {
      static constexpr const char* locks[] = {"lock 1", "lock 2", "lock 3"};
      static constexpr const char* wakes[] = {"wake 1", "wake 2", "wake 3"};
      static constexpr const char* nudges[] = {"nudge 1", "nudge 2", "nudge 3"};
      label(&all[i].guard, locks[i]);
      label(&all[i].wakes, wakes[i]);
      label(&all[i].nudged, nudges[i]);
    }
    places[0].owns = true;
    all[0].polls = true;
  }
  unsigned threads() const override { return queues + 1; }
  const char* name(unsigned thread) const override {
    static constexpr const char* names[] = {"queue 1", "queue 2", "queue 3", "world"};
    return names[thread];
  }
  void run(unsigned thread) override {
    if (thread < 2) {
      const std::lock_guard lock(all[thread].guard);
      leave(thread);
    } else if (thread == 2) {
      wait_for_data();
    } else {
      nudge(all[2]);  // for another reason
      step("data for the object");
      data = true;
      // The edge goes to those who poll.
      for (queue_state& q : all)
        if (q.polls) q.wakes.ring();
    }
  }

  void leave(unsigned me) {
    const std::lock_guard lock(table);
    place& p = places[me];
    p.listed = false;
    if (broken != mutation::keeps_notice) p.noticed = false;
    all[me].polls = false;
    if (std::exchange(p.owns, false) && broken != mutation::leaves_nothing) pass_on();
  }

  // REQUIRES: the table's lock
  void pass_on() {
    for (unsigned i = 0; i < queues; ++i) {
      if (!places[i].listed) continue;
      places[i].owns = true;
      places[i].noticed = true;
      if (broken != mutation::nudges_nobody) nudge(all[i]);
      return;
    }
  }

  static void nudge(queue_state& q) {
    if (!q.nudged.exchange(true)) q.wakes.ring();
  }

  // A thread that leads the third queue.
  void wait_for_data() {
    queue_state& q = all[2];
    std::unique_lock lock(q.guard);
    for (;;) {
      if (q.wakes.hear() && q.polls && data) return;
      if (hear_nudge(q)) return;
      if (q.nudged.load(std::memory_order_relaxed)) continue;  // flush()
      lock.unlock();
      q.wakes.wait();
      q.wakes.ring();  // a block takes nothing out of the engine
      lock.lock();
    }
  }

  // True: there is data.
  bool hear_nudge(queue_state& q) {
    if (!q.nudged.load(std::memory_order_relaxed)) return false;
    if (broken != mutation::hears_after_look && !q.nudged.exchange(false)) return false;
    const bool taken = take_notice();
    if (broken == mutation::hears_after_look) q.nudged.store(false);
    if (!taken) return false;
    // A new poll looks at what is there.
    step("polls the object anew");
    q.polls = true;
    return data && broken != mutation::polls_without_look;
  }

  bool take_notice() {
    const std::lock_guard lock(table);
    expect(!places[0].noticed, "a place was noticed that owned the object all the time");
    if (!places[2].noticed) return false;
    places[2].noticed = false;
    return places[2].owns;
  }

  void finish() override {
    expect(!places[0].listed && !places[1].listed && places[2].owns, "nobody owns the object");
    expect(!places[0].owns && !places[1].owns, "a place that has gone owns the object");
    expect(!places[0].noticed && !places[1].noticed, "a place that has gone is in the list of notices");
  }

  const mutation broken;
  mutex table;
  place places[queues];
  queue_state all[queues];
  bool data = false;
};

findings run(mutation m, const exploration& how = {}) {
  return explore<listeners>(how, m);
}

}  // namespace

TEST_CASE("listener model, B11: data that comes while listeners leave is heard by the one who is left") {
  CHECK(run(mutation::none, {.stale_reads = 0}).problem() == "");
  CHECK(run(mutation::none, {.preemptions = 2}).problem() == "");
}

TEST_CASE("listener model, B11: mutations leave an object to nobody, or its data unheard") {
  CHECK(run(mutation::nudges_nobody).failed_with("nobody can go on: queue 3: sleeps until wake 3"));
  CHECK(run(mutation::leaves_nothing).failed());
  CHECK(run(mutation::keeps_notice).failed_with("a place that has gone is in the list of notices"));
  CHECK(run(mutation::hears_after_look).failed_with("nobody can go on: queue 3: sleeps until wake 3"));
  CHECK(run(mutation::polls_without_look).failed_with("nobody can go on: queue 3: sleeps until wake 3"));
}
