// The threads that wait in a shared queue: who leads, who follows, and who is woken. Transcribes await,
// lead, follow, wake, hand_over, check_last, deliver and get_events of kevent_sys/shared_queue_wait.cpp,
// flush and settle of shared_queue.cpp, for an engine whose answers are either a poll that ends, or the
// no-op of ring().

#include <doctest/doctest.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "models/memory.hpp"

using keel::test::atomic;
using keel::test::expect;
using keel::test::exploration;
using keel::test::explore;
using keel::test::findings;
using keel::test::futex_wait;
using keel::test::futex_wake;
using keel::test::label;
using keel::test::model;
using keel::test::mutex;
using keel::test::step;

namespace {

enum class mutation {
  none,
  blocks_after_flush,  // lead() as before ea16902: it blocks although its last flush made an event ready
  no_next_leader,      // whoever leaves wakes those with events, but nobody to lead
  promise_is_kept,     // a woken follower does not give back what it was promised
  silent_change,       // an event of another thread does not ring
  leaves_silently,     // a call that gives up hands over nothing
  ignores_woken,       // a follower goes to sleep without a look at the word
};

struct setup {
  unsigned waiters = 2;
  unsigned need[3] = {1, 1, 1};
  unsigned most[3] = {1, 1, 1};
  bool gives_up[3] = {};     // its limit passes as soon as it sleeps
  unsigned completions = 0;  // events that the kernel has
  unsigned changes = 0;      // events that another thread makes ready
  bool dropped = false;      // of these one is ready at first, and not true; it is polled for anew
  bool close = false;        // at the end, by that other thread
};

struct waiting : model {
  struct follower {
    unsigned need;
    unsigned most;
    std::uint64_t promised = 0;
    bool listed = true;
    atomic<std::uint32_t> woken{0};
  };

  waiting(const setup& s, mutation m) : how(s), broken(m) {
    label(&guard, "the queue's lock");
    label(&engine_sees, "the engine");
    if (how.dropped) checked_ready = true;
  }

  unsigned threads() const override { return how.waiters + 1; }
  const char* name(unsigned thread) const override {
    static constexpr const char* names[] = {"waiter 1", "waiter 2", "waiter 3"};
    return thread == how.waiters ? "world" : names[thread];
  }

  void run(unsigned thread) override {
    if (thread < how.waiters) {
      get_events(thread);
    } else {
      world();
    }
  }

  void world() {
    for (unsigned i = 0; i < how.completions; ++i) {
      step("an operation completes in", &engine_sees);
      ++engine_sees.completions;
    }
    if (how.dropped) {
      step("data for the poll of", &engine_sees);
      engine_sees.data = true;
      if (std::exchange(engine_sees.armed, false)) engine_sees.answered = true;
    }
    for (unsigned i = 0; i < how.changes; ++i) {
      const std::lock_guard lock(guard);
      ++plain_ready;
      if (broken != mutation::silent_change) settle();
    }
    if (how.close) {
      const std::lock_guard lock(guard);
      closed = true;
      ring();
      hand_over();
    }
  }

  // The engine. Whatever is there ends a block().
  struct engine_state {
    unsigned completions = 0;
    bool noop = false;
    bool data = false;      // the poll would end at once
    bool armed = false;     // the kernel has the poll
    bool answered = false;  // the poll has ended
  };
  void ring() { engine_sees.noop = true; }
  void block() {
    const auto some = [](const void* self) {
      const auto& e = *static_cast<const engine_state*>(self);
      return e.completions > 0 || e.noop || e.answered;
    };
    step("blocks in", &engine_sees, {some, &engine_sees});
  }
  void collect() {
    step("collects from", &engine_sees);
    engine_sees.noop = false;
    if (std::exchange(unflushed, false)) {
      engine_sees.answered = engine_sees.data;
      engine_sees.armed = !engine_sees.data;
    }
    plain_ready += std::exchange(engine_sees.completions, 0);
    if (std::exchange(engine_sees.answered, false)) checked_ready = true;
  }

  std::uint64_t ready_count() const { return plain_ready + (checked_ready ? 1 : 0); }
  std::uint64_t unpromised() const { return ready_count() > promised ? ready_count() - promised : 0; }

  // REQUIRES of all that follows: the lock
  void flush() {
    if (unflushed) collect();
  }
  void settle() {
    flush();
    if (ready_count() != 0) ring();
  }

  // A poll(2) of the socket.
  void check_last() {
    if (!checked_ready) return;
    step("looks again at", &engine_sees);
    if (engine_sees.data) return;
    checked_ready = false;
    unflushed = true;  // dropped() has submitted it anew
  }

  void wake(follower& f) {
    unlist(f);
    f.promised = std::min<std::uint64_t>(f.most, unpromised());
    promised += f.promised;
    f.woken.store(1, std::memory_order_release);
    futex_wake(f.woken, 1);
  }

  void hand_over() {
    bool woke = false;
    follower* all[3];
    const unsigned n = count;
    std::copy_n(followers, n, all);
    for (unsigned i = 0; i < n; ++i) {
      if (unpromised() < all[i]->need && !closed) continue;
      wake(*all[i]);
      woke = true;
    }
    if (!leader && !woke && count != 0 && broken != mutation::no_next_leader) wake(*followers[0]);
  }

