#include <doctest/doctest.h>
#include <keel/kevent_sys/buffer_pool.hpp>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <new>
#include <string_view>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include "support/build.hpp"
#include "support/death_test.hpp"
#include "support/descriptors.hpp"
#include "support/skip.hpp"

using keel::unique_fd;
using keel::kevent_sys::buffer_lease;
using keel::kevent_sys::buffer_pool;
using keel::kevent_sys::buffer_queue;

namespace {

unique_fd new_alarm() {
  return unique_fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
}

bool rang(const buffer_pool& pool) {
  std::uint64_t count = 0;
  return ::read(pool.alarm_fd(), &count, sizeof count) == sizeof count;
}

// A pool in the hands of its engine; detached at the end, unless that happened before.
class attached_pool {
 public:
  explicit attached_pool(std::uint32_t buffers, std::uint32_t bytes = 64, unique_fd alarm = unique_fd())
      : pool_(new buffer_pool(buffers, bytes, std::move(alarm))) {
    pool_->attach(nullptr, nullptr);
  }
  attached_pool(const attached_pool&) = delete;
  attached_pool& operator=(const attached_pool&) = delete;
  ~attached_pool() { detach(); }

  void detach() {
    if (pool_ != nullptr) std::exchange(pool_, nullptr)->detach();
  }
  buffer_lease lease(const char* text = "x") {
    const int id = pool_->take();
    REQUIRE(id >= 0);
    std::memcpy(pool_->data(std::uint16_t(id)), text, std::strlen(text));
    return buffer_lease(*pool_, std::uint16_t(id), std::uint32_t(std::strlen(text)));
  }
  buffer_pool* operator->() { return pool_; }
  buffer_pool& operator*() { return *pool_; }

 private:
  buffer_pool* pool_;
};

template <class Action>
void in_another_thread(Action action) {
  std::thread(action).join();
}

}  // namespace

TEST_CASE("buffer_pool: buffers are taken, each once, until none is at home") {
  attached_pool pool(3);
  CHECK(pool->size() == 3);
  const int a = pool->take();
  const int b = pool->take();
  const int c = pool->take();
  CHECK((a != b && b != c && a != c));
  CHECK(pool->take() == -1);
  CHECK(pool->away() == 3);
  CHECK(pool->at_home() == 0);
  for (const int id : {a, b, c}) pool->give_back(std::uint16_t(id));
  CHECK(pool->away() == 0);
  CHECK(pool->at_home() == 3);
}

TEST_CASE(
    "buffer_pool: a lease shows its bytes, moves, shrinks from the front and gives its buffer back once") {
  attached_pool pool(2);
  buffer_lease first = pool.lease("hello");
  CHECK(first.text() == "hello");
  buffer_lease second = std::move(first);
  CHECK(first.empty());
  first.reset();
  CHECK(pool->away() == 1);
  second.remove_prefix(3);
  CHECK(second.text() == "lo");
  CHECK(second.size() == 2);

  buffer_lease other = pool.lease("other");
  CHECK(pool->away() == 2);
  second = std::move(other);
  CHECK(second.text() == "other");
  CHECK(pool->away() == 1);
  second.reset();
  second.reset();
  CHECK(pool->away() == 0);
  CHECK(buffer_lease().empty());
}

TEST_CASE("buffer_pool: an engine that wants its buffers is told of each one that comes home") {
  attached_pool pool(2);
  std::vector<int> arrived;
  pool->attach([](void* to, std::uint16_t id) noexcept { static_cast<std::vector<int>*>(to)->push_back(id); },
               &arrived);
  const int id = pool->take();
  pool->give_back(std::uint16_t(id));
  CHECK(arrived == std::vector<int>{id});
  CHECK(pool->at_home() == 1);

  const int grown = pool->grow();
  CHECK(grown == 2);
  CHECK(arrived.size() == 1);
  pool->adopt(std::uint16_t(grown));
  CHECK(arrived.back() == grown);
}

TEST_CASE("buffer_pool: it grows up to its maximum") {
  attached_pool pool(1, 16);
  for (std::uint32_t i = 1; i < buffer_pool::buffers_max; ++i) REQUIRE(pool->grow() == int(i));
  CHECK(pool->grow() == -1);
  CHECK(pool->size() == buffer_pool::buffers_max);
}

