// One kernel timer for three: the alarm of a shared epoll engine, its owner's ring, and bells of other
// threads. Transcribes ring_bell, heard_bell, hush, arm_timer and do_wake of kevent_sys/epoll_engine.cpp.

#include <doctest/doctest.h>

#include "models/memory.hpp"

using keel::test::atomic;
using keel::test::exploration;
using keel::test::explore;
using keel::test::findings;
using keel::test::label;
using keel::test::model;
using keel::test::step;

namespace {

enum class mutation {
  none,
  arms_blindly,     // a bell that rang while the timer was set for the alarm is overwritten
  forgets_alarm,    // after a bell the timer is not set for the alarm
  bell_is_late,     // the timer is set, and then it is said that a bell rang
  hears_then_asks,  // the owner asks who wanted it awake before it says that it has heard
};

constexpr unsigned at_once = 1;
constexpr unsigned noon = 2;
constexpr unsigned never = 3;

// The owner waits until it was woken by each ringer, and its alarm has come.
struct one_timer : model {
  one_timer(unsigned how_many, bool far, mutation m) : ringers(how_many), alarm_is_far(far), broken(m) {
    label(&timer, "the timer");
    label(&wake_wanted, "wake wanted");
    label(&bell_rung, "bell rung");
  }
  unsigned threads() const override { return ringers + 2; }
  const char* name(unsigned thread) const override {
    static constexpr const char* names[] = {"owner", "clock", "ringer 1", "ringer 2"};
    return names[thread];
  }
  void run(unsigned thread) override {
    switch (thread) {
      case 0: own(); break;
      case 1: strike(); break;
      default: wants[thread - 2].store(true, std::memory_order_relaxed); wake();
    }
  }

  // The kernel's timer, watched by its edge.
  struct timer_state {
    unsigned at = never;
    bool edge = false;
    keel::test::detail::view seen;
  };
  void set_timer(unsigned at) {
    step(at == at_once ? "sets for now" : at == noon ? "sets for noon" : "unsets", &timer);
    timer.at = at;
    timer.edge = at == at_once || (at == noon && clock_is_past_noon);
    timer.seen.join(keel::test::detail::known());
    keel::test::detail::known().join(timer.seen);
    keel::test::detail::tick();
  }
  void strike() {
    const auto may_strike = [](const void* self) {
      const auto& me = *static_cast<const one_timer*>(self);
      return !me.alarm_is_far || me.woken == me.ringers;
    };
    step("strikes noon for", &timer, {may_strike, this});
    clock_is_past_noon = true;
    if (timer.at == noon) timer.edge = true;
  }

  void wake() {
    wake_wanted.store(true, std::memory_order_seq_cst);
    if (broken == mutation::bell_is_late) set_timer(at_once);
    bell_rung.store(true, std::memory_order_seq_cst);
    if (broken != mutation::bell_is_late) set_timer(at_once);
  }

  void own() {
    for (bool set = false;; set = true) {
      poll();
      if (set && done()) return;
      if (!set) {
        alarm = noon;  // do_set_alarm(), with nothing between it and the sleep
        arm_timer();
      }
      const auto edge = [](const void* self) { return static_cast<const timer_state*>(self)->edge; };
      step("blocks on", &timer, {edge, &timer});
    }
  }
  bool done() const { return alarm == never && woken == ringers; }

  void poll() {
    // hush()
    if (bell_rung.load(std::memory_order_relaxed)) heard_bell();
    // collect()
    step("looks at", &timer);
    if (!timer.edge) return;
    timer.edge = false;
    keel::test::detail::known().join(timer.seen);
    heard_bell();
  }

  void heard_bell() {
    const bool asked_before = broken == mutation::hears_then_asks && take_wish();
    bell_rung.store(false, std::memory_order_seq_cst);
    if (alarm == noon && clock_is_past_noon) alarm = never;
    if (alarm != never && broken != mutation::forgets_alarm) arm_timer();
    if (broken == mutation::hears_then_asks ? asked_before : take_wish()) count();
  }
  bool take_wish() { return wake_wanted.exchange(false, std::memory_order_seq_cst); }
  void count() {
    woken = 0;
    for (unsigned i = 0; i < ringers; ++i) woken += wants[i].load(std::memory_order_relaxed) ? 1 : 0;
  }

  void arm_timer() {
    set_timer(alarm);
    if (bell_rung.load(std::memory_order_seq_cst) && broken != mutation::arms_blindly) set_timer(at_once);
  }

  const unsigned ringers;
  const bool alarm_is_far;  // too far for it to mend what was lost
  const mutation broken;
  timer_state timer;
  atomic<bool> wake_wanted{false};
  atomic<bool> bell_rung{false};
  atomic<bool> wants[2];
  unsigned alarm = never;
  bool clock_is_past_noon = false;
  unsigned woken = 0;
};

findings run(unsigned ringers, bool alarm_is_far, mutation m, const exploration& how = {}) {
  return explore<one_timer>(how, ringers, alarm_is_far, m);
}

constexpr bool near = false;
constexpr bool far = true;
constexpr const char* lost = "nobody can go on: owner: blocks on the timer";

}  // namespace

TEST_CASE("alarm model, B11: neither a bell nor the alarm is lost on the one timer") {
  CHECK(run(1, near, mutation::none).problem() == "");
  CHECK(run(1, far, mutation::none).problem() == "");
  CHECK(run(2, far, mutation::none, {.stale_reads = 0}).problem() == "");
  CHECK(run(2, near, mutation::none, {.preemptions = 2, .stale_reads = 0}).problem() == "");
}

TEST_CASE("alarm model, B11: mutations lose a bell or the alarm") {
  CHECK(run(1, far, mutation::arms_blindly).failed_with(lost));
  CHECK(run(1, near, mutation::forgets_alarm).failed_with(lost));
  CHECK(run(1, far, mutation::bell_is_late).failed_with(lost));
  CHECK(run(2, near, mutation::hears_then_asks).failed_with(lost));
}
