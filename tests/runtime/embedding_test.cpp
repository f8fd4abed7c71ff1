// A runtime inside a loop of somebody else's: runtime::fd(), run_ready() and run_once().

#include <keel/runtime/blocking.hpp>
#include <keel/runtime/fd_watch.hpp>
#include <keel/runtime/futex.hpp>
#include <keel/runtime/handle.hpp>
#include <keel/runtime/runtime.hpp>
#include <keel/runtime/signals.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <cerrno>
#include <csignal>
#include <functional>
#include <optional>
#include <ostream>
#include <utility>
#include <vector>

#include "support/death_test.hpp"
#include "support/descriptors.hpp"
#include "support/fd_pairs.hpp"
#include "support/sleeping_thread.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::result;
using keel::runtime;
using keel::sleep_for;
using keel::task;
using keel::test::fd_pair;
using keel::test::when_asleep;

namespace {

constexpr int patience_ms = 20'000;

// EINTR also comes without a signal, when the kernel cleans up after a ring that this thread had before.
template <class Call>
int until_no_signal(Call call) {
  int answer = -1;
  do {
    answer = call();
  } while (answer < 0 && errno == EINTR);
  return answer;
}

// The loops in which a runtime is put: what they have in common is how little they know of it.
struct poll_loop {
  void watch(int fd) { fds.push_back({fd, POLLIN, 0}); }
  // The descriptors that are readable, at least one, or none after `limit_ms`.
  std::vector<int> wait(int limit_ms) {
    std::vector<int> readable;
    if (until_no_signal([&] { return ::poll(fds.data(), fds.size(), limit_ms); }) > 0)
      for (const pollfd& each : fds)
        if (each.revents != 0) readable.push_back(each.fd);
    return readable;
  }
  std::vector<pollfd> fds;
};

template <std::uint32_t Flags>
struct epoll_loop {
  void watch(int fd) {
    epoll_event event{};
    event.events = EPOLLIN | Flags;
    event.data.fd = fd;
    REQUIRE(::epoll_ctl(set.get(), EPOLL_CTL_ADD, fd, &event) == 0);
  }
  std::vector<int> wait(int limit_ms) {
    std::vector<int> readable;
    epoll_event events[8];
    const int n = until_no_signal([&] { return ::epoll_wait(set.get(), events, 8, limit_ms); });
    for (int i = 0; i < n; ++i) readable.push_back(events[i].data.fd);
    return readable;
  }
  keel::unique_fd set{::epoll_create1(EPOLL_CLOEXEC)};
};
using level_loop = epoll_loop<0>;
using edge_loop = epoll_loop<EPOLLET>;

// A runtime in such a loop.
template <class Loop>
struct host {
  host() { loop.watch(rt.fd()); }

  // Sleeps once; false when nothing came.
  bool step(int limit_ms = patience_ms) {
    if (loop.wait(limit_ms).empty()) return false;
    ++wakes;
    rt.run_ready();
    return true;
  }
  template <class Condition>
  bool until(Condition condition) {
    while (!condition())
      if (!step()) return false;
    return true;
  }
  // Until the loop would sleep. False: it does not come to rest.
  bool settle() {
    for (int i = 0; i < 20; ++i)
      if (!step(0)) return true;
    return false;
  }

  runtime rt;
  Loop loop;
  unsigned wakes = 0;
};

task<> read_bytes(int fd, int count, int& got) {
  keel::fd_watch watch(fd);
  while (got < count) {
    const auto ready = co_await watch.readable();
    if (!ready) co_return;
    char bytes[64];
    const auto n = ::read(fd, bytes, sizeof bytes);
    if (n > 0) got += int(n);
  }
}
task<> sleep_and_count(keel::duration d, int& count) {
  const auto slept = co_await sleep_for(d);
  if (slept) ++count;
}
task<> next_signal(int& got) {
  keel::signals usr1(SIGUSR1);
  const auto signal = co_await usr1.next();
  if (signal) got = *signal;
}

}  // namespace

