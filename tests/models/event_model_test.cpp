// An event across schedulers: set() lets all who wait go on, each by a message to its scheduler. The
// protocol of sync_event: a look without the lock, and one with it before the wait.

#include <doctest/doctest.h>

#include <mutex>

#include "models/mailbox.hpp"

using keel::test::atomic;
using keel::test::expect;
using keel::test::exploration;
using keel::test::explore;
using keel::test::findings;
using keel::test::label;
using keel::test::mail;
using keel::test::mailbox;
using keel::test::model;
using keel::test::mutex;
using keel::test::plain;

namespace {

enum class mutation {
  none,
  looks_once,          // it looks without the lock alone, and then stands in the list
  relaxed_look,        // the look without the lock acquires nothing
  relaxed_second,      // nor does the one with it: the lock orders nothing, for set() stores before it
  sets_after_list,     // those in the list are woken before the event is set
  tells_without_care,  // who is stopped does not look whether it was granted
};

constexpr unsigned mail_set = 1;
constexpr unsigned mail_stop = 2;

// Two tasks wait for the event, each on a scheduler of its own; a third thread sets it, a fourth stops the
// first.
struct event : model {
  struct waiter {
    bool listed = false;
    bool granted = false;
    mail message;
    mailbox* home = nullptr;
  };

  explicit event(mutation m) : broken(m) {
    label(&guard, "the event's lock");
    label(&is_set, "the event");
    for (unsigned i = 0; i < 2; ++i) {
      label(&inboxes[i], i == 0 ? "inbox 1" : "inbox 2");
      waiters[i].home = &inboxes[i];
      waiters[i].message = {mail_set, &waiters[i]};
    }
    stop.kind = mail_stop;
  }
  unsigned threads() const override { return 4; }
  const char* name(unsigned thread) const override {
    static constexpr const char* names[] = {"waiter 1", "waiter 2", "setter", "stopper"};
    return names[thread];
  }
  void run(unsigned thread) override {
    switch (thread) {
      case 2: set(); break;
      case 3: inboxes[0].post(stop); break;
      default:
        if (wait(waiters[thread])) expect(data == 1, "the event was set, and what it tells of is not there");
    }
  }

  void set() {
    data = 1;
    if (broken != mutation::sets_after_list) is_set.store(true, std::memory_order_release);
    waiter* all[2];
    unsigned n = 0;
    {
      const std::lock_guard lock(guard);
      for (waiter& w : waiters) {
        if (!w.listed) continue;
        w.listed = false;
        w.granted = true;
        all[n++] = &w;
      }
    }
    if (broken == mutation::sets_after_list) is_set.store(true, std::memory_order_release);
    for (unsigned i = 0; i < n; ++i) all[i]->home->post(all[i]->message);
  }

  // False: stopped.
  bool wait(waiter& me) {
    if (is_set.load(broken == mutation::relaxed_look ? std::memory_order_relaxed : std::memory_order_acquire))
      return true;
    {
      const std::lock_guard lock(guard);
      const auto order =
          broken == mutation::relaxed_second ? std::memory_order_relaxed : std::memory_order_acquire;
      if (broken != mutation::looks_once && is_set.load(order)) return true;
      me.listed = true;
    }
    for (bool stopped = false;;) {
      const mail& m = me.home->take();
      if (m.kind == mail_set) {
        expect(me.granted, "a message came that nobody sent");
        me.granted = false;
        return !stopped;
      }
      const std::lock_guard lock(guard);
      stopped = true;
      me.listed = false;
      if (!me.granted || broken == mutation::tells_without_care) return false;
    }
  }

  void finish() override {
    for (const waiter& w : waiters)
      expect(!w.listed && !w.granted && !w.message.on_the_way, "a wait has ended, and is told of later");
  }

  const mutation broken;
  mutex guard;
  atomic<bool> is_set{false};
  plain<int> data{0};
  waiter waiters[2];
  mailbox inboxes[2];
  mail stop;
};

findings run(mutation m, const exploration& how = {}) {
  return explore<event>(how, m);
}

}  // namespace

TEST_CASE("event model, B11 H12: who waits goes on and sees what was there before, or was stopped") {
  CHECK(run(mutation::none).problem() == "");
}

TEST_CASE("event model, B11 H12: mutations leave a waiter behind, or tell it too late or too early") {
  CHECK(run(mutation::looks_once).failed_with("nobody can go on: waiter"));
  CHECK(run(mutation::relaxed_look).failed_with("data race"));
  CHECK(run(mutation::relaxed_second).failed_with("data race"));
  CHECK(run(mutation::sets_after_list).failed_with("nobody can go on: waiter"));
  CHECK(run(mutation::tells_without_care).failed());
}
