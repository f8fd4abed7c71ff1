// thread-ring: 503 tasks in a ring pass a token N times, each through its own channel without room.
//
//     build/release/bench/thread_ring [PASSES] [timed|threads]
//
// Wall time, one line: tasks of keel on one scheduler; with `timed` it times each run as it does by default,
// else it does not, as Go does not; with `threads` as many threads, each of which waits at a condition
// variable of its own. thread_ring.go is the same with goroutines; thread_ring.py runs all
// three in turns and prints what they take per pass, and the ratios.

#include <keel/keel.hpp>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

using namespace keel;

namespace {

constexpr int members = 503;

double wall_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

void report(const char* what, std::uint64_t passes, double seconds, int last) {
  std::printf(
      "{\"bench\": \"thread_ring\", \"what\": \"%s\", \"ns\": %.1f, \"passes\": %llu, \"last\": %d}\n", what,
      seconds * 1e9 / static_cast<double>(passes), static_cast<unsigned long long>(passes), last);
}

// Passes the token on until it has been passed often enough, and says who had it then.
task<> member(channel<std::uint64_t>& in, channel<std::uint64_t>& out, int name, channel<int>& last) {
  for (;;) {
    const auto left = co_await in.receive();
    if (!left) co_return;
    if (*left == 0) {
      (co_await last.send(name)).value();
      co_return;
    }
    (co_await out.send(*left - 1)).value();
  }
}

task<> ring(std::uint64_t passes) {
  std::deque<channel<std::uint64_t>> channels;
  for (int i = 0; i < members; ++i) channels.emplace_back(std::size_t{0});
  channel<int> last(1);
  co_await scope([&](scope& s) -> task<> {
    for (int i = 0; i < members; ++i)
      s.spawn(member, std::ref(channels[std::size_t(i)]), std::ref(channels[std::size_t((i + 1) % members)]),
              i + 1, std::ref(last));
    const double begin = wall_seconds();
    (co_await channels[0].send(passes)).value();
    const auto name = co_await last.receive();
    report("keel", passes, wall_seconds() - begin, name.value());
    for (auto& c : channels) c.close();
  });
}

struct station {
  std::mutex lock;
  std::condition_variable changed;
  std::int64_t token = -1;

  void put(std::int64_t value) {
    {
      const std::lock_guard here(lock);
      token = value;
    }
    changed.notify_one();
  }
  std::int64_t take() {
    std::unique_lock here(lock);
    changed.wait(here, [this] { return token != -1; });
    return std::exchange(token, -1);
  }
};

constexpr std::int64_t the_end = -2;

void thread_ring(std::uint64_t passes) {
  std::deque<station> stations(members);
  std::deque<std::thread> threads;
  int last = 0;
  const double begin = wall_seconds();
  for (std::size_t i = 0; i < members; ++i)
    threads.emplace_back([&stations, &last, i] {
      station& next = stations[(i + 1) % members];
      for (;;) {
        const std::int64_t left = stations[i].take();
        if (left == 0) last = static_cast<int>(i + 1);
        next.put(left > 0 ? left - 1 : the_end);
        if (left <= 0) return;
      }
    });
  stations[0].put(static_cast<std::int64_t>(passes));
  for (auto& t : threads) t.join();
  report("threads", passes, wall_seconds() - begin, last);
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t passes = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 10'000'000;
  if (argc > 2 && std::strcmp(argv[2], "threads") == 0) {
    thread_ring(passes);
  } else {
    runtime_options options;
    if (argc <= 2 || std::strcmp(argv[2], "timed") != 0) {
      options.measure_runs = false;
      options.watchdog = duration(0);
    }
    run(ring(passes), options);
  }
}
