// A program of its own: it counts what everybody asks of operator new.

#include <keel/runtime/barrier.hpp>
#include <keel/runtime/condition.hpp>
#include <keel/runtime/event.hpp>
#include <keel/runtime/latch.hpp>
#include <keel/runtime/semaphore.hpp>
#include <keel/runtime/shared_mutex.hpp>
#include <keel/runtime/when_all.hpp>

#include <doctest/doctest.h>

#include "support/counting_new.hpp"
#include "support/in_runtime.hpp"

using namespace keel;
using keel::test::allocations;

namespace {

// Waits, is granted, and is stopped by a timeout, for each primitive.
struct table {
  event opened;
  auto_event signal;
  mutex m;
  shared_mutex shared;
  semaphore permits{1};
  barrier both{2};
  barrier lonely{2};
  condition changed;
  int turn = 0;
  int timeouts = 0;
};

template <class Op>
task<> in_vain(table& t, Op op) {
  const auto late = co_await with_timeout(nanoseconds(1), std::move(op));
  if (late.error() == errc::timed_out) ++t.timeouts;
}

task<> hold_each(table& t) {
  const auto guard = co_await t.m.lock();
  const auto shared = co_await t.shared.lock_shared();
  const auto permit = co_await t.permits.hold();
  co_await in_vain(t, t.m.lock());
  co_await in_vain(t, t.shared.lock());
  co_await in_vain(t, t.permits.acquire());
  co_await in_vain(t, t.opened.wait());
  co_await in_vain(t, t.signal.wait());
  co_await in_vain(t, t.lonely.arrive_and_wait());
}

task<> take_turns(table& t, int me, int times) {
  for (int i = 0; i < times; ++i) {
    co_await hold_each(t);
    const auto met = co_await t.both.arrive_and_wait();
    CHECK(met);
    auto guard = co_await t.m.lock();
    auto is_mine = [&t, me] { return t.turn == me; };
    const auto changed = co_await t.changed.wait(*guard, is_mine);
    CHECK(changed);
    t.turn = 1 - me;
    t.changed.notify_all();
  }
}

task<> latched(table& t, latch& l) {
  co_await take_turns(t, 0, 1);
  const auto opened = co_await l.arrive_and_wait();
  CHECK(opened);
}

task<> rounds(table& t, int times) {
  for (int i = 0; i < times; ++i) {
    latch l(1);
    co_await when_all(latched(t, l), take_turns(t, 1, 1), l.wait());
  }
}

}  // namespace

TEST_CASE("synchronisation: waits, grants, hand-overs and timeouts allocate nothing") {
  test::in_runtime([]() -> task<> {
    table t;
    co_await rounds(t, 10);
    const std::uint64_t allocated = allocations.load();
    const std::uint64_t fresh = this_thread_frames().fresh;
    const int timeouts = t.timeouts;
    co_await rounds(t, 200);
    CHECK(allocations.load() == allocated);
    CHECK(this_thread_frames().fresh == fresh);
    CHECK(t.timeouts - timeouts == 200 * 2 * 6);
  });
}
