// A task that moves from scheduler to scheduler while its home wants it to stop: the request follows it, or
// finds it on the way. Transcribes depart, deliver_go, request_stop, deliver_stop, deliver_stop_returned,
// ended and deliver_end of runtime/relocation.cpp.

#include <doctest/doctest.h>

#include "models/mailbox.hpp"

using keel::test::any_of;
using keel::test::atomic;
using keel::test::expect;
using keel::test::exploration;
using keel::test::explore;
using keel::test::findings;
using keel::test::label;
using keel::test::mail;
using keel::test::mailbox;
using keel::test::model;
using keel::test::plain;

namespace {

enum class mutation {
  none,
  forgets_wish,         // who arrives does not look whether it was to stop meanwhile
  no_chase,             // no mutation: a request that finds the task gone goes home at once
  ignores_transit,      // a request is told to a task that is on its way
  place_after_mail,     // the task is sent, and then it is said where it is
  transit_after_place,  // it is said where the task is, and then that it is on its way
  sent_once,            // a higher level that came while the request was out is not sent after it
  holds_nothing,        // a request on its way does not keep the task's object
};

constexpr unsigned mail_go = 1;
constexpr unsigned mail_stop = 2;
constexpr unsigned mail_stop_returned = 3;
constexpr unsigned mail_end = 4;
constexpr unsigned mail_quit = 5;

constexpr int graceful = 1;
constexpr int hard = 2;

constexpr unsigned home = 0;
constexpr unsigned schedulers = 3;

struct moving : model {
  // The task goes to the first scheduler that is not its home, and then `hops` times more.
  moving(unsigned how_often, mutation m) : hops(how_often), broken(m) {
    for (unsigned i = 0; i < schedulers; ++i) {
      static constexpr const char* names[] = {"home's inbox", "inbox 1", "inbox 2"};
      label(&inboxes[i], names[i]);
    }
    label(&where, "its place");
    label(&in_transit, "in transit");
    label(&wanted, "the wish");
    go.kind = mail_go;
    stop.kind = mail_stop;
    end.kind = mail_end;
    quit[0].kind = quit[1].kind = mail_quit;
  }
  unsigned threads() const override { return schedulers; }
  const char* name(unsigned thread) const override {
    static constexpr const char* names[] = {"home", "scheduler 1", "scheduler 2"};
    return names[thread];
  }

  void run(unsigned me) override {
    if (me != home) {
      while (deliver(me)) {
      }
      return;
    }
    depart(1);
    for (const int level : {graceful, hard}) {
      while (!inboxes[home].empty() && any_of(2) != 0) (void)deliver(home);
      if (!done) request_stop(level);
    }
    while (shares != 0) (void)deliver(home);
    for (unsigned i = 1; i < schedulers; ++i) inboxes[i].post(quit[i - 1]);
  }

  bool deliver(unsigned me) {
    mail& m = inboxes[me].take();
    switch (m.kind) {
      case mail_go: deliver_go(me); break;
      case mail_stop: deliver_stop(me); break;
      case mail_stop_returned: deliver_stop_returned(); break;
      case mail_end:
        done = true;
        drop_share();
        break;
      default: return false;
    }
    return true;
  }

  // Where it is.
  void depart(unsigned to) {
    here = schedulers;
    if (broken == mutation::place_after_mail) inboxes[to].post(go);
    if (broken != mutation::transit_after_place) in_transit.store(true, std::memory_order_seq_cst);
    where.store(to, std::memory_order_seq_cst);
    if (broken == mutation::transit_after_place) in_transit.store(true, std::memory_order_seq_cst);
    if (broken != mutation::place_after_mail) inboxes[to].post(go);
  }

  void deliver_go(unsigned me) {
    here = me;
    in_transit.store(false, std::memory_order_seq_cst);
    if (broken != mutation::forgets_wish) tell(me, wanted.load(std::memory_order_seq_cst));
    if (moved++ < hops) {
      depart((me + 1 + any_of(2)) % schedulers);
    } else {
      waits = true;
      end_if_stopped();
    }
  }