TYPE_TO_STRING_AS("poll", poll_loop);
TYPE_TO_STRING_AS("epoll, level", level_loop);
TYPE_TO_STRING_AS("epoll, edge", edge_loop);

#define FOR_EACH_LOOP(title) TEST_CASE_TEMPLATE(title, Loop, poll_loop, level_loop, edge_loop)

FOR_EACH_LOOP("embedding: data ends a sleep of the host that has begun already") {
  host<Loop> h;
  const fd_pair pair = keel::test::unix_pair();
  int got = 0;
  h.rt.spawn(read_bytes, pair.ours.get(), 5, std::ref(got));
  CHECK(h.settle());
  for (int i = 0; i < 5; ++i) {
    const when_asleep put([&pair] { CHECK(::write(pair.theirs.get(), "x", 1) == 1); });
    CHECK(h.step());
    CHECK(h.settle());
    CHECK(got == i + 1);
  }
}

FOR_EACH_LOOP("embedding: a timer ends the host's sleep, not early, and a later one after it") {
  host<Loop> h;
  int fired = 0;
  const auto start = h.rt.at(0).queue().fresh_now_ns();
  h.rt.spawn(sleep_and_count, 30ms, std::ref(fired));
  h.rt.spawn(sleep_and_count, 10ms, std::ref(fired));
  CHECK(h.until([&] { return fired >= 1; }));
  CHECK(h.rt.at(0).queue().fresh_now_ns() - start >= 10'000'000);
  CHECK(h.until([&] { return fired == 2; }));
  CHECK(h.rt.at(0).queue().fresh_now_ns() - start >= 30'000'000);
}

FOR_EACH_LOOP("embedding: an earlier timer that comes later is not slept through") {
  host<Loop> h;
  int hours = 0;
  int soon = 0;
  h.rt.spawn(sleep_and_count, 1h, std::ref(hours));
  CHECK(h.settle());
  h.rt.spawn(sleep_and_count, 5ms, std::ref(soon));
  CHECK(h.until([&] { return soon == 1; }));
  CHECK(hours == 0);
}

FOR_EACH_LOOP("embedding: a post of another thread ends the host's sleep") {
  host<Loop> h;
  int told = 0;
  const keel::handle door = h.rt.handle();
  // Also before the first run_ready().
  REQUIRE(door.post([&told] { ++told; }));
  CHECK(h.until([&] { return told == 1; }));
  for (int i = 0; i < 20; ++i) {
    CHECK(h.settle());
    const when_asleep post([&] { door.post([&told] { ++told; }); });
    CHECK(h.until([&] { return told == i + 2; }));
  }
}

FOR_EACH_LOOP("embedding: posts that race the host's way into its sleep are not lost") {
  host<Loop> h;
  constexpr int posts = 5'000;
  std::atomic<int> told{0};
  std::atomic<bool> given_up{false};
  std::thread poster([&told, &given_up, door = h.rt.handle()] {
    // Each comes when the one before was told: while the runtime finds that there is nothing left to do.
    for (int i = 0; i < posts && !given_up; ++i) {
      door.post([&told] { ++told; });
      for (int looks = 0; told != i + 1 && !given_up; ++looks)
        if (looks > 1000) std::this_thread::yield();
      for (int spins = i % 500; spins > 0; --spins) std::atomic_signal_fence(std::memory_order_seq_cst);
    }
  });
  CHECK(h.until([&] { return told == posts; }));
  given_up = true;
  poster.join();
}

