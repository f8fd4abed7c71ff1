#include <doctest/doctest.h>
#include <keel/base/unique_fd.hpp>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <barrier>
#include <thread>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/fd_pairs.hpp"
#include "support/temporary_folder.hpp"

using namespace keel::test;

namespace {

// Every call that takes a queue, with arguments that are in order otherwise.
std::vector<std::pair<const char*, long>> answers_of_all_calls(int fd, int socket) {
  ukevent event = unotify_event(1);
  char byte = 'x';
  char path[] = "/";
  const sockaddr_in at{};
  ukevent buffer{};
  return {
      {"ctl add", ::kevent_ctl(fd, KEVENT_CTL_ADD, 1, &event)},
      {"ctl ready 0", ::kevent_ctl(fd, KEVENT_CTL_READY, 0, nullptr)},
      {"get_events", ::kevent_get_events(fd, 0, 1, no_wait, &buffer, 0)},
      {"wait", ::kevent_wait(fd, 1, 0, no_wait, 0)},
      {"commit", ::kevent_commit(fd, 0, 0)},
      {"sendfile", ::aio_sendfile(fd, socket, socket, 0, 1)},
      {"sendfile_path", ::aio_sendfile_path(fd, socket, nullptr, 0, path, 0, 1)},
      {"accept", ::kevent_aio_accept(fd, socket, 0, nullptr)},
      {"connect", ::kevent_aio_connect(fd, socket, &at, sizeof at, nullptr)},
      {"recv", ::kevent_aio_recv(fd, socket, &byte, 1, 0, nullptr)},
      {"send", ::kevent_aio_send(fd, socket, &byte, 1, 0, nullptr)},
      {"read", ::kevent_aio_read(fd, socket, &byte, 1, -1, nullptr)},
      {"write", ::kevent_aio_write(fd, socket, &byte, 1, -1, nullptr)},
      {"cancel", ::kevent_aio_cancel(fd, nullptr)},
      {"timer_create", ::kevent_timer_create(fd, CLOCK_MONOTONIC, nullptr)},
  };
}

}  // namespace

TEST_CASE("cases 11, 69, 128: a descriptor that is not open is EBADF in every call") {
  const fd_pair pair = unix_pair();
  int closed = -1;
  {
    const event_queue queue;
    closed = queue.fd();
  }
  for (const int fd : {-1, closed, 1'000'000}) {
    CAPTURE(fd);
    for (const auto& [call, answer] : answers_of_all_calls(fd, pair.ours.get())) {
      CAPTURE(call);
      CHECK(answer == -EBADF);
    }
    CHECK(::kevent_close(fd) == -EBADF);
  }
}

TEST_CASE("cases 12, 69, 128, 137: an open descriptor that is no queue is EINVAL in every call") {
  const fd_pair pair = unix_pair();
  const temporary_folder folder;
  const keel::unique_fd file(::open(folder.write("file", "text").c_str(), O_RDONLY | O_CLOEXEC));
  const keel::unique_fd counter(::eventfd(0, EFD_CLOEXEC));
  for (const int fd : {file.get(), counter.get(), pair.ours.get()}) {
    for (const auto& [call, answer] : answers_of_all_calls(fd, pair.ours.get())) {
      CAPTURE(call);
      CHECK(answer == -EINVAL);
    }
    CHECK(::kevent_close(fd) == -EINVAL);
    CHECK(::fcntl(fd, F_GETFD) != -1);
  }
}

TEST_CASE("case 13: an unknown command is EINVAL") {
  const event_queue queue;
  ukevent event = unotify_event(1);
  for (const unsigned command : {4u, 5u, 0xFFFFFFFFu})
    CHECK(::kevent_ctl(queue.fd(), command, 1, &event) == -EINVAL);
}

TEST_CASE("case 14: ADD of nothing is 0") {
  const event_queue queue;
  ukevent event = unotify_event(1);
  CHECK(::kevent_ctl(queue.fd(), KEVENT_CTL_ADD, 0, &event) == 0);
  CHECK(::kevent_ctl(queue.fd(), KEVENT_CTL_ADD, 0, nullptr) == 0);
}

TEST_CASE("cases 15, 16, 17: more entries than registrations are EINVAL, and none is looked at") {
  const event_queue queue;
  std::vector<ukevent> events{unotify_event(1), unotify_event(2)};
  std::vector<ukevent> one{unotify_event(1)};
  CHECK(queue.ctl(KEVENT_CTL_REMOVE, one) == -EINVAL);

  REQUIRE(queue.add(unotify_event(1)) == 0);
  for (const unsigned command : {KEVENT_CTL_REMOVE, KEVENT_CTL_MODIFY, KEVENT_CTL_READY}) {
    std::vector<ukevent> entries = events;
    CHECK(queue.ctl(command, entries) == -EINVAL);
    CHECK(same_bytes(entries[0], events[0]));
    CHECK(same_bytes(entries[1], events[1]));
  }
  CHECK(queue.ready_now() == 0);
  CHECK(queue.ready(unotify_event(1)) == 1);
}

TEST_CASE("case 19: five entries and three entries are added in the same way") {
  for (const unsigned count : {3u, 5u}) {
    const event_queue queue;
    std::vector<ukevent> events;
    for (unsigned id = 1; id <= count; ++id) events.push_back(unotify_event(id, KEVENT_REQ_READY));
    events[1].type = 200;

    CHECK(queue.ctl(KEVENT_CTL_ADD, events) == 1);
    CHECK(events[0].id.raw_u64 == 2);
    CHECK(events[0].ret_flags == done_and_broken);

    const std::vector<ukevent> ready = queue.get(count - 1, 8, patience);
    REQUIRE(ready.size() == count - 1);
    CHECK(ready.front().id.raw_u64 == 1);
    CHECK(ready.back().id.raw_u64 == count);
  }
}

TEST_CASE("case 20, decision 4: unknown req_flags are handed back with EINVAL") {
  const event_queue queue;
  const ukevent entry = queue.handed_back(unotify_event(1, 0x80000000u));
  CHECK(entry.ret_flags == done_and_broken);
  CHECK(error_of(entry) == -EINVAL);
  CHECK(queue.add(unotify_event(1)) == 0);
}

TEST_CASE("case 52: of eight threads that add one key exactly one succeeds") {
  constexpr int rounds = 1000;
  constexpr int threads = 8;
  const event_queue queue;
  std::atomic<int> successes = 0;
  std::atomic<int> refusals = 0;
  int wrong_rounds = 0;
  int failed_removes = 0;
  std::barrier start(threads);
  std::barrier end(threads, [&]() noexcept {
    if (successes.exchange(0) != 1 || refusals.exchange(0) != threads - 1) ++wrong_rounds;
    ukevent key = unotify_event(42);
    if (::kevent_ctl(queue.fd(), KEVENT_CTL_REMOVE, 1, &key) != 0 || key.ret_flags != done) ++failed_removes;
  });
  std::vector<std::thread> crowd;
  for (int t = 0; t < threads; ++t) {
    crowd.emplace_back([&] {
      for (int round = 0; round < rounds; ++round) {
        start.arrive_and_wait();
        ukevent event = unotify_event(42);
        const int handed_back = ::kevent_ctl(queue.fd(), KEVENT_CTL_ADD, 1, &event);
        if (handed_back == 0) ++successes;
        if (handed_back == 1 && error_of(event) == -EEXIST) ++refusals;
        end.arrive_and_wait();
      }
    });
  }
  for (std::thread& thread : crowd) thread.join();
  CHECK(wrong_rounds == 0);
  CHECK(failed_removes == 0);
}
