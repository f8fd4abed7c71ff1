#include <doctest/doctest.h>

#include <sys/mman.h>
#include <sys/wait.h>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "kevent_sys/conformance/ring_model.hpp"
#include "support/build.hpp"
#include "support/in_child.hpp"
#include "support/seed.hpp"

using namespace keel::test;

namespace {

// A ring of four with three entries in it and index 3 behind it, in round 1: uidx 2, kidx 3.
void go_to_second_round(const event_queue& queue) {
  for (int i = 0; i < 4; ++i) {
    REQUIRE(queue.ready(unotify_event(1)) == 1);
    REQUIRE(queue.get(1, 1, no_wait).size() == 1);
  }
  REQUIRE(queue.commit(3, 0) == 3);
  REQUIRE(queue.commit(0, 0) == 1);
  for (int i = 0; i < 3; ++i) {
    REQUIRE(queue.ready(unotify_event(1)) == 1);
    REQUIRE(queue.get(1, 1, no_wait).size() == 1);
  }
  REQUIRE(queue.commit(2, 1) == 2);
}

}  // namespace

TEST_CASE("case 72: a wait without a ring is EINVAL") {
  const event_queue queue;
  CHECK(queue.wait(1, 0, no_wait) == -EINVAL);
  CHECK(queue.wait(0, 0, no_wait) == -EINVAL);
}

TEST_CASE("case 73: a wait for more than the ring holds is EINVAL") {
  event_ring ring(4);
  const event_queue queue(ring);
  make_ready(queue, 1);
  CHECK(queue.wait(5, 0, no_wait) == -EINVAL);
  CHECK(queue.wait(0xFFFFFFFFu, 0, no_wait) == -EINVAL);
  CHECK(ring.kidx() == 0);
}

TEST_CASE("case 74: a wait moves up to num events, and the index with them") {
  event_ring ring(4);
  const event_queue queue(ring);
  make_ready(queue, 3);
  CHECK(queue.wait(2, 0, no_wait) == 2);
  CHECK(ring.kidx() == 2);
  CHECK(queue.wait(2, 0, no_wait) == 1);
  CHECK(ring.kidx() == 3);
  for (unsigned i = 0; i < 3; ++i) CHECK(ring[i].id.raw_u64 == i + 1);
}

TEST_CASE("cases 75, 76: a full ring keeps what is ready waiting, and a full ring takes two commits") {
  event_ring ring(4);
  const event_queue queue(ring);
  make_ready(queue, 6);
  CHECK(queue.wait(4, 0, no_wait) == 4);
  CHECK(ring.kidx() == 0);

  const stopwatch time;
  CHECK(queue.wait(1, 0, milliseconds(50)) == 0);
  CHECK(time.elapsed_ms() >= 50);

  CHECK(queue.commit(0, 0) == 0);
  CHECK(queue.commit(3, 0) == 3);
  CHECK(queue.wait(4, 3, no_wait) == 2);
  CHECK(ring.kidx() == 2);
  CHECK(ring[0].id.raw_u64 == 5);
  CHECK(ring[1].id.raw_u64 == 6);
  CHECK(ring[3].id.raw_u64 == 4);
}

TEST_CASE("case 77: an index outside of the ring is EINVAL") {
  event_ring ring(4);
  const event_queue queue(ring);
  make_ready(queue, 2);
  REQUIRE(queue.wait(2, 0, no_wait) == 2);
  for (const unsigned index : {4u, 5u, 0xFFFFFFFFu}) CHECK(queue.commit(index, 0) == -EINVAL);
  CHECK(queue.commit(2, 0) == 2);
}

TEST_CASE("cases 78, 79: the round is counted when the index wraps, and a stale round is EOVERFLOW") {
  event_ring ring(4);
  const event_queue queue(ring);
  make_ready(queue, 4);
  REQUIRE(queue.wait(4, 0, no_wait) == 4);
  CHECK(queue.commit(3, 0) == 3);
  CHECK(ring.over() == 0);
  CHECK(queue.commit(0, 0) == 1);
  CHECK(ring.over() == 1);

  CHECK(queue.commit(2, 0) == -EOVERFLOW);
  CHECK(queue.commit(2, 7) == -EOVERFLOW);
  CHECK(queue.commit(0, 1) == 0);
}

