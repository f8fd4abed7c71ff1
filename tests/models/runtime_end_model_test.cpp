// The end of a runtime: each scheduler turns until no task is left anywhere. Transcribes note_busy and
// run_one of runtime/runtime.cpp, with tasks that are sent from one scheduler to another.

#include <keel/runtime/inbox.hpp>

#include <doctest/doctest.h>

#include "models/memory.hpp"

using keel::test::atomic;
using keel::test::bell;
using keel::test::expect;
using keel::test::explore;
using keel::test::findings;
using keel::test::label;
using keel::test::model;
using keel::test::model_atomics;
using keel::test::plain;

namespace {

enum class mutation {
  none,
  counts_on_arrival,  // a task that is sent counts when it arrives
  wakes_nobody,       // the end of the last task wakes no scheduler
  wakes_before,       // ... or wakes them, and then counts
};

struct letter {
  plain<letter*> next{nullptr};
};

// The main task of the first scheduler sends a task to the second, and ends; the second has one of its own.
struct ending : model {
  explicit ending(mutation m) : broken(m) {
    label(&busy, "the count");
    label(&wakes[0], "wake 1");
    label(&wakes[1], "wake 2");
    label(&sent, "the task");
  }
  unsigned threads() const override { return 2; }
  const char* name(unsigned thread) const override { return thread == 0 ? "scheduler 1" : "scheduler 2"; }

  void run(unsigned me) override {
    if (me == 0) {
      if (broken != mutation::counts_on_arrival) note_busy(1);
      if (inboxes[1].push(sent)) wakes[1].ring();
    }
    note_busy(-1);  // its main task
    while (busy.load() != 0) turn(me);
  }

  void turn(unsigned me) {
    letter* l = inboxes[me].take_all();
    if (l != nullptr) {
      expect(l == &sent && !ran, "a task came twice");
      if (broken == mutation::counts_on_arrival) note_busy(1);
      ran = true;
      note_busy(-1);
      (void)wakes[me].hear();
      return;
    }
    if (inboxes[me].announce_sleep()) wakes[me].wait();
    inboxes[me].awake();
  }

  void note_busy(int change) {
    if (broken == mutation::wakes_before && change < 0 && busy.load() == 1) {
      for (bell& b : wakes) b.ring();
      busy.fetch_add(change);
      return;
    }
    if (busy.fetch_add(change) + change != 0 || broken == mutation::wakes_nobody) return;
    for (bell& b : wakes) b.ring();
  }

  void finish() override { expect(ran, "the runtime has ended before a task that was sent"); }

  const mutation broken;
  atomic<int> busy{2};
  keel::inbox<letter, model_atomics> inboxes[2];
  bell wakes[2];
  letter sent;
  bool ran = false;
};

findings run(mutation m) {
  return explore<ending>({.preemptions = 4}, m);
}

}  // namespace

TEST_CASE(
    "runtime end model, B11 H13: a runtime ends after the last task, and no scheduler sleeps through that") {
  CHECK(run(mutation::none).problem() == "");
}

TEST_CASE("runtime end model, B11 H13: mutations end it too early or never") {
  CHECK(run(mutation::counts_on_arrival).failed_with("the runtime has ended before a task that was sent"));
  CHECK(run(mutation::wakes_nobody).failed_with("nobody can go on"));
  CHECK(run(mutation::wakes_before).failed_with("nobody can go on"));
}
