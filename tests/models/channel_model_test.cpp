// A bounded channel between schedulers: a ring and two lists of waiters under a lock. A waiter is granted
// its turn by a message to its scheduler; it may have been stopped by then. The protocol of sync_channel,
// and of every other object across schedulers whose waiters stand in a list.

#include <doctest/doctest.h>

#include <mutex>

#include "models/mailbox.hpp"

using keel::test::expect;
using keel::test::exploration;
using keel::test::explore;
using keel::test::findings;
using keel::test::label;
using keel::test::mail;
using keel::test::mailbox;
using keel::test::model;
using keel::test::mutex;

namespace {

enum class mutation {
  none,
  keeps_grant,         // who is stopped after it was granted does not pass the grant on
  leaves_before_mail,  // who is stopped after it was granted does not wait for the message
  stays_listed,        // who is stopped stays in the list
  takes_silently,      // who takes a value grants no sender
  closes_for_one,      // a close wakes one of those who wait
  asks_without_lock,   // full or empty is decided before the lock is taken to wait
};

// How a waiting receiver gets its value.
enum class grant {
  turn,   // it is told to try again, and others may be faster
  value,  // the sender puts the value into its hands
};

constexpr unsigned mail_granted = 1;
constexpr unsigned mail_stop = 2;

struct setup {
  grant how = grant::turn;
  unsigned senders = 1;
  unsigned receivers = 2;
  unsigned values = 2;  // of each sender
  unsigned room = 1;
  bool stops = true;  // the first receiver, at any time
};

struct channel : model {
  // Values: waiting, in a list; granted, and a message is on the way; idle, else.
  enum class state { idle, waiting, granted };

  // Lives in the frame of the waiting task: it is gone when the task goes on.
  struct waiter {
    state now = state::idle;
    bool sends = false;
    int value = 0;
    mailbox* home = nullptr;
    mail message;
    unsigned turn = 0;
  };
  struct list {
    waiter* all[4] = {};
    unsigned size = 0;
    void push(waiter& w) { all[size++] = &w; }
    waiter& pop() {
      waiter& oldest = *all[0];
      erase(oldest);
      return oldest;
    }
    void erase(waiter& w) {
      unsigned kept = 0;
      for (unsigned i = 0; i < size; ++i)
        if (all[i] != &w) all[kept++] = all[i];
      size = kept;
    }
  };

  channel(const setup& s, mutation m) : how(s), broken(m) {
    label(&guard, "the channel's lock");
    for (unsigned i = 0; i < 4; ++i) {
      static constexpr const char* boxes[] = {"inbox 1", "inbox 2", "inbox 3", "inbox 4"};
      label(&inboxes[i], boxes[i]);
      waiters[i].home = &inboxes[i];
      waiters[i].message = {mail_granted, &waiters[i]};
    }
    stop.kind = mail_stop;
    senders_left = how.senders;
  }

  unsigned threads() const override { return how.senders + how.receivers + (how.stops ? 1 : 0); }
  const char* name(unsigned thread) const override {
    static constexpr const char* senders_names[] = {"sender 1", "sender 2"};
    static constexpr const char* receivers_names[] = {"receiver 1", "receiver 2"};
    if (thread < how.senders) return senders_names[thread];
    return thread - how.senders < how.receivers ? receivers_names[thread - how.senders] : "stopper";
  }

  void run(unsigned thread) override {
    if (thread < how.senders) {
      for (unsigned i = 0; i < how.values; ++i)
        send(waiters[thread], static_cast<int>(thread * how.values + i + 1));
      close();
    } else if (thread - how.senders < how.receivers) {
      while (receive(waiters[thread])) {
      }
    } else {
      inboxes[how.senders].post(stop);
    }
  }

  void send(waiter& me, int value) {
    for (;;) {
      std::unique_lock lock(guard);
      bool full = count == how.room;
      if (full && broken == mutation::asks_without_lock) {
        lock.unlock();
        lock.lock();
      } else {
        full = count == how.room;
      }
      if (!full) {
        waiter* next = nullptr;
        if (how.how == grant::value && receivers.size != 0) {
          next = &grant_first(receivers);
          next->value = value;
        } else {
          ring[(first + count++) % how.room] = value;
          if (receivers.size != 0) next = &grant_first(receivers);
        }
        lock.unlock();
        if (next != nullptr) tell(*next);
        return;
      }
      wait_in(senders, me, lock);
    }
  }

  // False: closed and empty, or stopped.
  bool receive(waiter& me) {
    for (;;) {
      std::unique_lock lock(guard);
      if (count != 0) {
        got(ring[first]);
        first = (first + 1) % how.room;
        --count;
        waiter* next =
            senders.size != 0 && broken != mutation::takes_silently ? &grant_first(senders) : nullptr;
        lock.unlock();
        if (next != nullptr) tell(*next);
        return true;
      }
      if (closed) return false;
      if (broken == mutation::asks_without_lock) {
        lock.unlock();
        lock.lock();
      }
      me.value = 0;
      if (!wait_in(receivers, me, lock)) return false;
      if (me.value != 0) {
        got(me.value);
        return true;
      }
    }
  }

