// Who is inside a shared queue while it is closed. Transcribes visit, leave, close and add of
// kevent_sys/queue_table.cpp.

#include <doctest/doctest.h>

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
using keel::test::plain;
using keel::test::step;

namespace {

enum class mutation {
  none,
  looks_then_enters,  // a visitor takes the queue, and then says that it is inside
  leaves_silently,    // the last visitor does not tell who closes
  waits_then_marks,   // a close waits for the visitors, and then keeps new ones out
  clears_blindly,     // a close that is done takes away the queue that has the number now
  weak_count,         // visitors are counted without an order
};

// Values of `queue`.
constexpr unsigned none = 0;
constexpr unsigned closing = 1;
constexpr unsigned first_queue = 2;
constexpr unsigned second_queue = 3;

// Two threads visit the number; a third closes its queue, and another queue gets the number as soon as it is
// free.
struct table : model {
  explicit table(mutation m) : broken(m) {
    label(&queue, "the number");
    label(&inside, "the visitors");
  }
  unsigned threads() const override { return 4; }
  const char* name(unsigned thread) const override {
    static constexpr const char* names[] = {"visitor 1", "visitor 2", "closer", "newcomer"};
    return names[thread];
  }
  void run(unsigned thread) override {
    switch (thread) {
      case 2: close(); break;
      case 3: add(); break;
      default: visit(thread);
    }
  }

  void visit(unsigned me) {
    const unsigned seen = queue.load();
    if (seen == none) return;
    inside.fetch_add(1,
                     broken == mutation::weak_count ? std::memory_order_relaxed : std::memory_order_seq_cst);
    const unsigned q = broken == mutation::looks_then_enters ? seen : queue.load();
    if (q >= first_queue) {
      step("uses the queue");
      expect(!deleted[q], "a queue is used that has gone");
      used[q][me] = 1;
    }
    leave();
  }

  void leave() {
    const auto order = broken == mutation::weak_count ? std::memory_order_relaxed : std::memory_order_seq_cst;
    if (inside.fetch_sub(1, order) != 1) return;
    if (queue.load() == closing && broken != mutation::leaves_silently) futex_wake(inside, 1);
  }

  void wait_for_visitors() {
    for (std::uint32_t n = inside.load(); n != 0; n = inside.load()) futex_wait(inside, n);
  }

  void close() {
    if (broken == mutation::waits_then_marks) wait_for_visitors();
    unsigned expected = first_queue;
    (void)queue.compare_exchange_strong(expected, closing);
    if (broken != mutation::waits_then_marks) wait_for_visitors();
    // Its destructor looks at what the visitors did, and then closes the descriptor.
    for (plain<int>& u : used[first_queue]) u = 2;
    deleted[first_queue] = true;
    number_is_free = true;
    step("has closed the descriptor");
    expected = closing;
    if (broken == mutation::clears_blindly) {
      queue.store(none);
    } else {
      (void)queue.compare_exchange_strong(expected, none);
    }
  }

  void add() {
    const auto is_free = [](const void* self) { return *static_cast<const bool*>(self); };
    step("waits for the number", nullptr, {is_free, &number_is_free});
    queue.store(second_queue);
  }

  void finish() override {
    expect(queue.now() == second_queue, "the new queue has lost its number");
    expect(inside.now() == 0, "somebody is counted who is not inside");
  }

  const mutation broken;
  atomic<unsigned> queue{first_queue};
  atomic<std::uint32_t> inside{0};
  plain<int> used[4][2];
  bool deleted[4] = {};
  bool number_is_free = false;
};

findings run(mutation m, const exploration& how = {}) {
  return explore<table>(how, m);
}

}  // namespace

TEST_CASE(
    "queue table model, D2 K5: a queue goes after the last who is inside, and the number is free again") {
  CHECK(run(mutation::none).problem() == "");
}

TEST_CASE("queue table model, D2 K5: mutations use a queue that has gone, or wait for ever") {
  CHECK(run(mutation::looks_then_enters).failed());
  CHECK(run(mutation::leaves_silently).failed_with("nobody can go on: closer: sleeps on the visitors"));
  CHECK(run(mutation::waits_then_marks).failed());
  CHECK(run(mutation::clears_blindly).failed_with("the new queue has lost its number"));
  CHECK(run(mutation::weak_count).failed());
  CHECK(run(mutation::none, {.weaken = {std::memory_order_seq_cst, std::memory_order_acq_rel}}).failed());
}