TEST_CASE("E4: buffer_pool: a buffer that is given back twice, or filled while it is away, is told at once") {
  // With another buffer away, counting alone would not notice.
  const auto twice = [](bool from_another_thread) {
    attached_pool pool(2);
    const auto a = std::uint16_t(pool->take());
    pool->take();
    pool->give_back(a);
    if (from_another_thread) {
      in_another_thread([&] { pool->give_back(a); });
    } else {
      pool->give_back(a);
    }
  };
  CHECK_DEATH(twice(false), "a buffer was given back twice");
  CHECK_DEATH(twice(true), "a buffer was given back twice");
  const auto filled_twice = [] {
    attached_pool pool(2);
    pool->taken(std::uint16_t(pool->take()));
  };
  CHECK_DEATH(filled_twice(), "a buffer was filled while a reader has it");
  CHECK_DEATH(attached_pool(2)->taken(2), "the kernel named a buffer that does not exist");
}

TEST_CASE("buffer_pool: what other threads give back comes home when the owner collects") {
  attached_pool pool(4);
  std::vector<buffer_lease> leases;
  for (int i = 0; i < 4; ++i) leases.push_back(pool.lease());
  CHECK_FALSE(pool->collect());
  in_another_thread([&] { leases.clear(); });
  CHECK(pool->away() == 4);
  CHECK(pool->collect());
  CHECK(pool->away() == 0);
  CHECK(pool->at_home() == 4);
  CHECK_FALSE(pool->collect());
}

TEST_CASE("buffer_pool: a thread that comes after the owner is not taken for the owner") {
  buffer_pool* pool = nullptr;
  int id = -1;
  in_another_thread([&] {
    pool = new buffer_pool(1, 64, unique_fd());
    pool->attach(nullptr, nullptr);
    id = pool->take();
  });
  // Its thread-local storage most likely has the address of the first one's.
  in_another_thread([&] { pool->give_back(std::uint16_t(id)); });
  CHECK(pool->away() == 1);
  CHECK(pool->collect());
  CHECK(pool->away() == 0);
  pool->detach();
}

TEST_CASE(
    "buffer_pool: the alarm rings for a buffer from another thread, only while somebody waits for one") {
  attached_pool pool(2, 64, new_alarm());
  const auto give_back_elsewhere = [&] {
    buffer_lease lease = pool.lease();
    in_another_thread([&] { lease.reset(); });
  };
  give_back_elsewhere();
  CHECK_FALSE(rang(*pool));
  pool->collect();
  pool->set_starving(true);
  give_back_elsewhere();
  CHECK(rang(*pool));
  CHECK_FALSE(rang(*pool));
  pool->collect();
  { const buffer_lease here = pool.lease(); }
  CHECK_FALSE(rang(*pool));
}

TEST_CASE("buffer_pool: after detach it lives until its last lease, and its descriptor is closed then") {
  const std::size_t descriptors = keel::test::open_descriptors();
  attached_pool pool(4, 64, new_alarm());
  buffer_lease here = pool.lease("here");
  buffer_lease there = pool.lease("there");
  buffer_lease before = pool.lease("before");
  in_another_thread([&] { before.reset(); });
  pool.detach();

  CHECK(keel::test::open_descriptors() == descriptors + 1);
  CHECK(there.text() == "there");
  in_another_thread([&] { there.reset(); });
  CHECK(here.text() == "here");
  here.reset();
  CHECK(keel::test::open_descriptors() == descriptors);
}

