// The inbox of a scheduler, as it is, and the sleep of scheduler::turn.

#include <keel/runtime/inbox.hpp>

#include <doctest/doctest.h>

#include "models/memory.hpp"

using keel::test::bell;
using keel::test::expect;
using keel::test::exploration;
using keel::test::explore;
using keel::test::findings;
using keel::test::label;
using keel::test::model;
using keel::test::model_atomics;
using keel::test::plain;

namespace {

enum class mutation {
  none,
  looks_no_second_time,  // it sleeps whatever announce_sleep() says
  looks_before,          // it looks, and then announces that it sleeps
  awake_too_early,       // it takes back the announcement, and then it sleeps
};

struct letter {
  plain<letter*> next{nullptr};
  plain<int> text{0};
  plain<int> delivered{0};
};

using box = keel::inbox<letter, model_atomics>;

// `senders` threads send `each` messages; the last thread is a scheduler.
struct posting : model {
  static constexpr unsigned senders_max = 3;
  static constexpr unsigned each_max = 2;

  posting(unsigned senders_wanted, unsigned each_wanted, mutation m)
      : senders(senders_wanted), each(each_wanted), broken(m) {
    static constexpr const char* names[] = {"m1", "m2", "m3", "m4", "m5", "m6"};
    for (unsigned i = 0; i < senders * each; ++i) label(&letters[i], names[i]);
    label(&wake, "the wake");
  }

  unsigned threads() const override { return senders + 1; }
  const char* name(unsigned thread) const override {
    static constexpr const char* names[] = {"sender 1", "sender 2", "sender 3"};
    return thread == senders ? "scheduler" : names[thread];
  }

  void run(unsigned thread) override {
    if (thread == senders) {
      while (received < senders * each) turn();
      return;
    }
    for (unsigned i = 0; i < each; ++i) {
      letter& mine = letters[thread * each + i];
      mine.text = 1 + static_cast<int>(i);
      if (!in.push(mine)) continue;
      ++rings;
      wake.ring();
    }
  }

  // scheduler::turn
  void turn() {
    deliver(in.take_all());
    if (received == senders * each) return;
    bool sleeps = false;
    if (broken == mutation::looks_before) {
      deliver(in.take_all());
      sleeps = received < senders * each;
      (void)in.announce_sleep();
    } else {
      sleeps = in.announce_sleep() || broken == mutation::looks_no_second_time;
    }
    ++announced;
    if (broken == mutation::awake_too_early) in.awake();
    if (sleeps) {
      wake.wait();
    } else {
      (void)wake.hear();
    }
    in.awake();
  }

  // scheduler::take_messages
  void deliver(letter* oldest) {
    while (oldest != nullptr) {
      letter& one = *oldest;
      oldest = one.next;
      // A sender's messages keep their order.
      const auto index = static_cast<unsigned>(&one - letters);
      expect(one.text == 1 + last[index / each], "a sender has overtaken itself, or a message came twice");
      ++last[index / each];
      ++received;
    }
  }

  void finish() override {
    expect(received == senders * each, "a message was lost");
    expect(rings <= announced, "one sleep was woken twice");
  }

  const unsigned senders;
  const unsigned each;
  const mutation broken;
  box in;
  bell wake;
  letter letters[senders_max * each_max];
  int last[senders_max] = {};
  unsigned received = 0;
  unsigned rings = 0;
  unsigned announced = 0;
};

findings run(const exploration& how, unsigned senders, unsigned each, mutation m = mutation::none) {
  return explore<posting>(how, senders, each, m);
}

constexpr auto acquire = std::memory_order_acquire;
constexpr auto acq_rel = std::memory_order_acq_rel;
constexpr auto relaxed = std::memory_order_relaxed;
constexpr auto seq_cst = std::memory_order_seq_cst;
constexpr const char* left_asleep = "nobody can go on: scheduler: sleeps until the wake";

}  // namespace

TEST_CASE("inbox model, B11: each message arrives once and in order, and no sleeper is left with one") {
  CHECK(run({}, 1, 2).problem() == "");
  CHECK(run({}, 2, 1).problem() == "");
  CHECK(run({.stale_reads = 0}, 2, 2).problem() == "");
  CHECK(run({.preemptions = 2, .stale_reads = 0}, 3, 1).problem() == "");
}

TEST_CASE("inbox model, B11: mutations of the sleep protocol lose a wake-up") {
  CHECK(run({}, 2, 1, mutation::looks_no_second_time).failed_with(left_asleep));
  CHECK(run({}, 2, 1, mutation::looks_before).failed_with(left_asleep));
  CHECK(run({}, 2, 1, mutation::awake_too_early).failed_with(left_asleep));
}

TEST_CASE("inbox model, B11: weaker orders lose a wake-up, or hand over a message that is not written yet") {
  CHECK(run({.weaken = {seq_cst, acq_rel}}, 1, 1).failed_with(left_asleep));
  CHECK(run({.weaken = {seq_cst, relaxed}}, 1, 1).failed());
  CHECK(run({.weaken = {acquire, relaxed}}, 1, 1).failed_with("data race"));
}
