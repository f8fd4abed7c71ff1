#include <keel/runtime/futex.hpp>

#include <keel/kevent_sys/sim_engine.hpp>
#include <keel/runtime/run.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <atomic>
#include <functional>
#include <memory>
#include <ostream>
#include <random>
#include <thread>
#include <vector>

#include "support/in_child.hpp"
#include "support/in_runtime.hpp"
#include "support/seed.hpp"
#include "support/skip.hpp"
#include "support/sweep.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::futex_scope;
using keel::futex_wait;
using keel::futex_wake;
using keel::result;
using keel::task;
using keel::test::in_runtime;
using keel::test::some_turns;

namespace {

using word = std::atomic<std::uint32_t>;

task<result<void>> wait_for(const word& w, std::uint32_t expected, futex_scope scope) {
  co_return co_await futex_wait(w, expected, scope);
}
task<result<void>> wait_here(const word& w, std::uint32_t expected) {
  return wait_for(w, expected, futex_scope::process);
}

// An io_uring before Linux 6.7 cannot wait for futexes.
bool cannot_wait_here() {
  static const bool cannot = [] {
    bool answer = false;
    in_runtime([&]() -> task<> {
      const word w{1};
      const auto changed = co_await futex_wait(w, 0);
      answer = !changed;
      if (answer) CHECK(changed.error() == std::errc::function_not_supported);
    });
    return answer;
  }();
  if (cannot) keel::test::skip("this engine cannot wait for futexes");
  return cannot;
}

}  // namespace

TEST_CASE("futex: a word that holds something else already ends the wait at once, as success") {
  if (cannot_wait_here()) return;
  in_runtime([]() -> task<> {
    const word w{1};
    for (const auto scope : {futex_scope::process, futex_scope::shared}) {
      const auto changed = co_await futex_wait(w, 0, scope);
      CHECK(changed);
    }
  });
}

TEST_CASE("futex: a foreign thread wakes a task, first of all the one that makes the process two-threaded") {
  if (cannot_wait_here()) return;
  // In a process of its own: it has no second thread when the wait begins, and gets one while it lasts.
  const auto end = keel::test::in_child([] {
    word w{0};
    bool woken = false;
    in_runtime([&]() -> task<> {
      auto waiting = keel::spawn(wait_here, std::cref(w), 0u);
      co_await some_turns();
      std::thread other([&w] {
        w = 1;
        futex_wake(w);
      });
      const auto ended = co_await std::move(waiting);
      woken = ended.has_value();
      other.join();
    });
    return woken ? 0 : 1;
  });
  CHECK(end.exit_code == 0);
}

TEST_CASE("futex: a task and a thread pass a turn back and forth") {
  if (cannot_wait_here()) return;
  constexpr std::uint32_t turns = 2000;
  word w{0};
  std::thread other([&w] {
    for (std::uint32_t i = 0; i < turns; i += 2) {
      // libstdc++ waits for a word of this size itself, as for one that is shared.
      for (std::uint32_t seen = w; seen != i + 1; seen = w) w.wait(seen);
      w = i + 2;
      futex_wake(w);
    }
  });
  in_runtime([&w]() -> task<> {
    for (std::uint32_t i = 0; i < turns; i += 2) {
      w = i + 1;
      futex_wake(w, 1, futex_scope::shared);
      for (std::uint32_t seen = w; seen != i + 2; seen = w) {
        const auto ended = co_await futex_wait(w, seen);
        CHECK(ended);
        if (!ended) co_return;
      }
    }
  });
  other.join();
  CHECK(w == turns);
}

TEST_CASE("futex: a wake that asks for one wakes one") {
  if (cannot_wait_here()) return;
  in_runtime([]() -> task<> {
    word w{0};
    auto one = keel::spawn(wait_here, std::cref(w), 0u);
    auto other = keel::spawn(wait_here, std::cref(w), 0u);
    co_await some_turns();
    if (keel::scheduler::current()->engine_info().name == std::string("uring")) {
      CHECK(futex_wake(w) == 1);
      co_await some_turns(20);
      CHECK(one.done() != other.done());
    }
    w = 1;
    futex_wake(w, 2);
    const auto first = co_await std::move(one);
    const auto second = co_await std::move(other);
    CHECK(first);
    CHECK(second);
    CHECK(futex_wake(w, 2) == 0);
  });
}

