#include <keel/kevent_sys/blocking_pool.hpp>

#include <doctest/doctest.h>

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <deque>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "support/build.hpp"
#include "support/death_test.hpp"
#include "support/in_child.hpp"
#include "support/pool_caller.hpp"
#include "support/seed.hpp"
#include "support/skip.hpp"

using keel::kevent_sys::blocking_call;
using keel::kevent_sys::blocking_pool;
using keel::test::gate;
using keel::test::in_child;
using keel::test::pool_call;
using keel::test::pool_caller;

namespace {

constexpr int not_possible = 99;  // exit code of a child

blocking_call at(gate& g) {
  return {.function = &gate::pass, .context = &g};
}
blocking_call nothing() {
  return {.function = [](void*) noexcept { return 0; }};
}

int pool_threads_of_process() {
  DIR* folder = ::opendir("/proc/self/task");
  REQUIRE(folder != nullptr);
  int count = 0;
  while (const dirent* entry = ::readdir(folder)) {
    std::ifstream file(std::string("/proc/self/task/") + entry->d_name + "/comm");
    std::string name;
    count += std::getline(file, name) && name == "keel-call";
  }
  ::closedir(folder);
  return count;
}

// What `function` returns on a thread of a pool.
std::int32_t on_a_thread(std::int32_t (*function)(void*) noexcept, void* context = nullptr) {
  pool_caller caller;
  pool_call call({.function = function, .context = context});
  caller.submit(call);
  REQUIRE(caller.finish(call));
  return call.value;
}

bool wait_for_threads(const blocking_pool& pool, std::uint32_t threads) {
  const auto limit = std::chrono::steady_clock::now() + keel::test::patience;
  while (pool.counters().threads != threads) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace

TEST_CASE("blocking_pool: there is no thread before the first call, and none is left after the pool") {
  {
    blocking_pool pool;
    pool_caller caller(&pool);
    CHECK(pool_threads_of_process() == 0);
    pool_call call(nothing());
    caller.submit(call);
    REQUIRE(caller.finish(call));
    CHECK(pool_threads_of_process() == 1);
    CHECK(pool.counters().threads == 1);
    CHECK(pool.counters().completed == 1);
  }
  CHECK(pool_threads_of_process() == 0);
}

TEST_CASE("blocking_pool: calls one after the other share one thread") {
  blocking_pool pool;
  pool_caller caller(&pool);
  for (int i = 0; i < 100; ++i) {
    pool_call call(nothing());
    caller.submit(call);
    REQUIRE(caller.finish(call));
    // The thread wakes us before it is idle again.
    while (pool.counters().idle == 0) std::this_thread::yield();
  }
  CHECK(pool.counters().started == 1);
}

TEST_CASE("blocking_pool: calls that block get threads up to the limit; the others wait for one") {
  blocking_pool pool({.threads_max = 3});
  gate closed_gate;
  pool_caller caller(&pool);
  std::deque<pool_call> calls;
  for (int i = 0; i < 10; ++i) caller.submit(calls.emplace_back(at(closed_gate)));
  REQUIRE(closed_gate.wait_for(3));
  CHECK(pool.counters().threads == 3);
  CHECK(pool.counters().queued == 7);
  CHECK(closed_gate.count() == 3);
  closed_gate.open();
  REQUIRE(caller.turn_until([&] { return caller.calls.out() == 0; }));
  CHECK(pool.counters().threads_peak == 3);
  CHECK(pool.counters().completed == 10);
  CHECK(pool.counters().queued == 0);
}

TEST_CASE("blocking_pool: a call that finds the queue full is refused, and nobody else is") {
  blocking_pool pool({.threads_max = 1, .queue_max = 2});
  gate closed_gate;
  pool_caller caller(&pool);
  std::deque<pool_call> calls;
  caller.submit(calls.emplace_back(at(closed_gate)));
  REQUIRE(closed_gate.wait_for(1));
  for (int i = 0; i < 4; ++i) caller.submit(calls.emplace_back(at(closed_gate)));
  CHECK(pool.counters().refused == 2);
  caller.collect();
  CHECK(calls[3].value == -EAGAIN);
  CHECK(calls[4].value == -EAGAIN);
  CHECK(caller.calls.out() == 3);
  closed_gate.open();
  REQUIRE(caller.turn_until([&] { return caller.calls.out() == 0; }));
  for (const pool_call& call : calls) CHECK(call.answers == 1);
}

TEST_CASE("blocking_pool: engines take turns: a flood of one does not delay the call of another") {
  blocking_pool pool({.threads_max = 1});
  gate closed_gate;
  pool_caller flooder(&pool);
  pool_caller other(&pool);
  std::deque<pool_call> flood;
  for (int i = 0; i < 100; ++i) flooder.submit(flood.emplace_back(at(closed_gate)));
  REQUIRE(closed_gate.wait_for(1));
  pool_call call(at(closed_gate));
  other.submit(call);
  closed_gate.open();
  REQUIRE(other.finish(call));
  CHECK(call.value <= 3);  // the one that ran, one more of the flood, and this
  REQUIRE(flooder.turn_until([&] { return flooder.calls.out() == 0; }));
}

TEST_CASE("blocking_pool: threads with nothing to do end, down to none, and start again") {
  blocking_pool pool({.threads_max = 4, .idle_ns = 1'000'000});
  pool_caller caller(&pool);
  for (int round = 0; round < 3; ++round) {
    gate g;
    std::deque<pool_call> calls;
    for (int i = 0; i < 4; ++i) caller.submit(calls.emplace_back(at(g)));
    REQUIRE(g.wait_for(4));
    g.open();
    REQUIRE(caller.turn_until([&] { return caller.calls.out() == 0; }));
    REQUIRE(wait_for_threads(pool, 0));
  }
  CHECK(pool.counters().idle == 0);
  CHECK(pool.counters().started == 12);
  CHECK(pool.counters().threads_peak == 4);
}

TEST_CASE("I1: blocking_pool: its threads take no signal of the program's, but those of their own faults") {
  const auto wrong_signals = [](void*) noexcept {
    sigset_t blocked;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    std::int32_t wrong = 0;
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGUSR1, SIGALRM, SIGPIPE, SIGPROF})
      wrong += ::sigismember(&blocked, signal) != 1;
    for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS})
      wrong += ::sigismember(&blocked, signal) != 0;
    return wrong;
  };
  sigset_t before;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &before);
  CHECK(on_a_thread(wrong_signals) == 0);
  sigset_t after;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &after);
  for (int signal = 1; signal < 32; ++signal)
    CHECK(::sigismember(&before, signal) == ::sigismember(&after, signal));
}

