#include <doctest/doctest.h>

#include <sys/prctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/build.hpp"
#include "support/fd_pairs.hpp"
#include "support/seed.hpp"

using namespace keel::test;

namespace {

constexpr unsigned num_max = 65'536;

}  // namespace

TEST_CASE("K1: one call takes 65,536 entries and no more") {
  const event_queue queue;
  std::vector<ukevent> events;
  for (std::uint64_t id = 0; id <= num_max; ++id) events.push_back(unotify_event(id));
  for (const unsigned num : {num_max + 1, 0x80000000u, 0xFFFFFFFFu})
    for (const unsigned command : {KEVENT_CTL_ADD, KEVENT_CTL_REMOVE, KEVENT_CTL_MODIFY, KEVENT_CTL_READY})
      CHECK(::kevent_ctl(queue.fd(), command, num, events.data()) == -EINVAL);
  CHECK(::kevent_ctl(queue.fd(), KEVENT_CTL_ADD, num_max, events.data()) == 0);
  CHECK(::kevent_ctl(queue.fd(), KEVENT_CTL_READY, num_max, events.data()) == int(num_max));
  CHECK(::kevent_ctl(queue.fd(), KEVENT_CTL_REMOVE, num_max, events.data()) == 0);
  CHECK(queue.ready_now() == 0);
}

TEST_CASE("K1: max_nr may be said to be larger than any buffer: only events that are there are written") {
  const event_queue queue;
  make_ready(queue, 2);
  ukevent buffer[2] = {};
  CHECK(::kevent_get_events(queue.fd(), 1, 0xFFFFFFFFu, no_wait, buffer, 0) == 2);
  CHECK(buffer[1].id.raw_u64 == 2);
}

TEST_CASE("case 18, K2: a NULL or misaligned array is EFAULT, and nothing is processed") {
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(1)) == 0);
  alignas(8) unsigned char bytes[2 * sizeof(ukevent)] = {};
  const ukevent event = unotify_event(1);
  std::memcpy(bytes + 4, &event, sizeof event);
  for (void* bad :
       {static_cast<void*>(nullptr), static_cast<void*>(bytes + 4), static_cast<void*>(bytes + 1)}) {
    auto* array = static_cast<ukevent*>(bad);
    for (const unsigned command : {KEVENT_CTL_ADD, KEVENT_CTL_REMOVE, KEVENT_CTL_MODIFY, KEVENT_CTL_READY})
      CHECK(::kevent_ctl(queue.fd(), command, 1, array) == -EFAULT);
    CHECK(::kevent_get_events(queue.fd(), 1, 1, no_wait, array, 0) == -EFAULT);
  }
  CHECK(queue.ready(unotify_event(1)) == 1);
  CHECK(::kevent_get_events(queue.fd(), 1, 1, no_wait, reinterpret_cast<ukevent*>(bytes + 4), 0) == -EFAULT);
  CHECK(queue.ready_now() == 1);
}

TEST_CASE("K3: entries that another process changes during the call do not confuse the queue") {
  constexpr unsigned count = 32;
  void* memory = ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  auto* events = static_cast<ukevent*>(memory);
  auto* stop = reinterpret_cast<std::uint32_t*>(static_cast<char*>(memory) + 4096);
  const fd_pair pair = unix_pair();
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::minstd_rand random(1);
    while (std::atomic_ref(*stop).load() == 0) {
      ukevent& victim = events[random() % count];
      std::atomic_ref(victim.type).store(std::uint32_t(random() % 14));
      std::atomic_ref(victim.event).store(std::uint32_t(random() % 3));
      std::atomic_ref(victim.req_flags).store(std::uint32_t(random() % 80));
      std::atomic_ref(victim.id.raw[0]).store(std::uint32_t(random() % 2 == 0 ? pair.ours.get() : -1));
      std::atomic_ref(victim.id.raw[1]).store(0);
    }
    ::_exit(0);
  }
  {
    const event_queue queue;
    int wrong = 0;
    for (int round = 0; round < 2'000; ++round) {
      for (const unsigned command :
           {KEVENT_CTL_ADD, KEVENT_CTL_READY, KEVENT_CTL_MODIFY, KEVENT_CTL_REMOVE}) {
        const int answer = ::kevent_ctl(queue.fd(), command, count, events);
        if ((answer < 0 && answer != -EINVAL) || answer > int(count)) ++wrong;
      }
      queue.ready_now();
    }
    CHECK(wrong == 0);
  }
  std::atomic_ref(*stop).store(1);
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  ::munmap(memory, 8192);
}

TEST_CASE("K4: any bytes at all are answered, entry by entry") {
  const std::uint64_t seed = chosen_seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  const event_queue queue;
  const int own_files = queue.fd() + 200;
  for (int round = 0; round < 20'000; ++round) {
    ukevent event{};
    event.type = std::uint32_t(random() % 16);
    // No signals and processes of others, and no address of memory that is not ours.
    if (event.type == KEVENT_SIGNAL || event.type == KEVENT_PROC || event.type == KEVENT_FUTEX) continue;
    event.id.raw[0] =
        random() % 4 == 0 ? std::uint32_t(random()) : std::uint32_t(own_files + int(random() % 4));
    event.id.raw[1] = random() % 4 == 0 ? std::uint32_t(random()) : 0;
    event.event = std::uint32_t(random());
    event.req_flags = std::uint32_t(random()) & (random() % 2 == 0 ? 0x3fu : 0xFFFFFFFFu);
    event.ret_flags = std::uint32_t(random());
    const int answer = ::kevent_ctl(queue.fd(), unsigned(random() % 6), 1, &event);
    REQUIRE((answer == 0 || answer == 1 || answer == -EINVAL));
    if (round % 64 == 0) queue.ready_now();
  }
  REQUIRE(queue.add(unotify_event(0xFFFFFFFFFFu)) == 0);
}

TEST_CASE("K15: after REMOVE no event carries the old cookie") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  const ukevent event = socket_event(pair.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_ALWAYS_QUEUE);
  std::atomic<bool> over = false;
  std::thread firing([&] {
    while (!over) {
      char byte = 'x';
      (void)!::write(pair.theirs.get(), &byte, 1);
      (void)!::read(pair.ours.get(), &byte, 1);
    }
  });
  const int rounds = sanitized ? 2'000 : 10'000;
  int stale = 0, failed = 0;
  for (int round = 0; round < rounds; ++round) {
    const auto current = std::make_unique<int>(round);
    if (queue.add(with_pointer(event, current.get())) != 0) ++failed;
    for (const ukevent& got : queue.get(0, 4, no_wait))
      if (got.ptr != current.get()) ++stale;
    if (queue.remove(event).ret_flags != done) ++failed;
    if (queue.ready_now() != 0) ++stale;
  }
  over = true;
  firing.join();
  CHECK(stale == 0);
  CHECK(failed == 0);
}

TEST_CASE("errno is not touched") {
  const event_queue queue;
  ukevent event = unotify_event(1);
  errno = EDOM;
  CHECK(::kevent_init(nullptr, 1, 0) == -EINVAL);
  CHECK(::kevent_ctl(-1, KEVENT_CTL_ADD, 1, &event) == -EBADF);
  CHECK(::kevent_ctl(queue.fd(), 9, 1, &event) == -EINVAL);
  CHECK(::kevent_get_events(queue.fd(), 1, 1, milliseconds(2), &event, 0) == 0);
  event = socket_event(-1, 1);
  CHECK(::kevent_ctl(queue.fd(), KEVENT_CTL_ADD, 1, &event) == 1);
  CHECK(::kevent_close(-1) == -EBADF);
  CHECK(errno == EDOM);
}