TEST_CASE("futex: a word in a shared mapping is woken by another process") {
  if (cannot_wait_here()) return;
  void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  auto& w = *::new (memory) word(0);
  // [0]: the child may go on.
  int ends[2] = {-1, -1};
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    char byte = 0;
    static_cast<void>(::read(ends[0], &byte, 1));
    w = 7;
    futex_wake(w, 1, futex_scope::shared);
    ::_exit(0);
  }
  in_runtime([&]() -> task<> {
    auto waiting = keel::spawn(wait_for, std::cref(w), 0u, futex_scope::shared);
    co_await some_turns();
    CHECK(::write(ends[1], "x", 1) == 1);
    const auto ended = co_await std::move(waiting);
    CHECK(ended);
    CHECK(w == 7);
  });
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  ::close(ends[0]);
  ::close(ends[1]);
  ::munmap(memory, 4096);
}

TEST_CASE("futex: a stop ends the wait, before it and during it") {
  if (cannot_wait_here()) return;
  in_runtime([]() -> task<> {
    const word w{0};
    for (const bool during : {false, true}) {
      auto waiting = keel::spawn(wait_here, std::cref(w), 0u);
      if (during) co_await some_turns();
      waiting.request_stop();
      const auto ended = co_await std::move(waiting);
      CHECK(ended.error() == errc::operation_canceled);
    }
    const auto late = co_await keel::with_timeout(1ms, futex_wait(w, 0));
    CHECK(late.error() == errc::timed_out);
  });
}

TEST_CASE("futex: a wake that races a stop is not lost: either it finds nobody, or the wait succeeds") {
  if (cannot_wait_here()) return;
  const bool counts = [] {
    keel::runtime rt;
    // On epoll a wake may be taken by the thread that waits for all, as it says.
    return rt.at(0).engine_info().name == std::string("uring");
  }();
  const std::uint64_t seed = keel::test::chosen_seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  constexpr int rounds = 500;
  int woken = 0;
  int succeeded = 0;
  in_runtime([&]() -> task<> {
    for (int i = 0; i < rounds; ++i) {
      const word w{0};
      auto waiting = keel::spawn(wait_here, std::cref(w), 0u);
      co_await some_turns(2);
      std::atomic<int> says{-1};
      const unsigned spins = unsigned(random() % 2000);
      std::thread waker([&] {
        for (unsigned k = 0; k < spins; ++k) std::atomic_signal_fence(std::memory_order_seq_cst);
        says = int(futex_wake(w));
      });
      waiting.request_stop();
      const auto ended = co_await std::move(waiting);
      waker.join();
      woken += says;
      if (ended) ++succeeded;
      if (!ended) CHECK(ended.error() == errc::operation_canceled);
    }
  });
  if (counts) CHECK(woken == succeeded);
}

TEST_CASE("futex: an address that is none is EFAULT, or the word's own change") {
  if (cannot_wait_here()) return;
  in_runtime([]() -> task<> {
    void* memory = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    const auto& w = *static_cast<const word*>(memory);
    const auto ended = co_await futex_wait(w, 0);
    CHECK(ended.error() == std::errc::bad_address);
    ::munmap(memory, 4096);
  });
}

TEST_CASE("futex: stopped at every point it leaves nothing behind") {
  if (cannot_wait_here()) return;
  auto waits = [](word& w) -> task<> {
    for (std::uint32_t i = 0; i < 4; ++i) {
      const auto ended = co_await futex_wait(w, i);
      if (!ended) co_return;
    }
  };
  auto wakes = [](word& w) -> task<> {
    for (int i = 0; i < 4; ++i) {
      co_await some_turns(2);
      ++w;
      futex_wake(w);
    }
  };
  const unsigned runs = keel::test::sweep([&](keel::runtime& rt) {
    auto made = std::make_unique<word>(0);
    rt.spawn(waits, std::ref(*made));
    rt.spawn(wakes, std::ref(*made));
    return made;
  });
  CHECK(runs > 4);
}

TEST_CASE("futex: many words at once") {
  if (cannot_wait_here()) return;
  in_runtime([]() -> task<> {
    std::vector<word> words(100);
    std::vector<keel::join_handle<result<void>>> waiting;
    for (const word& w : words) waiting.push_back(keel::spawn(wait_here, std::cref(w), 0u));
    co_await some_turns();
    std::thread other([&] {
      for (word& w : words) {
        w = 1;
        futex_wake(w);
      }
    });
    for (auto& each : waiting) {
      const auto ended = co_await std::move(each);
      CHECK(ended);
    }
    other.join();
  });
}