  void unlist(follower& f) {
    if (!std::exchange(f.listed, false)) return;
    follower** end = followers + count;
    follower** at = std::find(followers, end, &f);
    std::copy(at + 1, end, at);
    --count;
  }

  void lead() {
    leader = true;
    const std::uint64_t known = ready_count();
    if (broken == mutation::blocks_after_flush) hand_over();
    flush();
    if (ready_count() == known || broken == mutation::blocks_after_flush) {
      if (broken != mutation::blocks_after_flush) hand_over();
      guard.unlock();
      block();
      guard.lock();
    }
    leader = false;
  }

  void follow(unsigned thread) {
    follower me{how.need[thread], how.most[thread]};
    label(&me.woken, "its word");
    followers[count++] = &me;
    guard.unlock();
    if (broken == mutation::ignores_woken) {
      step("is about to sleep on", &me.woken);
      keel::test::detail::park(&me.woken);
    } else {
      while (me.woken.load(std::memory_order_acquire) == 0 && !how.gives_up[thread]) futex_wait(me.woken, 0);
    }
    guard.lock();
    unlist(me);
    if (broken != mutation::promise_is_kept) promised -= me.promised;
  }

  // False: closed, or the limit has passed.
  bool await(unsigned thread) {
    for (bool passed = false;; passed = how.gives_up[thread]) {
      if (closed) return false;
      collect();
      check_last();
      if (ready_count() >= how.need[thread]) return true;
      if (passed) return false;
      if (leader) {
        follow(thread);
      } else if (how.gives_up[thread]) {
        return false;  // as a leader it would end the same way
      } else {
        lead();
      }
    }
  }

  void get_events(unsigned thread) {
    const std::lock_guard lock(guard);
    const bool satisfied = await(thread);
    for (unsigned i = 0; satisfied && i < how.most[thread] && ready_count() != 0; ++i) {
      ++delivered;
      if (plain_ready != 0) {
        --plain_ready;
      } else {
        checked_ready = false;
      }
    }
    if (broken == mutation::leaves_silently && !satisfied) return;
    settle();
    hand_over();
  }

  void finish() override {
    expect(count == 0 && !leader && promised == 0, "something is left of a wait");
    const unsigned events = how.completions + how.changes + (how.dropped ? 1 : 0);
    expect(delivered + ready_count() + engine_sees.completions + (engine_sees.answered ? 1 : 0) == events ||
               how.dropped,
           "an event was lost, or came twice");
  }

  const setup how;
  const mutation broken;
  mutex guard;
  engine_state engine_sees;
  std::uint64_t plain_ready = 0;
  bool checked_ready = false;
  bool unflushed = false;
  bool leader = false;
  bool closed = false;
  std::uint64_t promised = 0;
  follower* followers[3] = {};
  unsigned count = 0;
  unsigned delivered = 0;
};

findings run(const setup& s, mutation m = mutation::none, const exploration& how = {}) {
  return explore<waiting>(how, s, m);
}

constexpr setup two_of_the_kernel{.completions = 2};
constexpr setup one_each{.completions = 1, .changes = 1};
constexpr setup one_wants_two{.need = {2, 1, 1}, .most = {2, 1, 1}, .completions = 1, .changes = 2};
constexpr setup begun_anew{.waiters = 1, .dropped = true};
constexpr setup begun_anew_for_two{.changes = 1, .dropped = true};
// It may take one event, and leave two.
constexpr setup one_gives_up{.waiters = 3, .gives_up = {false, true, false}, .completions = 3};
constexpr setup three{.waiters = 3, .completions = 1, .changes = 2};
constexpr setup closed_queue{.close = true};

}  // namespace

TEST_CASE("shared queue model, B11: no thread sleeps for ever while an event is ready for it") {
  CHECK(run(two_of_the_kernel).problem() == "");
  CHECK(run(one_each).problem() == "");
  CHECK(run(one_wants_two).problem() == "");
  CHECK(run(begun_anew).problem() == "");
  CHECK(run(begun_anew_for_two).problem() == "");
  CHECK(run(three).problem() == "");
}

TEST_CASE("shared queue model, B11: a call that gives up leaves its events, and the lead, to others") {
  CHECK(run(one_gives_up).problem() == "");
}

TEST_CASE("shared queue model, B11: a close ends every wait") {
  CHECK(run(closed_queue).problem() == "");
}

TEST_CASE("shared queue model, B11: mutations leave a thread asleep") {
  CHECK(run(begun_anew, mutation::blocks_after_flush).failed_with("nobody can go on: waiter 1: blocks in"));
  CHECK(run(two_of_the_kernel, mutation::no_next_leader).failed_with("nobody can go on"));
  CHECK(run(one_each, mutation::silent_change).failed_with("nobody can go on"));
  CHECK(run(one_each, mutation::ignores_woken).failed_with("nobody can go on"));
  CHECK(run(three, mutation::promise_is_kept).failed());
  CHECK(run(one_gives_up, mutation::leaves_silently).failed_with("nobody can go on"));
}
