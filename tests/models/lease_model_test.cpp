// Buffers that readers on other threads give back while the owner of the pool starves, and the end of the
// pool. Transcribes give_back, collect, detach and drop_shares of kevent_sys/buffer_pool.cpp, and how an
// engine parks: starve(), unpark() and may_sleep() of the epoll engine, park() and do_poll() of the uring
// engine.

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
using keel::test::plain;

namespace {

enum class mutation {
  none,
  relaxed_look,       // whether something came back is looked at without an order
  starves_late,       // it looks for buffers, and then says that it starves
  rings_before_push,  // whether somebody starves is asked before the buffer is in the list
  reader_holds_not,   // a reader inside give_back() does not keep the pool
  relaxed_collect,    // buffers are taken without what was done to them
  leases_hold_not,    // after the end leases do not keep the pool
  closes_unseen,      // the list is closed without a look whether something came meanwhile
};

constexpr std::uint32_t closed = ~std::uint32_t{0};
constexpr unsigned buffers = 2;

// Each buffer is with a reader of its own; the owner waits for `wants` of them, and then ends.
struct leases : model {
  leases(unsigned wanted, mutation m) : wants(wanted), broken(m), relaxed_look(m == mutation::relaxed_look) {
    label(&remote, "the list");
    label(&starving, "starving");
    label(&shares, "the shares");
    label(&alarm, "the alarm");
  }
  unsigned threads() const override { return buffers + 1; }
  const char* name(unsigned thread) const override {
    static constexpr const char* names[] = {"reader 1", "reader 2", "owner"};
    return names[thread];
  }
  void run(unsigned thread) override {
    if (thread == buffers) {
      own();
    } else {
      bytes[thread] = 1;  // it reads, say
      give_back(thread);
    }
  }

  void own() {
    for (unsigned used = 0; used < wants;) {
      collect();
      if (home == 0) {
        park();
        continue;
      }
      --home;
      ++used;
    }
    detach();
  }

  // Nothing is at home: it says so, looks once more, and sleeps.
  void park() {
    if (broken != mutation::starves_late) starving.store(true, std::memory_order_seq_cst);
    collect();
    if (broken == mutation::starves_late) starving.store(true, std::memory_order_seq_cst);
    if (home == 0) alarm.wait();
    starving.store(false, std::memory_order_seq_cst);
  }

  void collect() {
    const auto order = relaxed_look ? std::memory_order_relaxed : std::memory_order_seq_cst;
    if (remote.load(order) == 0) return;
    std::uint32_t head = remote.exchange(
        0, broken == mutation::relaxed_collect ? std::memory_order_relaxed : std::memory_order_acquire);
    while (head != 0) {
      const std::uint32_t id = head - 1;
      head = next[id];
      expect(bytes[id] == 1, "a buffer came back before its reader was done");
      bytes[id] = 0;
      --away;
      ++home;
    }
  }

  void give_back(std::uint32_t id) {
    touch();
    if (broken != mutation::reader_holds_not) shares.fetch_add(1, std::memory_order_relaxed);
    const bool early = broken == mutation::rings_before_push && starving.load(std::memory_order_seq_cst);
    std::uint32_t head = remote.load(std::memory_order_relaxed);
    do {
      if (head == closed) {
        drop_shares(broken == mutation::reader_holds_not ? 1 : 2);
        return;
      }
      next[id] = head;
    } while (
        !remote.compare_exchange_weak(head, id + 1, std::memory_order_seq_cst, std::memory_order_relaxed));
    const bool late = broken != mutation::rings_before_push && starving.load(std::memory_order_seq_cst);
    touch();
    if (early || late) alarm.ring();
    if (broken != mutation::reader_holds_not) drop_shares(1);
  }

  void detach() {
    std::uint32_t given = 0;
    if (broken == mutation::closes_unseen) {
      collect();
      given = away;
      shares.fetch_add(given, std::memory_order_relaxed);
      (void)remote.exchange(closed, std::memory_order_acq_rel);
      drop_shares(1);
      return;
    }
    std::uint32_t expected = 0;
    do {
      collect();
      drop_shares(given);
      given = broken == mutation::leases_hold_not ? 0 : away;
      shares.fetch_add(given, std::memory_order_relaxed);
      expected = 0;
    } while (!remote.compare_exchange_strong(expected, closed, std::memory_order_acq_rel));
    drop_shares(1);
  }

  void drop_shares(std::uint32_t n) {
    if (n == 0 || shares.fetch_sub(n, std::memory_order_acq_rel) != n) return;
    expect(++destroyed == 1, "the pool is destroyed twice");
    for (plain<int>& b : bytes) b = 0;
  }
  void touch() { expect(destroyed == 0, "the pool is used after its end"); }

  void finish() override { expect(destroyed == 1, "the pool is never destroyed"); }

  const unsigned wants;
  const mutation broken;
  const bool relaxed_look;
  atomic<std::uint32_t> shares{1};
  atomic<std::uint32_t> remote{0};
  atomic<bool> starving{false};
  bell alarm;
  plain<std::uint32_t> next[buffers];
  plain<int> bytes[buffers];
  unsigned home = 0;
  unsigned away = buffers;
  unsigned destroyed = 0;
};

findings run(unsigned wants, mutation m = mutation::none, const exploration& how = {}) {
  return explore<leases>(how, wants, m);
}

constexpr const char* asleep = "nobody can go on: owner: sleeps until the alarm";

}  // namespace

TEST_CASE("lease model, E1: no owner sleeps while a buffer is at home") {
  CHECK(run(1).problem() == "");
  CHECK(run(2).problem() == "");
}

TEST_CASE("lease model, C1: the pool goes once, after its engine, its leases, and whoever gives one back") {
  CHECK(run(0).problem() == "");
}

TEST_CASE("lease model, E1: mutations leave the owner asleep") {
  CHECK(run(1, mutation::relaxed_look, {.stale_reads = 2}).failed_with(asleep));
  CHECK(run(1, mutation::starves_late).failed_with(asleep));
  CHECK(run(1, mutation::rings_before_push).failed_with(asleep));
}

TEST_CASE("lease model, C1: mutations use a pool or a buffer too early, or too late") {
  CHECK(run(0, mutation::reader_holds_not).failed());
  CHECK(run(0, mutation::leases_hold_not).failed());
  CHECK(run(0, mutation::closes_unseen).failed_with("the pool is never destroyed"));
  CHECK(run(1, mutation::relaxed_collect).failed_with("data race"));
}