  // The context of the task is at `me` only while the task is.
  void tell(unsigned me, int level) {
    expect(here == me, "a task is told to stop where it is not");
    if (level > told) told = level;
  }

  void end_if_stopped() {
    if (!waits || told < hard) return;
    waits = false;
    here = schedulers;
    in_transit.store(true, std::memory_order_seq_cst);
    inboxes[home].post(end);
  }

  // At home.
  void request_stop(int level) {
    touch();
    if (level > wanted.load(std::memory_order_relaxed)) wanted.store(level, std::memory_order_seq_cst);
    const int now = wanted.load(std::memory_order_relaxed);
    if (stop_is_out || now <= sent) return;
    stop_is_out = true;
    sent = now;
    stop.kind = mail_stop;
    if (broken != mutation::holds_nothing) ++shares;
    inboxes[where.load(std::memory_order_seq_cst)].post(stop);
  }

  void deliver_stop(unsigned me) {
    touch();
    const unsigned now = where.load(std::memory_order_seq_cst);
    if (now != me && broken != mutation::no_chase) {
      inboxes[now].post(stop);
      return;
    }
    if (now == me) {
      if (!in_transit.load(std::memory_order_seq_cst) || broken == mutation::ignores_transit) {
        tell(me, wanted.load(std::memory_order_seq_cst));
        end_if_stopped();
      }
    }
    stop.kind = mail_stop_returned;
    inboxes[home].post(stop);
  }

  void deliver_stop_returned() {
    touch();
    stop_is_out = false;
    if (!done && broken != mutation::sent_once) request_stop(wanted.load(std::memory_order_relaxed));
    if (broken != mutation::holds_nothing) drop_share();
  }

  void drop_share() {
    expect(shares != 0, "the object is destroyed twice");
    if (--shares != 0) return;
    told = 0;  // its destructor
    destroyed = true;
  }
  void touch() { expect(!destroyed, "the object is used after its end"); }

  void finish() override { expect(done && destroyed, "the task never ended"); }

  const unsigned hops;
  const mutation broken;
  mailbox inboxes[schedulers];
  mail go;
  mail stop;
  mail end;
  mail quit[2];
  atomic<unsigned> where{home};
  atomic<bool> in_transit{false};
  atomic<int> wanted{0};
  // Of the task: touched where it is.
  plain<unsigned> here{home};
  plain<int> told{0};
  plain<bool> waits{false};
  unsigned moved = 0;
  // Home.
  bool stop_is_out = false;
  int sent = 0;
  unsigned shares = 1;  // counted at home
  bool done = false;
  bool destroyed = false;
};

findings run(unsigned hops, mutation m, const exploration& how = {}) {
  return explore<moving>(how, hops, m);
}

}  // namespace

TEST_CASE("relocation model, B11 C1: a stop reaches the task wherever it goes, and touches it only there") {
  for (unsigned hops = 0; hops < 3; ++hops) {
    CAPTURE(hops);
    CHECK(run(hops, mutation::none).problem() == "");
  }
}

// It was there when home looked, so it left after the wish was written; and who arrives looks for a wish.
TEST_CASE("relocation model, B11: a request that finds the task gone need not follow it") {
  CHECK(run(2, mutation::no_chase).problem() == "");
}

TEST_CASE("relocation model, B11 C1: mutations lose the stop, or touch a task that is elsewhere") {
  CHECK(run(1, mutation::forgets_wish).failed_with("nobody can go on"));
  CHECK(run(1, mutation::ignores_transit).failed());
  CHECK(run(1, mutation::place_after_mail).failed());
  CHECK(run(1, mutation::transit_after_place).failed());
  CHECK(run(0, mutation::sent_once).failed_with("nobody can go on"));
  CHECK(run(0, mutation::holds_nothing).failed());
}