FOR_EACH_LOOP("embedding: a signal, a blocking call and a futex end the host's sleep") {
  host<Loop> h;
  int got = 0;
  h.rt.spawn(next_signal, std::ref(got));
  CHECK(h.settle());
  {
    const when_asleep send([] { ::kill(::getpid(), SIGUSR1); });
    CHECK(h.until([&] { return got != 0; }));
  }
  CHECK(got == SIGUSR1);

  std::atomic<bool> go{false};
  int answer = 0;
  auto calls = [](std::atomic<bool>& begin, int& a) -> task<> {
    a = co_await keel::blocking([&begin] {
      begin.wait(false);
      return 9;
    });
  };
  h.rt.spawn(calls, std::ref(go), std::ref(answer));
  CHECK(h.settle());
  {
    const when_asleep let_go([&go] {
      go = true;
      go.notify_all();
    });
    CHECK(h.until([&] { return answer == 9; }));
  }

  std::atomic<std::uint32_t> word{0};
  bool ended = false;
  auto waits = [](std::atomic<std::uint32_t>& w, bool& e) -> task<> {
    static_cast<void>(co_await keel::futex_wait(w, 0));
    e = true;
  };
  h.rt.spawn(waits, std::ref(word), std::ref(ended));
  CHECK(h.settle());
  {
    const when_asleep wake([&word] {
      word = 1;
      keel::futex_wake(word);
    });
    CHECK(h.until([&] { return ended; }));
  }
}

FOR_EACH_LOOP("embedding: what the host calls between two run_ready() makes the descriptor readable") {
  host<Loop> h;
  CHECK(h.settle());
  int count = 0;
  h.rt.spawn(sleep_and_count, 0ms, std::ref(count));
  CHECK(h.until([&] { return count == 1; }));

  // A stop that cancels an operation, one that ends a sleep, and one by message.
  const fd_pair pair = keel::test::unix_pair();
  int got = 0;
  auto reading = h.rt.spawn(read_bytes, pair.ours.get(), 1, std::ref(got));
  auto sleeping = h.rt.spawn(sleep_and_count, 1h, std::ref(count));
  auto other = h.rt.spawn(sleep_and_count, 1h, std::ref(count));
  CHECK(h.settle());
  reading.request_stop();
  CHECK(h.until([&] { return reading.done(); }));
  CHECK(h.settle());
  sleeping.request_stop();
  CHECK(h.until([&] { return sleeping.done(); }));
  CHECK(h.settle());
  h.rt.request_stop();
  CHECK(h.until([&] { return other.done(); }));
  CHECK(count == 1);
}

FOR_EACH_LOOP("embedding: a busy runtime comes back to its host, and goes on when that has had its turn") {
  host<Loop> h;
  auto busy = [](bool& stop, int& turns) -> task<> {
    while (!stop) {
      static_cast<void>(co_await sleep_for(0ms));
      ++turns;
    }
  };
  bool stop = false;
  int turns = 0;
  h.rt.spawn(busy, std::ref(stop), std::ref(turns));
  CHECK(h.until([&] { return turns > 1000; }));
  CHECK(h.wakes > 10);
  stop = true;
  CHECK(h.settle());
}

FOR_EACH_LOOP("embedding: what is left to run when the host has its turn makes the descriptor readable") {
  struct repeated : keel::runnable {
    explicit repeated(keel::scheduler& s)
        : runnable([](runnable& self) noexcept {
            auto& me = static_cast<repeated&>(self);
            if (--me.left != 0) me.home.make_ready(me);
          }),
          home(s) {}
    keel::scheduler& home;
    int left = 10'000;
  };
  host<Loop> h;
  CHECK(h.settle());
  repeated runs(h.rt.at(0));
  h.rt.at(0).make_ready(runs);
  CHECK(h.until([&] { return runs.left == 0; }));
  CHECK(h.wakes > 3);
}

FOR_EACH_LOOP("embedding: an idle runtime does not wake its host") {
  host<Loop> h;
  const fd_pair pair = keel::test::unix_pair();
  int got = 0;
  int hours = 0;
  h.rt.spawn(read_bytes, pair.ours.get(), 3, std::ref(got));
  h.rt.spawn(sleep_and_count, 1h, std::ref(hours));
  for (int i = 0; i < 3; ++i) {
    CHECK(h.settle());
    // Once for each byte; what follows from that is part of it.
    h.wakes = 0;
    CHECK(!h.step(100));
    CHECK(h.wakes == 0);
    pair.put("x");
    CHECK(h.until([&] { return got == i + 1; }));
    CHECK(h.settle());
    CHECK(h.wakes <= 2);
  }
}