  // The last sender.
  void close() {
    std::unique_lock lock(guard);
    if (--senders_left != 0) return;
    closed = true;
    waiter* all[4];
    unsigned n = 0;
    while (receivers.size != 0 && (n == 0 || broken != mutation::closes_for_one))
      all[n++] = &grant_first(receivers);
    lock.unlock();
    for (unsigned i = 0; i < n; ++i) tell(*all[i]);
  }

  // REQUIRES: the lock
  waiter& grant_first(list& of) {
    waiter& w = of.pop();
    expect(w.now == state::waiting, "somebody was granted who does not wait");
    w.now = state::granted;
    return w;
  }

  // Without the lock: who was granted stays until it has heard so.
  void tell(waiter& w) {
    expect(w.now == state::granted, "a waiter has gone before it was told");
    w.home->post(w.message);
  }

  // Unlocks. False: stopped.
  bool wait_in(list& where, waiter& me, std::unique_lock<mutex>& lock) {
    me.now = state::waiting;
    where.push(me);
    lock.unlock();
    for (bool stopped = false;;) {
      mail& m = me.home->take();
      if (m.kind == mail_granted) {
        expect(m.about == &me && me.now == state::granted, "a grant came for a wait that has ended");
        me.now = state::idle;
        if (!stopped) return true;
        // A value in its hands is not lost, though it was stopped.
        if (me.value != 0) return true;
        if (broken != mutation::keeps_grant) pass_on(where);
        return false;
      }
      lock.lock();
      stopped = true;
      const bool was_granted = me.now == state::granted;
      if (!was_granted && broken != mutation::stays_listed) where.erase(me);
      if (!was_granted || broken == mutation::leaves_before_mail) me.now = state::idle;
      lock.unlock();
      if (!was_granted || broken == mutation::leaves_before_mail) return false;
    }
  }

  // To the next who waits for the same, if there still is what it waits for.
  void pass_on(list& where) {
    std::unique_lock lock(guard);
    const bool worth_it = closed || (&where == &receivers ? count != 0 : count != how.room);
    if (!worth_it || where.size == 0) return;
    waiter& next = grant_first(where);
    lock.unlock();
    tell(next);
  }

  void got(int value) {
    expect(!received[value], "a value was received twice");
    received[value] = true;
  }

  void finish() override {
    for (unsigned i = 1; i <= how.senders * how.values; ++i)
      expect(received[i], "a value was never received");
    expect(senders.size == 0 && receivers.size == 0, "somebody stands in a list for ever");
  }

  const setup how;
  const mutation broken;
  mutex guard;
  int ring[4] = {};
  unsigned first = 0;
  unsigned count = 0;
  bool closed = false;
  unsigned senders_left = 0;
  list senders;
  list receivers;
  waiter waiters[4];
  mailbox inboxes[4];
  mail stop;
  bool received[8] = {};
};

findings run(const setup& s, mutation m = mutation::none, const exploration& how = {}) {
  return explore<channel>(how, s, m);
}

constexpr setup turns{};
constexpr setup values{.how = grant::value};
constexpr setup two_senders{.senders = 2, .receivers = 1, .values = 1, .stops = false};
constexpr setup many{.senders = 2, .receivers = 2, .values = 1, .stops = false};

}  // namespace

TEST_CASE("channel model, B11 H12: each value is received once, whoever is stopped while it is granted") {
  CHECK(run(turns).problem() == "");
  CHECK(run(values).problem() == "");
}

TEST_CASE("channel model, B11: neither a sender nor a receiver is left waiting") {
  CHECK(run(two_senders).problem() == "");
  CHECK(run(many, mutation::none, {.preemptions = 2}).problem() == "");
}

TEST_CASE("channel model, H12: mutations lose a grant, or tell a waiter that has gone") {
  CHECK(run(turns, mutation::keeps_grant).failed_with("nobody can go on"));
  CHECK(run(turns, mutation::leaves_before_mail).failed());
  CHECK(run(turns, mutation::stays_listed).failed_with("somebody was granted who does not wait"));
  CHECK(run(values, mutation::stays_listed).failed_with("somebody was granted who does not wait"));
}

TEST_CASE("channel model, B11: mutations leave somebody waiting") {
  CHECK(run(turns, mutation::takes_silently).failed_with("nobody can go on: sender 1: waits for a message"));
  CHECK(run(turns, mutation::closes_for_one).failed_with("nobody can go on: receiver"));
  CHECK(run(turns, mutation::asks_without_lock).failed_with("nobody can go on"));
}