TEST_CASE("case 80: of two threads that commit one index, one frees and the other frees nothing") {
  for (int round = 0; round < 200; ++round) {
    event_ring ring(4);
    const event_queue queue(ring);
    make_ready(queue, 2);
    REQUIRE(queue.wait(2, 0, no_wait) == 2);
    int other = -1;
    std::thread thread([&] { other = queue.commit(2, 0); });
    const int own = queue.commit(2, 0);
    thread.join();
    CHECK(own + other == 2);
    CHECK((own == 0 || own == 2));
  }
}

TEST_CASE("case 81, decision 3: a stale commit does not move the index backwards") {
  event_ring ring(4);
  const event_queue queue(ring);
  REQUIRE(queue.add(unotify_event(1)) == 0);
  go_to_second_round(queue);

  CHECK(queue.commit(1, 0) == -EOVERFLOW);
  CHECK(queue.commit(1, 1) == -EINVAL);
  CHECK(queue.commit(2, 1) == 0);
  CHECK(queue.commit(3, 1) == 1);
  CHECK(ring.over() == 1);
}

TEST_CASE("cases 82, 83, decision 3: what was not produced cannot be committed") {
  event_ring ring(4);
  const event_queue queue(ring);
  make_ready(queue, 3);
  REQUIRE(queue.wait(1, 0, no_wait) == 1);
  REQUIRE(queue.commit(1, 0) == 1);
  CHECK(queue.commit(3, 0) == -EINVAL);
  CHECK(queue.commit(0, 0) == -EINVAL);

  REQUIRE(queue.wait(2, 1, no_wait) == 2);
  CHECK(queue.commit(0, 0) == -EINVAL);
  CHECK(queue.commit(3, 0) == 2);
}

