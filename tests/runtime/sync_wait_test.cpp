#include <keel/runtime/sync_wait.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <ostream>
#include <thread>
#include <vector>

using keel::detail::holding;
using keel::detail::short_lock;
using keel::detail::sync_place;
using keel::detail::thread_wait;

TEST_CASE("short_lock: one at a time, however many want it") {
  short_lock lock;
  std::uint64_t count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int n = 0; n < 20'000; ++n) {
        const holding here(lock);
        // In two steps: a second one inside would be seen.
        const std::uint64_t before = count;
        if (n % 64 == 0) std::this_thread::yield();
        count = before + 1;
      }
    });
  for (auto& t : threads) t.join();
  CHECK(count == 80'000);
}

TEST_CASE("thread_wait: blocks until its place is settled; then the lock and the queue may go") {
  struct object {
    short_lock lock;
    keel::intrusive_list<sync_place> queue;
  };
  for (int i = 0; i < 500; ++i) {
    auto shared = std::make_unique<object>();
    sync_place place;
    std::thread other;
    {
      thread_wait wait;
      {
        const holding here(shared->lock);
        wait.begin(place);
        shared->queue.push_back(place);
      }
      other = std::thread([&what = *shared] {
        const holding here(what.lock);
        what.queue.front().settle(keel::outcome::done);
      });
      wait.block(shared->lock);
    }
    CHECK(place.how == keel::outcome::done);
    CHECK(shared->queue.empty());
    shared.reset();
    other.join();
  }
}