FOR_EACH_LOOP("embedding: two runtimes in one loop wake each other") {
  runtime first;
  runtime second;
  Loop loop;
  loop.watch(first.fd());
  loop.watch(second.fd());
  const fd_pair pair = keel::test::unix_pair();
  auto plays = [](int fd, bool begins, int& rounds) -> task<> {
    keel::fd_watch watch(fd);
    if (begins) CHECK(::write(fd, "x", 1) == 1);
    while (rounds < 100) {
      const auto ready = co_await watch.readable();
      if (!ready) co_return;
      char byte = 0;
      CHECK(::read(fd, &byte, 1) == 1);
      ++rounds;
      CHECK(::write(fd, &byte, 1) == 1);
    }
  };
  int one = 0;
  int other = 0;
  auto a = first.spawn(plays, pair.ours.get(), true, std::ref(one));
  auto b = second.spawn(plays, pair.theirs.get(), false, std::ref(other));
  while (!a.done() || !b.done()) {
    const auto readable = loop.wait(patience_ms);
    REQUIRE(!readable.empty());
    for (const int fd : readable) (fd == first.fd() ? first : second).run_ready();
  }
  CHECK(one == 100);
  CHECK(other == 100);
}

TEST_CASE("embedding: run_once waits itself, and leaves the host with nothing to do") {
  host<poll_loop> h;
  int fired = 0;
  h.rt.spawn(sleep_and_count, 5ms, std::ref(fired));
  for (int i = 0; i < 100 && fired == 0; ++i) h.rt.run_once(h.rt.at(0).now() + 1s);
  CHECK(fired == 1);
  CHECK(h.settle());
  CHECK(!h.step(0));
}

TEST_CASE("embedding: the descriptor is the same each time, and goes with the runtime") {
  const auto before = keel::test::open_descriptors();
  {
    runtime rt;
    CHECK(rt.fd() == rt.fd());
    CHECK(keel::test::is_close_on_exec(rt.fd()));
    int count = 0;
    rt.spawn(sleep_and_count, 1h, std::ref(count));
    rt.run_ready();
  }
  CHECK(keel::test::open_descriptors() == before);
}

TEST_CASE("embedding: a runtime whose descriptor was asked for can still be run") {
  runtime rt;
  static_cast<void>(rt.fd());
  int count = 0;
  rt.spawn(sleep_and_count, 1ms, std::ref(count));
  rt.run_ready();
  rt.spawn(sleep_and_count, 2ms, std::ref(count));
  rt.run();
  CHECK(count == 2);
}

TEST_CASE("embedding: more timers, posts and data at once than a turn tells") {
  runtime rt({.turn_events = 4});
  poll_loop loop;
  loop.watch(rt.fd());
  int fired = 0;
  for (int i = 0; i < 1000; ++i) rt.spawn(sleep_and_count, (i % 3) * 1ms, std::ref(fired));
  while (fired < 1000) {
    REQUIRE(!loop.wait(patience_ms).empty());
    rt.run_ready();
  }
}

TEST_CASE("embedding: without a descriptor left, fd() throws and the runtime goes on") {
  runtime rt;
  rt.run_ready();
  {
    const keel::test::descriptor_limit none(0);
    CHECK_THROWS_AS(static_cast<void>(rt.fd()), std::system_error);
  }
  int fired = 0;
  rt.spawn(sleep_and_count, 1ms, std::ref(fired));
  rt.run();
  CHECK(fired == 1);
}

TEST_CASE("embedding: what cannot be embedded says so") {
  keel::kevent_sys::sim_world world;
  runtime simulated({.factory = world.factory()});
  CHECK_DEATH(static_cast<void>(simulated.fd()), "the time of a simulation passes only in its own waits");
  runtime two({.cpus = 2});
  CHECK_DEATH(static_cast<void>(two.fd()), "fd() is for a runtime with one scheduler");
}
