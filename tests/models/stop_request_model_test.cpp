// Requests to stop, sent by several threads to one scheduler in one message: runtime::request_stop.

#include <keel/runtime/inbox.hpp>
#include <keel/runtime/merged_request.hpp>

#include <doctest/doctest.h>

#include "models/memory.hpp"

using keel::test::atomic;
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
  opens_late,       // the level is read, and then the message may be sent again
  raises_late,      // whether to send is decided before the level is raised
  reads_next_late,  // the list goes on from a message that was delivered
};

struct letter {
  plain<letter*> next{nullptr};
};

// The two halves of merged_request in the wrong order; else the same.
struct broken_request {
  bool raise(int level) {
    const bool first = !raised.exchange(true);
    int before = highest.load();
    while (before < level && !highest.compare_exchange_weak(before, level)) {
    }
    return first;
  }
  bool raise_rightly(int level) {
    int before = highest.load();
    while (before < level && !highest.compare_exchange_weak(before, level)) {
    }
    return !raised.exchange(true);
  }
  int open() {
    const int level = highest.load();
    raised.store(false);
    return level;
  }
  int open_rightly() {
    raised.store(false);
    return highest.load();
  }
  atomic<bool> raised{false};
  atomic<int> highest{0};
};

// Two threads ask: gracefully (1) and hard (2). A third sends something else. A scheduler runs until it has
// heard of the hard stop and of the other message, and is then gone.
struct stopping : model {
  explicit stopping(mutation m) : broken(m) {
    label(&request, "the request");
    label(&other, "the other message");
    label(&wake, "the wake");
  }
  unsigned threads() const override { return 3; }
  const char* name(unsigned thread) const override {
    static constexpr const char* names[] = {"asks gracefully", "asks hard", "scheduler"};
    return names[thread];
  }

  void run(unsigned thread) override {
    if (thread == 2) {
      while (level < 2 || others < 1) turn();
      return;
    }
    if (thread == 0) post(other);
    if (raise(thread == 0 ? 1 : 2)) post(request);
  }

  bool raise(int wanted) {
    if (broken == mutation::raises_late) return wrong.raise(wanted);
    if (broken == mutation::opens_late) return wrong.raise_rightly(wanted);
    return merged.raise(wanted);
  }
  int open() {
    if (broken == mutation::raises_late) return wrong.open_rightly();
    if (broken == mutation::opens_late) return wrong.open();
    return merged.open();
  }

  void post(letter& l) {
    if (in.push(l)) wake.ring();
  }

  void turn() {
    letter* oldest = in.take_all();
    while (oldest != nullptr) {
      letter& one = *oldest;
      if (broken != mutation::reads_next_late) oldest = one.next;
      if (&one == &request) {
        const int raised = open();
        expect(raised >= level, "a level was lowered");
        level = raised;
      } else {
        ++others;
      }
      if (broken == mutation::reads_next_late) oldest = one.next;
    }
    if (level == 2 && others == 1) return;
    if (in.announce_sleep()) {
      wake.wait();
    } else {
      (void)wake.hear();
    }
    in.awake();
  }

  void finish() override { expect(others == 1, "a message was delivered twice"); }

  const mutation broken;
  keel::inbox<letter, model_atomics> in;
  keel::detail::merged_request<int, model_atomics> merged;
  broken_request wrong;
  bell wake;
  letter request;
  letter other;
  int level = 0;
  int others = 0;
};

findings run(const exploration& how, mutation m = mutation::none) {
  return explore<stopping>(how, m);
}

constexpr const char* left_asleep = "nobody can go on: scheduler: sleeps until the wake";

}  // namespace

TEST_CASE("stop request model, B11: the highest level arrives, whatever was on the way") {
  CHECK(run({}).problem() == "");
}

TEST_CASE("stop request model, B11: mutations lose the level, or the rest of the inbox") {
  CHECK(run({}, mutation::opens_late).failed_with(left_asleep));
  CHECK(run({}, mutation::raises_late).failed_with(left_asleep));
  CHECK(run({}, mutation::reads_next_late).failed());
  CHECK(run({.weaken = {std::memory_order_seq_cst, std::memory_order_acq_rel}}).failed());
}
