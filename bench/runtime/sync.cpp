// What synchronisation between the tasks of one scheduler costs.
//
//     build/release/bench/sync [OPERATIONS]
//
// CPU time of this thread after a warm-up round; medians of 9 rounds; nothing is allocated in them.
//   mutex_uncontended       co_await lock(), and the guard's end, in a coroutine that nobody disturbs
//   mutex_handover          two tasks that take turns: each lock() waits until the other unlocks
//   shared_mutex_reader     as mutex_uncontended, with lock_shared()
//   semaphore_uncontended   co_await acquire() and release()
//   semaphore_handover      one permit for two tasks that take turns
//   event_set               co_await wait() of an event that is set
//   event_ping_pong         two tasks that wake one another: a set() and a wait() of an auto_event each
//   condition_ping_pong     the same by a condition, whose mutex is unlocked and locked again
//   barrier_two             two tasks: one arrive_and_wait() each
// Floors: std_mutex is pthread's, uncontended, with no coroutine at all; await_ready_answer a co_await of
// something that has nothing to do, which each of ours contains.

#include "report.hpp"

#include <keel/keel.hpp>

#include <cstdlib>
#include <mutex>

using namespace keel;

namespace {

constexpr int rounds = 9;

template <class Round>
task<> measure(const char* what, std::uint64_t operations, Round round) {
  std::vector<double> ns;
  co_await round(operations);
  for (int i = 0; i < rounds; ++i) {
    const double begin = bench::cpu_seconds();
    co_await round(operations);
    ns.push_back((bench::cpu_seconds() - begin) * 1e9 / static_cast<double>(operations));
  }
  bench::report("sync", what, ns, operations);
}

// An awaitable with nothing to do.
class ready_op : wait_point {
 public:
  ready_op() noexcept {}
  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept { return go_on(up, context); }
  result<void> take() noexcept { return {}; }
};

task<> await_ready_answer(std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) {
    const auto done = co_await ready_op();
    KEEL_ASSERT(done);
  }
}

task<> std_mutex(std::uint64_t n) {
  std::mutex m;
  for (std::uint64_t i = 0; i < n; ++i) {
    const std::lock_guard guard(m);
    asm volatile("" ::: "memory");
  }
  co_return;
}

task<> mutex_uncontended(std::uint64_t n) {
  mutex m;
  for (std::uint64_t i = 0; i < n; ++i) {
    const auto guard = co_await m.lock();
    KEEL_ASSERT(guard);
  }
}

task<> shared_mutex_reader(std::uint64_t n) {
  shared_mutex m;
  for (std::uint64_t i = 0; i < n; ++i) {
    const auto guard = co_await m.lock_shared();
    KEEL_ASSERT(guard);
  }
}

task<> semaphore_uncontended(std::uint64_t n) {
  semaphore s(1);
  for (std::uint64_t i = 0; i < n; ++i) {
    const auto acquired = co_await s.acquire();
    KEEL_ASSERT(acquired);
    s.release();
  }
}

task<> event_set(std::uint64_t n) {
  event e;
  e.set();
  for (std::uint64_t i = 0; i < n; ++i) {
    const auto happened = co_await e.wait();
    KEEL_ASSERT(happened);
  }
}

// The next lock() finds the mutex handed over to the other already.
task<> lock_in_turn(mutex& m, std::uint64_t n) {
  auto guard = co_await m.lock();
  for (std::uint64_t i = 0; i < n; ++i) {
    guard->unlock();
    guard = co_await m.lock();
  }
}

task<> mutex_handover(std::uint64_t n) {
  mutex m;
  co_await when_all(lock_in_turn(m, n / 2), lock_in_turn(m, n / 2));
}

task<> acquire_in_turn(semaphore& s, std::uint64_t n) {
  (void)co_await s.acquire();
  for (std::uint64_t i = 0; i < n; ++i) {
    s.release();
    (void)co_await s.acquire();
  }
  s.release();
}

task<> semaphore_handover(std::uint64_t n) {
  semaphore s(1);
  co_await when_all(acquire_in_turn(s, n / 2), acquire_in_turn(s, n / 2));
}

task<> play(auto_event& mine, auto_event& other, std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) {
    other.set();
    (void)co_await mine.wait();
  }
}

task<> event_ping_pong(std::uint64_t n) {
  auto_event ping;
  auto_event pong;
  co_await when_all(play(ping, pong, n / 2), play(pong, ping, n / 2));
}

struct table {
  mutex m;
  condition changed;
  int turn = 0;
};

task<> play_at(table& t, int me, std::uint64_t n) {
  auto guard = co_await t.m.lock();
  for (std::uint64_t i = 0; i < n; ++i) {
    while (t.turn != me) (void)co_await t.changed.wait(*guard);
    t.turn = 1 - me;
    t.changed.notify_one();
  }
}

task<> condition_ping_pong(std::uint64_t n) {
  table t;
  co_await when_all(play_at(t, 0, n / 2), play_at(t, 1, n / 2));
}

task<> arrive(barrier& b, std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) (void)co_await b.arrive_and_wait();
}

task<> barrier_two(std::uint64_t n) {
  barrier b(2);
  co_await when_all(arrive(b, n / 2), arrive(b, n / 2));
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t operations = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000;
  run(measure("std_mutex", operations, std_mutex));
  run(measure("await_ready_answer", operations, await_ready_answer));
  run(measure("mutex_uncontended", operations, mutex_uncontended));
  run(measure("shared_mutex_reader", operations, shared_mutex_reader));
  run(measure("semaphore_uncontended", operations, semaphore_uncontended));
  run(measure("event_set", operations, event_set));
  run(measure("mutex_handover", operations, mutex_handover));
  run(measure("semaphore_handover", operations, semaphore_handover));
  run(measure("event_ping_pong", operations, event_ping_pong));
  run(measure("condition_ping_pong", operations, condition_ping_pong));
  run(measure("barrier_two", operations, barrier_two));
}