TEST_CASE("case 84: a wait does not sleep when old_uidx is not the consumer index") {
  event_ring ring(4);
  const event_queue queue(ring);
  const stopwatch time;
  for (const unsigned old_uidx : {1u, 3u, 4u, 0xFFFFFFFFu})
    CHECK(queue.wait(1, old_uidx, milliseconds(10'000)) == 0);
  CHECK(time.elapsed_ms() < 9'000);
}

TEST_CASE("clarification, waiting: with another old_uidx ready events are still moved and counted") {
  event_ring ring(4);
  const event_queue queue(ring);
  make_ready(queue, 3);
  CHECK(queue.wait(2, 3, milliseconds(10'000)) == 2);
  CHECK(ring.kidx() == 2);
}

TEST_CASE("case 85: a wait for 0 events moves nothing") {
  event_ring ring(4);
  const event_queue queue(ring);
  make_ready(queue, 1);
  const std::vector<std::uint64_t> before = ring.words();
  const stopwatch time;
  CHECK(queue.wait(0, 0, milliseconds(10'000)) == 0);
  CHECK(time.elapsed_ms() < 9'000);
  CHECK(ring.words() == before);
  CHECK(queue.ready_now() == 1);
}

TEST_CASE("case 85: a wait for 0 events sleeps until one is ready") {
  event_ring ring(4);
  const event_queue queue(ring);
  const stopwatch time;
  CHECK(queue.wait(0, 0, milliseconds(40)) == 0);
  CHECK(time.elapsed_ms() >= 40);
}

TEST_CASE("case 86, decision 3: a commit wakes a thread that sleeps on a full ring") {
  event_ring ring(2);
  const event_queue queue(ring);
  make_ready(queue, 3);
  REQUIRE(queue.wait(2, 0, no_wait) == 2);
  sleeping_call sleeper([&] { return ::kevent_wait(queue.fd(), 1, 0, milliseconds(15'000), 0); });
  sleeper.wait_until_asleep();
  CHECK_FALSE(sleeper.returned());

  CHECK(queue.commit(1, 0) == 1);

  CHECK(sleeper.answer() == 1);
  CHECK(sleeper.returned_after_ms() < 12'000);
  CHECK(ring.kidx() == 1);
  CHECK(ring[0].id.raw_u64 == 3);
}

TEST_CASE("case 87: a ONESHOT that went into the ring is gone") {
  event_ring ring(4);
  const event_queue queue(ring);
  REQUIRE(queue.add(unotify_event(9)) == 0);
  make_ready(queue, 1, KEVENT_REQ_ONESHOT);
  REQUIRE(queue.wait(1, 0, no_wait) == 1);
  CHECK(queue.remove(unotify_event(1)).ret_flags == done_and_broken);
}

TEST_CASE("case 90: a commit without a ring is 0") {
  const event_queue queue;
  CHECK(queue.commit(0, 0) == 0);
  CHECK(queue.commit(3, 1) == 0);
}

TEST_CASE("case 91, decision 14: other processes may read a shared ring, but not collect into it") {
  constexpr std::size_t size = 4096;
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  auto* ring = static_cast<kevent_ring*>(memory);
  {
    const int fd = ::kevent_init(ring, 16, 0);
    REQUIRE(fd >= 0);
    int ends[2] = {-1, -1};
    REQUIRE(::pipe(ends) == 0);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      if (::kevent_wait(fd, 1, 0, no_wait, 0) != -EOWNERDEAD) ::_exit(2);
      if (::write(ends[1], "r", 1) != 1) ::_exit(3);
      const std::atomic_ref kidx(ring->ring_kidx);
      for (int tries = 0; tries < 20'000 && kidx.load(std::memory_order_acquire) == 0; ++tries) let_pass(1);
      const auto* entries = reinterpret_cast<const ukevent*>(static_cast<const char*>(memory) + 8);
      ::_exit(kidx.load(std::memory_order_acquire) == 1 && entries[0].id.raw_u64 == 77 ? 0 : 4);
    }
    char byte = 0;
    CHECK(::read(ends[0], &byte, 1) == 1);
    ukevent event = unotify_event(77, KEVENT_REQ_READY);
    CHECK(::kevent_ctl(fd, KEVENT_CTL_ADD, 1, &event) == 0);
    CHECK(::kevent_wait(fd, 1, 0, patience, 0) == 1);
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    for (const int end : ends) ::close(end);
    CHECK(::kevent_close(fd) == 0);
  }
  ::munmap(memory, size);
}

TEST_CASE("case 92: 1,000 events through a ring of two wrap 500 times") {
  event_ring ring(2);
  const event_queue queue(ring);
  REQUIRE(queue.add(unotify_event(1)) == 0);
  unsigned uidx = 0;
  for (int i = 0; i < 1000; ++i) {
    REQUIRE(queue.ready(unotify_event(1)) == 1);
    REQUIRE(queue.wait(1, uidx, no_wait) == 1);
    const unsigned next = (uidx + 1) % 2;
    REQUIRE(queue.commit(next, ring.over()) == 1);
    uidx = next;
  }
  CHECK(ring.over() == 500);
}

TEST_CASE("K7, K8: any sequence of events and commits agrees with the model, for any size of ring") {
  const std::uint64_t seed = chosen_seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
  for (const unsigned size : {2u, 3u, 4u, 5u, 7u, 16u, 33u}) {
    CAPTURE(size);
    event_ring ring(size);
    const event_queue queue(ring);
    ring_model model(size);
    REQUIRE(queue.add(unotify_event(1)) == 0);
    for (int step = 0; step < 3000; ++step) {
      CAPTURE(step);
      if (below(2) == 0) {
        REQUIRE(queue.ready(unotify_event(1)) == 1);
        const bool fits = model.put();
        const std::vector<ukevent> got = queue.get(1, 1, no_wait);
        REQUIRE(got.size() == 1);
        REQUIRE(((got[0].ret_flags & KEVENT_RET_COPY_FAILED) == 0) == fits);
      } else {
        const unsigned kinds = below(8);
        const unsigned index = kinds == 0   ? below(size + 3)
                               : kinds == 1 ? static_cast<unsigned>(random())
                                            : (model.uidx() + below(model.used() + 1)) % size;
        const unsigned over = below(6) == 0 ? model.over() + below(3) - 1 : model.over();
        REQUIRE(queue.commit(index, over) == model.commit(index, over));
      }
      REQUIRE(ring.kidx() == model.kidx());
      REQUIRE(ring.over() == model.over());
    }
  }
}

TEST_CASE("K9: who never commits loses nothing, and what waits is in order") {
  constexpr unsigned count = 1000;
  event_ring ring(4);
  const event_queue queue(ring);
  make_ready(queue, count);
  unsigned uidx = 0;
  std::uint64_t expected = 1;
  CHECK(queue.wait(4, 0, no_wait) == 4);
  for (int i = 0; i < 100; ++i) CHECK(queue.wait(4, 0, no_wait) == 0);
  for (unsigned in_ring = 4; in_ring > 0;) {
    REQUIRE(ring[uidx].id.raw_u64 == expected);
    ++expected;
    const unsigned next = (uidx + 1) % 4;
    REQUIRE(queue.commit(next, ring.over()) == 1);
    uidx = next;
    const int moved = queue.wait(4, uidx, no_wait);
    REQUIRE(moved >= 0);
    in_ring += static_cast<unsigned>(moved) - 1;
  }
  CHECK(expected == count + 1);
}

TEST_CASE("K13: an event is written whole, into the buffer and into the ring") {
  event_ring ring(4);
  for (std::uint64_t& word : ring.words()) word = 0xA5A5A5A5A5A5A5A5u;
  ring.words()[0] = 0;
  const event_queue queue(ring);
  ukevent expected = with_cookie(unotify_event(0x1122334455667788u, KEVENT_REQ_ET), 3, 4);
  REQUIRE(queue.add(expected) == 0);
  REQUIRE(queue.ready(expected) == 1);
  ukevent buffer;
  std::memset(&buffer, 0xA5, sizeof buffer);

  REQUIRE(::kevent_get_events(queue.fd(), 1, 1, no_wait, &buffer, 0) == 1);

  expected.ret_flags = done;
  CHECK(same_bytes(buffer, expected));
  CHECK(same_bytes(ring[0], expected));
  CHECK(ring.words()[6] == 0xA5A5A5A5A5A5A5A5u);
}

TEST_CASE("case 89: who polls ring_kidx with acquire order sees whole entries, without any call") {
  constexpr std::uint64_t count = sanitized ? 100'000 : 2'000'000;
  constexpr unsigned size = 64;
  event_ring ring(size);
  const event_queue queue(ring);
  std::atomic<unsigned> read_up_to = 0;
  std::atomic<std::uint64_t> read_total = 0;
  std::atomic<bool> torn = false;
  std::thread reader([&] {
    unsigned at = 0;
    for (std::uint64_t expected = 1; expected <= count;) {
      const unsigned kidx = ring.kidx();
      if (at == kidx) std::this_thread::yield();
      for (; at != kidx; at = (at + 1) % size, ++expected) {
        const ukevent& entry = ring[at];
        if (entry.id.raw_u64 != expected || entry.user[0] != std::uint32_t(expected) ||
            entry.ret_flags != done)
          torn = true;
      }
      read_up_to.store(at, std::memory_order_release);
      read_total.store(expected - 1, std::memory_order_release);
    }
  });
  bool in_order = true;
  std::uint64_t produced = 0;
  while (produced < count) {
    constexpr unsigned batch = size / 2;
    std::vector<ukevent> events;
    for (unsigned i = 0; i < batch && produced + events.size() < count; ++i) {
      const std::uint64_t id = produced + events.size() + 1;
      events.push_back(
          with_cookie(unotify_event(id, KEVENT_REQ_ONESHOT | KEVENT_REQ_READY), std::uint32_t(id)));
    }
    in_order &= queue.ctl(KEVENT_CTL_ADD, events) == 0;
    in_order &= queue.wait(batch, ring.kidx(), no_wait) == static_cast<int>(events.size());
    produced += events.size();
    while (read_total.load(std::memory_order_acquire) != produced && in_order) std::this_thread::yield();
    in_order &= queue.commit(read_up_to.load(std::memory_order_acquire), ring.over()) == int(events.size());
    if (!in_order) break;
  }
  CHECK(in_order);
  // The reader ends by itself only when all has come.
  REQUIRE(produced == count);
  reader.join();
  CHECK_FALSE(torn);
}
