#include <doctest/doctest.h>
#include <keel/base/unique_fd.hpp>

#include <sys/resource.h>
#include <sys/socket.h>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <thread>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/build.hpp"
#include "support/descriptors.hpp"
#include "support/fd_pairs.hpp"
#include "support/in_child.hpp"

using namespace keel::test;

namespace {

std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

bool has_ended(int fd) {
  char byte = 0;
  return ::read(fd, &byte, 1) == 0;
}

// 0, or the number of the first call that does not say EOWNERDEAD.
int first_call_that_works(int fd, int socket) {
  ukevent event = unotify_event(1);
  char byte = 'x';
  char path[] = "/";
  const long answers[] = {
      ::kevent_ctl(fd, KEVENT_CTL_ADD, 1, &event),
      ::kevent_ctl(fd, KEVENT_CTL_READY, 0, nullptr),
      ::kevent_get_events(fd, 0, 1, no_wait, &event, 0),
      ::kevent_wait(fd, 1, 0, no_wait, 0),
      ::kevent_commit(fd, 0, 0),
      ::aio_sendfile_path(fd, socket, nullptr, 0, path, 0, 1),
      ::kevent_aio_recv(fd, socket, &byte, 1, 0, nullptr),
      ::kevent_aio_send(fd, socket, &byte, 1, 0, nullptr),
      ::kevent_aio_accept(fd, socket, 0, nullptr),
      ::kevent_aio_read(fd, socket, &byte, 1, -1, nullptr),
      ::kevent_aio_cancel(fd, nullptr),
      ::kevent_timer_create(fd, CLOCK_MONOTONIC, nullptr),
  };
  int number = 0;
  for (const long answer : answers) {
    ++number;
    if (answer != -EOWNERDEAD) return number;
  }
  return 0;
}

}  // namespace

TEST_CASE("case 145: a queue with 100,000 registrations closes, and lets go of what it held") {
  constexpr unsigned sockets = 500;
  std::vector<fd_pair> pairs;
  event_queue queue;
  for (unsigned i = 0; i < sockets; ++i) {
    pairs.push_back(unix_pair());
    REQUIRE(queue.add(socket_event(pairs[i].ours.get(), KEVENT_SOCKET_RECV)) == 0);
  }
  for (std::uint64_t id = sockets; id < 100'000;) {
    std::vector<ukevent> events;
    for (int i = 0; i < 1'000 && id < 100'000; ++i) events.push_back(unotify_event(id++));
    REQUIRE(queue.ctl(KEVENT_CTL_ADD, events) == 0);
  }
  for (fd_pair& pair : pairs) pair.ours.reset();

  CHECK(queue.close() == 0);

  for (const fd_pair& pair : pairs) CHECK(has_ended(pair.theirs.get()));
}

TEST_CASE("case 146, decision 13, K11: a thread that sleeps in a queue that is closed returns EBADF") {
  for (const bool in_get : {true, false}) {
    event_ring ring(4);
    event_queue queue(ring);
    const int fd = queue.fd();
    ukevent buffer{};
    sleeping_call sleeper([&, fd] {
      return in_get ? ::kevent_get_events(fd, 1, 1, for_ever, &buffer, 0)
                    : ::kevent_wait(fd, 1, 0, for_ever, 0);
    });
    sleeper.wait_until_asleep();
    CHECK(queue.close() == 0);
    CHECK(sleeper.answer() == -EBADF);
    CHECK(sleeper.returned_after_ms() < 15'000);
  }
}

TEST_CASE("decision 13: of several threads that sleep each returns EBADF") {
  event_queue queue;
  const int fd = queue.fd();
  ukevent buffers[4] = {};
  auto sleep_with = [&](std::size_t i) {
    return [&, i, fd] { return ::kevent_get_events(fd, 1, 1, for_ever, &buffers[i], 0); };
  };
  sleeping_call a(sleep_with(0)), b(sleep_with(1)), c(sleep_with(2)), d(sleep_with(3));
  for (const sleeping_call* sleeper : {&a, &b, &c, &d}) sleeper->wait_until_asleep();
  CHECK(queue.close() == 0);
  for (sleeping_call* sleeper : {&a, &b, &c, &d}) CHECK(sleeper->answer() == -EBADF);
}

TEST_CASE("K11: a close in the middle of everything: each call answers, and nothing is touched after it") {
  const int rounds = sanitized ? 30 : 150;
  for (int round = 0; round < rounds; ++round) {
    event_queue queue;
    const int fd = queue.fd();
    std::atomic<int> strange = 0;
    std::atomic<int> running = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, fd, t] {
        ++running;
        for (int answer = 0; answer >= 0;) {
          ukevent event = unotify_event(std::uint64_t(t), KEVENT_REQ_ONESHOT | KEVENT_REQ_READY);
          answer = t < 2 ? ::kevent_get_events(fd, 1, 1, for_ever, &event, 0)
                         : ::kevent_ctl(fd, KEVENT_CTL_ADD, 1, &event);
          if (answer < 0 && answer != -EBADF) ++strange;
        }
      });
    }
    while (running != 4) std::this_thread::yield();
    if (round % 2 == 1) let_pass(1);
    CHECK(queue.close() == 0);
    for (std::thread& thread : threads) thread.join();
    CHECK(strange == 0);
  }
}

TEST_CASE("case 147, decision 14, K14: an inherited queue is EOWNERDEAD in every call of the child") {
  const fd_pair pair = unix_pair();
  event_ring ring(4);
  const event_queue plain, with_ring(ring);
  REQUIRE(plain.add(unotify_event(1)) == 0);
  for (const event_queue* queue : {&plain, &with_ring}) {
    const child_end end = in_child([&] { return first_call_that_works(queue->fd(), pair.ours.get()); });
    CHECK(end.exit_code == 0);
  }
  REQUIRE(plain.ready(unotify_event(1)) == 1);
  CHECK(plain.next().id.raw_u64 == 1);
}