TEST_CASE(
    "buffer_pool: leases that end anywhere race with collect and detach: none is lost, none is freed early") {
  for (int round = 0; round < 200; ++round) {
    attached_pool pool(16, 64, new_alarm());
    std::mutex mutex;
    std::vector<buffer_lease> shelf;
    std::atomic<bool> done{false};
    std::vector<std::thread> readers;
    for (int t = 0; t < 3; ++t) {
      readers.emplace_back([&] {
        for (bool last = false; !last;) {
          last = done.load();
          std::vector<buffer_lease> mine;
          {
            const std::lock_guard lock(mutex);
            for (; !shelf.empty() && mine.size() < 2; shelf.pop_back())
              mine.push_back(std::move(shelf.back()));
          }
          for (const buffer_lease& lease : mine) CHECK(lease.text() == "bytes");
        }
      });
    }
    for (int i = 0; i < 100; ++i) {
      pool->set_starving(pool->at_home() == 0);
      pool->collect();
      if (pool->at_home() == 0) continue;
      buffer_lease lease = pool.lease("bytes");
      const std::lock_guard lock(mutex);
      shelf.push_back(std::move(lease));
    }
    pool.detach();
    done.store(true);
    for (std::thread& reader : readers) reader.join();
    shelf.clear();
  }
}

TEST_CASE("H10: buffer_pool: too little memory is bad_alloc, and leaves nothing behind") {
  if (keel::test::sanitized) return keel::test::skip("a sanitizer needs the address space");
  const auto starved = [] {
    const std::size_t descriptors = keel::test::open_descriptors();
    const rlimit limit{512u << 20, 512u << 20};
    ::setrlimit(RLIMIT_AS, &limit);
    try {
      (new buffer_pool(4096, 1u << 20, new_alarm()))->detach();
    } catch (const std::bad_alloc&) {
      KEEL_ASSERT(keel::test::open_descriptors() == descriptors);
      KEEL_ASSERT(false, "it was bad_alloc");
    }
  };
  CHECK_DEATH(starved(), "it was bad_alloc");
}

TEST_CASE("E5: buffer_pool: it is scarce when more than three quarters of what may be are away") {
  attached_pool pool(4);
  pool->set_limit(4);
  std::vector<buffer_lease> leases;
  for (int i = 0; i < 3; ++i) leases.push_back(pool.lease());
  CHECK_FALSE(pool->scarce());
  leases.push_back(pool.lease());
  CHECK(pool->scarce());
  pool->set_limit(8);
  CHECK_FALSE(pool->scarce());
}

TEST_CASE("E5: buffer_pool: a lease that keeps a copy gives its buffer back and outlives the pool") {
  attached_pool pool(2);
  buffer_lease kept = pool.lease("hello");
  kept.remove_prefix(1);
  kept.keep_copy();
  CHECK(pool->away() == 0);
  kept.keep_copy();
  pool.detach();
  buffer_lease moved = std::move(kept);
  CHECK(moved.text() == "ello");
  moved.remove_prefix(2);
  CHECK(moved.text() == "lo");
  buffer_lease empty;
  empty.keep_copy();
  CHECK(empty.empty());
}

TEST_CASE("E5: buffer_queue: its buffers can be joined to what is in front of them, and go home") {
  attached_pool pool(4);
  const auto filled = [&](buffer_queue& queue, std::string_view text) {
    const auto id = std::uint16_t(pool->take());
    std::memcpy(pool->data(id), text.data(), text.size());
    queue.push(id, std::uint32_t(text.size()));
  };
  buffer_queue queue(*pool);
  buffer_lease front = pool.lease("zero ");
  for (const char* text : {"one ", "two ", "three"}) filled(queue, text);
  queue.join(front);
  CHECK(front.text() == "zero one two three");
  CHECK(queue.empty());
  CHECK(pool->away() == 0);

  buffer_lease nothing;
  filled(queue, "alone");
  queue.join(nothing);
  CHECK(nothing.text() == "alone");
  CHECK(pool->away() == 0);
}

TEST_CASE("buffer_queue: first come, first served; what is left goes home with the queue") {
  attached_pool pool(4);
  {
    buffer_queue queue(*pool);
    for (const std::uint32_t size : {5u, 6u, 7u}) queue.push(std::uint16_t(pool->take()), size);
    CHECK(queue.count() == 3);
    CHECK(queue.pop().size() == 5);
    queue.push(std::uint16_t(pool->take()), 8);
    CHECK(queue.pop().size() == 6);
    CHECK(queue.pop().size() == 7);
    CHECK(queue.pop().size() == 8);
    CHECK(queue.empty());
    queue.push(std::uint16_t(pool->take()), 9);
  }
  CHECK(pool->away() == 0);
}