TEST_CASE("blocking_pool: its threads have a name") {
  const auto is_named = [](void*) noexcept {
    char name[32] = "";
    ::pthread_getname_np(::pthread_self(), name, sizeof name);
    return std::int32_t{std::strcmp(name, "keel-call") == 0};
  };
  CHECK(on_a_thread(is_named) == 1);
}

TEST_CASE("blocking_pool: its threads are not pinned where the caller is") {
  cpu_set_t all;
  REQUIRE(::sched_getaffinity(0, sizeof all, &all) == 0);
  if (CPU_COUNT(&all) < 2) return keel::test::skip("this process has one CPU");
  blocking_pool pool;
  cpu_set_t seen;
  std::thread([&] {
    int first = 0;
    while (!CPU_ISSET(first, &all)) ++first;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    REQUIRE(::sched_setaffinity(0, sizeof one, &one) == 0);
    pool_caller caller(&pool);
    const auto look = [](void* set) noexcept {
      return ::sched_getaffinity(0, sizeof seen, static_cast<cpu_set_t*>(set));
    };
    pool_call call({.function = look, .context = &seen});
    caller.submit(call);
    REQUIRE(caller.finish(call));
  }).join();
  CHECK(CPU_EQUAL(&seen, &all));
}

TEST_CASE("I8: blocking_pool: where no thread can be had, calls are refused; with one, they take longer") {
  const auto child = in_child([] {
    // The limit is one of a user's, and does not hold for root.
    if (::geteuid() == 0 && ::setuid(uid_t(200'000 + ::getpid())) != 0) return not_possible;
    rlimit before{};
    ::getrlimit(RLIMIT_NPROC, &before);
    const rlimit tight{1, before.rlim_max};
    blocking_pool pool;
    pool_caller caller(&pool);
    pool_call refused(nothing());
    ::setrlimit(RLIMIT_NPROC, &tight);
    caller.submit(refused);
    ::setrlimit(RLIMIT_NPROC, &before);
    if (!caller.finish(refused) || refused.value != -EAGAIN) return 1;
    if (pool.counters().threads != 0 || pool.counters().queued != 0 || pool.counters().refused != 1) return 2;

    gate g;
    pool_call first(at(g));
    pool_call second(at(g));
    caller.submit(first);
    if (!g.wait_for(1)) return 3;
    ::setrlimit(RLIMIT_NPROC, &tight);
    caller.submit(second);
    ::setrlimit(RLIMIT_NPROC, &before);
    g.open();
    if (!caller.finish(second) || second.value != 2) return 4;
    if (!caller.finish(first)) return 5;
    return pool.counters().threads_peak == 1 ? 0 : 6;
  });
  if (child.exit_code == not_possible) return keel::test::skip("this process may not become another user");
  CHECK(child.exit_code == 0);
}

TEST_CASE("I3: blocking_pool: a child of fork() is refused calls, and destroys the pool without hanging") {
  if (keel::test::sanitized) return keel::test::skip("sanitizers do not follow a fork from several threads");
  auto* pool = new blocking_pool;
  auto* caller = new pool_caller(pool);
  gate closed_gate;
  pool_call runs(at(closed_gate));
  caller->submit(runs);
  REQUIRE(closed_gate.wait_for(1));
  const auto child = in_child([&] {
    ::alarm(20);
    {
      pool_caller late(pool);
      pool_call call(nothing());
      late.submit(call);
      if (!late.finish(call) || call.value != -EAGAIN) return 1;
    }
    delete pool;
    return 0;
  });
  CHECK(child.signal == 0);
  CHECK(child.exit_code == 0);
  closed_gate.open();
  REQUIRE(caller->finish(runs));
  delete caller;
  delete pool;
}

TEST_CASE("H13 I5: blocking_pool: several engines, calls taken back at any time: each is answered once") {
  blocking_pool pool({.threads_max = 4, .idle_ns = 10'000});
  const std::uint64_t seed = keel::test::chosen_seed();
  CAPTURE(seed);
  std::atomic<int> performed{0};
  std::atomic<int> taken_back{0};
  const auto count = [](void* performed_calls) noexcept {
    return static_cast<std::atomic<int>*>(performed_calls)->fetch_add(1) * 0;
  };
  constexpr int engines = 3;
  constexpr int calls_each = 3000;
  const auto engine = [&](unsigned number) {
    std::mt19937_64 random(seed + number);
    pool_caller caller(&pool);
    std::deque<pool_call> calls;
    for (int i = 0; i < calls_each; ++i) {
      caller.submit(calls.emplace_back(blocking_call{.function = count, .context = &performed}));
      if (random() % 4 == 0 && caller.calls.take_back(calls[random() % calls.size()])) ++taken_back;
      if (random() % 8 == 0) caller.collect();
      if (random() % 64 == 0) caller.turn_until([&] { return caller.calls.out() == 0; });
    }
    if (!caller.turn_until([&] { return caller.calls.out() == 0; })) std::abort();
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < engines; ++i) threads.emplace_back(engine, i);
  for (std::thread& t : threads) t.join();
  CHECK(performed + taken_back == engines * calls_each);
  CHECK(pool.counters().completed == std::uint64_t(performed));
}

TEST_CASE("blocking_pool: it must not go before its engines") {
  const auto wrong_order = [] {
    auto* pool = new blocking_pool;
    pool_caller caller(pool);
    pool_call call(nothing());
    caller.submit(call);
    caller.finish(call);
    delete pool;
  };
  CHECK_DEATH(wrong_order(), "a blocking pool was destroyed before its engines");
}