TEST_CASE("decision 14: a timer of an inherited queue cannot be used by the child") {
  const event_queue queue;
  const int timer = ::kevent_timer_create(queue.fd(), CLOCK_MONOTONIC, nullptr);
  REQUIRE(timer > 0);
  const child_end end = in_child([&] {
    const itimerspec value{{0, 0}, milliseconds(1)};
    const int set = ::kevent_timer_settime(timer, 0, &value);
    return set == -EOWNERDEAD || set == -EINVAL ? 0 : 1;
  });
  CHECK(end.exit_code == 0);
  CHECK(queue.silent(20));
  CHECK(::kevent_timer_delete(timer) == 0);
}

TEST_CASE("clarification, descriptors: kevent_close of an inherited queue closes the child's copies only") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  const child_end end = in_child([&] {
    const std::size_t before = open_descriptors();
    if (::kevent_close(queue.fd()) != 0) return 1;
    if (is_open(queue.fd())) return 2;
    if (open_descriptors() >= before) return 3;
    return ::kevent_close(queue.fd()) == -EBADF ? 0 : 4;
  });
  CHECK(end.exit_code == 0);
  pair.put("x");
  CHECK(queue.next().ret_flags == done);
}

TEST_CASE("decision 14: the child uses new queues of its own, while the parent goes on with the old one") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  const child_end end = in_child([&] {
    const int own = ::kevent_init(nullptr, 0, 0);
    if (own < 0) return 1;
    ukevent event = socket_event(pair.theirs.get(), KEVENT_SOCKET_RECV);
    if (::kevent_ctl(own, KEVENT_CTL_ADD, 1, &event) != 0) return 2;
    ukevent timer = timer_event(5, KEVENT_REQ_ONESHOT);
    if (::kevent_ctl(own, KEVENT_CTL_ADD, 1, &timer) != 0) return 3;
    if (::kevent_get_events(own, 1, 1, patience, &event, 0) != 1) return 4;
    if (event.type != KEVENT_TIMER) return 5;
    if (::write(pair.ours.get(), "c", 1) != 1) return 6;
    if (::kevent_get_events(own, 1, 1, patience, &event, 0) != 1) return 7;
    if (event.type != KEVENT_SOCKET) return 8;
    return ::kevent_close(own) == 0 ? 0 : 9;
  });
  CHECK(end.exit_code == 0);
  pair.put("x");
  CHECK(queue.next().ret_flags == done);
  CHECK(queue.silent());
}

TEST_CASE("decision 14: a child that ends without a word about its inherited queue leaves it as it was") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_ET)) == 0);
  REQUIRE(queue.add(timer_event(20, KEVENT_REQ_ONESHOT)) == 0);
  for (int round = 0; round < 5; ++round) CHECK(in_child([] { return 0; }).exit_code == 0);
  CHECK(queue.next().type == KEVENT_TIMER);
  pair.put("x");
  CHECK(queue.next().ret_flags == done);
}

TEST_CASE("decision 14: a child of a process whose other thread sleeps in the queue is free to go") {
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(1)) == 0);
  ukevent buffer{};
  sleeping_call sleeper([&] { return ::kevent_get_events(queue.fd(), 1, 1, patience, &buffer, 0); });
  sleeper.wait_until_asleep();
  const child_end end = in_child([&] {
    if (::kevent_ctl(queue.fd(), KEVENT_CTL_READY, 0, nullptr) != -EOWNERDEAD) return 1;
    const int own = ::kevent_init(nullptr, 0, 0);
    if (own < 0) return 2;
    return ::kevent_close(own) == 0 ? 0 : 3;
  });
  CHECK(end.exit_code == 0);
  CHECK_FALSE(sleeper.returned());
  REQUIRE(queue.ready(unotify_event(1)) == 1);
  CHECK(sleeper.answer() == 1);
}

TEST_CASE("kevent_close: twice is EBADF, and the number may be used again") {
  event_queue queue;
  const int fd = queue.fd();
  CHECK(queue.close() == 0);
  CHECK(::kevent_close(fd) == -EBADF);
  const event_queue next;
  REQUIRE(next.add(unotify_event(1, KEVENT_REQ_READY)) == 0);
  CHECK(next.ready_now() == 1);
}

TEST_CASE("case 152: a million registrations: a hundredth of them fires and is collected, nothing else") {
  constexpr std::uint64_t count = sanitized ? 100'000 : 1'000'000;
  constexpr unsigned batch = 10'000;
  const event_queue queue;
  const std::size_t before = resident_bytes();
  std::vector<ukevent> events(batch);
  for (std::uint64_t id = 0; id < count; id += batch) {
    for (unsigned i = 0; i < batch; ++i) events[i] = unotify_event(id + i);
    REQUIRE(queue.ctl(KEVENT_CTL_ADD, events) == 0);
  }
  std::printf("case 152: %zu bytes per registration\n", (resident_bytes() - before) / std::size_t(count));

  std::uint64_t sum_fired = 0;
  for (std::uint64_t id = 7; id < count; id += 100) {
    REQUIRE(queue.ready(unotify_event(id)) == 1);
    sum_fired += id;
  }
  std::uint64_t sum_collected = 0;
  std::size_t collected = 0;
  for (std::size_t n = 1; n > 0; collected += n) {
    const std::vector<ukevent> got = queue.get(0, 512, no_wait);
    for (const ukevent& event : got) sum_collected += event.id.raw_u64;
    n = got.size();
  }
  CHECK(collected == count / 100);
  CHECK(sum_collected == sum_fired);
}
