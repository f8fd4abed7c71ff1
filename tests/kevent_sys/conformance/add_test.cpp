#include <doctest/doctest.h>
#include <keel/base/unique_fd.hpp>

#include <fcntl.h>
#include <csignal>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/fd_pairs.hpp"
#include "support/temporary_folder.hpp"

using namespace keel::test;

TEST_CASE("case 21: an idle socket is registered, and nothing is ready") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  CHECK(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  CHECK(queue.silent());
}

TEST_CASE("case 22, K6: a key that is registered already is EEXIST, and the first one still works") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  const ukevent event = socket_event(pair.ours.get(), KEVENT_SOCKET_RECV);
  REQUIRE(queue.add(with_cookie(event, 1)) == 0);

  const ukevent second = queue.handed_back(with_cookie(event, 2));
  CHECK(second.ret_flags == done_and_broken);
  CHECK(error_of(second) == -EEXIST);

  pair.put("x");
  const ukevent got = queue.next();
  CHECK(got.ret_flags == done);
  CHECK(got.user[0] == 1);
  CHECK(queue.silent());
}

TEST_CASE("case 23: the type is part of the key") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  ukevent timer = timer_event(0);
  timer.id.raw[0] = std::uint32_t(pair.ours.get());
  ukevent user = unotify_event(std::uint32_t(pair.ours.get()));
  CHECK(queue.add(timer) == 0);
  CHECK(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  CHECK(queue.add(user) == 0);
  CHECK(queue.add(poll_event(pair.ours.get(), KEVENT_POLL_POLLIN)) == 0);
}

TEST_CASE("case 23, decision 1: every word of the id is part of the key") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  ukevent second = socket_event(pair.ours.get(), KEVENT_SOCKET_RECV);
  second.id.raw[1] = 9;
  CHECK(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  CHECK(queue.add(second) == 0);
  CHECK(queue.remove(second).ret_flags == done);
  CHECK(queue.remove(second).ret_flags == done_and_broken);
  CHECK(queue.remove(socket_event(pair.ours.get(), 0)).ret_flags == done);
}

TEST_CASE("cases 25, 26, 27, decision 4: a type that is not for ADD is handed back with ENOSYS") {
  const event_queue queue;
  for (const std::uint32_t type :
       {std::uint32_t(KEVENT_NAIO), std::uint32_t(KEVENT_AIO), std::uint32_t(KEVENT_POSIX_TIMER),
        std::uint32_t(KEVENT_MAX), 200u, 0xFFFFFFFFu}) {
    CAPTURE(type);
    const ukevent entry = queue.handed_back(event_of(type, 1, 1));
    CHECK(entry.ret_flags == done_and_broken);
    CHECK(error_of(entry) == -ENOSYS);
  }
}

TEST_CASE("case 28, K5: a descriptor that is not open is handed back with EBADF") {
  const event_queue queue;
  for (const int fd : {-1, 1'000'000}) {
    for (const ukevent& event :
         {socket_event(fd, KEVENT_SOCKET_RECV), pipe_event(fd, KEVENT_SOCKET_RECV),
          poll_event(fd, KEVENT_POLL_POLLIN), event_of(KEVENT_INODE, std::uint32_t(fd), 1)}) {
      CAPTURE(event.type);
      const ukevent entry = queue.handed_back(event);
      CHECK(entry.ret_flags == done_and_broken);
      CHECK(error_of(entry) == -EBADF);
    }
  }
}

TEST_CASE("cases 29, 30, 31, K5: a descriptor of the wrong kind is handed back") {
  const fd_pair sockets = unix_pair();
  const fd_pair ends = pipe_pair(O_NONBLOCK);
  const temporary_folder folder;
  const keel::unique_fd file(::open(folder.write("file", "text").c_str(), O_RDONLY | O_CLOEXEC));
  const event_queue queue;

  for (const int fd : {ends.ours.get(), file.get()}) {
    const ukevent entry = queue.handed_back(socket_event(fd, KEVENT_SOCKET_RECV));
    CHECK(entry.ret_flags == done_and_broken);
    CHECK(error_of(entry) == -ENOTSOCK);
  }
  for (const int fd : {sockets.ours.get(), file.get()}) {
    const ukevent entry = queue.handed_back(pipe_event(fd, KEVENT_SOCKET_RECV));
    CHECK(entry.ret_flags == done_and_broken);
    CHECK(error_of(entry) == -EINVAL);
  }
  const ukevent entry = queue.handed_back(poll_event(file.get(), KEVENT_POLL_POLLIN));
  CHECK(entry.ret_flags == done_and_broken);
  CHECK(error_of(entry) == -EINVAL);
}

TEST_CASE("case 32: what is ready at ADD is handed back and not registered") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(1)) == 0);
  pair.put("x");

  const ukevent entry = queue.handed_back(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV));

  CHECK(entry.ret_flags == done);
  CHECK(queue.silent());
  CHECK(queue.remove(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)).ret_flags == done_and_broken);
}

TEST_CASE("case 33: with ALWAYS_QUEUE it is registered and comes through the queue") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  pair.put("x");

  CHECK(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_ALWAYS_QUEUE)) == 0);

  CHECK(queue.next().ret_flags == done);
  CHECK(queue.remove(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)).ret_flags == done);
}

TEST_CASE("case 34: what is handed back stands in front, in the order of the input") {
  const fd_pair idle = unix_pair(), first = unix_pair(), second = unix_pair();
  first.put("x");
  second.put("x");
  const event_queue queue;
  std::vector<ukevent> events{with_cookie(socket_event(idle.ours.get(), KEVENT_SOCKET_RECV), 1),
                              with_cookie(socket_event(first.ours.get(), KEVENT_SOCKET_RECV), 2),
                              with_cookie(socket_event(-1, KEVENT_SOCKET_RECV), 3),
                              with_cookie(socket_event(second.ours.get(), KEVENT_SOCKET_RECV), 4)};

  REQUIRE(queue.ctl(KEVENT_CTL_ADD, events) == 3);

  CHECK(events[0].user[0] == 2);
  CHECK(events[0].ret_flags == done);
  CHECK(events[1].user[0] == 3);
  CHECK(events[1].ret_flags == done_and_broken);
  CHECK(events[2].user[0] == 4);
  CHECK(events[2].ret_flags == done);
  idle.put("x");
  CHECK(queue.next().user[0] == 1);
}

TEST_CASE("case 35: ret_flags of the caller are ignored") {
  const event_queue queue;
  ukevent event = unotify_event(1);
  event.ret_flags = 0xff;
  REQUIRE(queue.add(event) == 0);
  REQUIRE(queue.ready(event) == 1);
  CHECK(queue.next().ret_flags == done);
}

TEST_CASE("case 36: the cookie comes back with the event, for all types") {
  const fd_pair sockets = unix_pair();
  const fd_pair ends = pipe_pair(O_NONBLOCK);
  const fd_pair polled_pair = unix_pair();
  const temporary_folder folder;
  const keel::unique_fd directory(::open(folder.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const event_queue queue;
  ukevent signal = event_of(KEVENT_SIGNAL, 0, KEVENT_SIGNAL_DELIVERY);
  signal.id.raw_u64 = std::uint64_t(SIGUSR2) | KEVENT_SIGNAL_NOMASK;
  std::vector<ukevent> events{
      socket_event(sockets.ours.get(), KEVENT_SOCKET_RECV),
      pipe_event(ends.ours.get(), KEVENT_SOCKET_RECV),
      poll_event(polled_pair.ours.get(), KEVENT_POLL_POLLIN),
      timer_event(5, KEVENT_REQ_ONESHOT),
      unotify_event(0x123456789abcdef0u),
      signal,
      event_of(KEVENT_INODE, std::uint32_t(directory.get()), KEVENT_INODE_CREATE),
  };
  for (ukevent& event : events) event = with_cookie(event, 0x11223344, 0x55667788);
  const std::vector<ukevent> asked = events;
  REQUIRE(queue.ctl(KEVENT_CTL_ADD, events) == 0);

  sockets.put("x");
  ends.put("x");
  polled_pair.put("x");
  REQUIRE(queue.ready(unotify_event(0x123456789abcdef0u)) == 1);
  REQUIRE(::kill(::getpid(), SIGUSR2) == 0);
  folder.write("new", "");

  const std::vector<ukevent> got = queue.get(7, 16, patience);
  REQUIRE(got.size() == 7);
  for (const ukevent& event : asked) {
    CAPTURE(event.type);
    int found = 0;
    for (const ukevent& candidate : got) {
      if (!same_key(candidate, event)) continue;
      ++found;
      CHECK(candidate.user[0] == 0x11223344);
      CHECK(candidate.user[1] == 0x55667788);
      CHECK(candidate.event == event.event);
      CHECK(candidate.ret_flags == done);
    }
    CHECK(found == 1);
  }
}

TEST_CASE("case 37: after REMOVE activity produces nothing") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  CHECK(queue.remove(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)).ret_flags == done);
  pair.put("x");
  CHECK(queue.silent());
}

TEST_CASE("case 38: REMOVE of an unknown key is DONE|BROKEN in the entry") {
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(1)) == 0);
  CHECK(queue.remove(unotify_event(2)).ret_flags == done_and_broken);
}

TEST_CASE("case 39: REMOVE of what is ready takes its event, and leaves the ring alone") {
  event_ring ring(4);
  const event_queue queue(ring);
  make_ready(queue, 2);
  CHECK(queue.remove(unotify_event(1)).ret_flags == done);
  CHECK(ring.kidx() == 0);

  CHECK(queue.wait(4, 0, no_wait) == 1);
  CHECK(ring[0].id.raw_u64 == 2);
  CHECK(queue.ready_now() == 0);
}

TEST_CASE("case 40, decision 1: user is not compared") {
  const event_queue queue;
  REQUIRE(queue.add(with_cookie(unotify_event(1), 1, 2)) == 0);
  CHECK(queue.modify(with_cookie(unotify_event(1), 3, 4)).ret_flags == done);
  CHECK(queue.ready(with_cookie(unotify_event(1), 5, 6)) == 1);
  CHECK(queue.remove(with_cookie(unotify_event(1), 7, 8)).ret_flags == done);
}

TEST_CASE("cases 41, 45: MODIFY tests again; what is ready then comes through the queue, not the array") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  REQUIRE(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV)) == 0);

  const ukevent entry = queue.modify(socket_event(pair.ours.get(), KEVENT_SOCKET_SEND));
  CHECK(entry.ret_flags == done);

  const ukevent got = queue.next();
  CHECK(got.ret_flags == done);
  CHECK(got.event == KEVENT_SOCKET_SEND);
  CHECK(queue.silent());
}

TEST_CASE("case 42, K6: MODIFY of an unknown key is DONE|BROKEN and ENOENT in the entry") {
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(1)) == 0);
  const ukevent entry = queue.modify(unotify_event(2));
  CHECK(entry.ret_flags == done_and_broken);
  CHECK(error_of(entry) == -ENOENT);
}

TEST_CASE("case 43: MODIFY does not change the cookie") {
  const event_queue queue;
  REQUIRE(queue.add(with_cookie(unotify_event(1), 10, 11)) == 0);
  REQUIRE(queue.modify(with_cookie(unotify_event(1), 20, 21)).ret_flags == done);
  REQUIRE(queue.ready(unotify_event(1)) == 1);
  const ukevent got = queue.next();
  CHECK(got.user[0] == 10);
  CHECK(got.user[1] == 11);
}

TEST_CASE("case 44: MODIFY of a ONESHOT that was delivered finds nothing") {
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(9)) == 0);
  make_ready(queue, 1, KEVENT_REQ_ONESHOT);
  CHECK(queue.next().id.raw_u64 == 1);
  CHECK(queue.modify(unotify_event(1)).ret_flags == done_and_broken);
}

TEST_CASE("case 46: READY makes an idle registration ready") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  const ukevent event = socket_event(pair.ours.get(), KEVENT_SOCKET_RECV);
  REQUIRE(queue.add(event) == 0);
  CHECK(queue.ready(event) == 1);
  const ukevent got = queue.next();
  CHECK(same_key(got, event));
  CHECK(got.ret_flags == done);
}

TEST_CASE("case 47: READY hands back what it does not know, with its flags as they were") {
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(1)) == 0);
  REQUIRE(queue.add(unotify_event(2)) == 0);
  std::vector<ukevent> events{unotify_event(1), unotify_event(7)};
  events[1].ret_flags = 0x5a;

  CHECK(queue.ctl(KEVENT_CTL_READY, events) == 1);
  CHECK(events[0].id.raw_u64 == 7);
  CHECK(events[0].ret_flags == 0x5a);
  CHECK(queue.next().id.raw_u64 == 1);
  CHECK(queue.ready_now() == 0);
}

TEST_CASE("case 48: READY twice before the collection is one event") {
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(1)) == 0);
  CHECK(queue.ready(unotify_event(1)) == 1);
  CHECK(queue.ready(unotify_event(1)) == 1);
  CHECK(queue.ready_now() == 1);
  CHECK(queue.ready_now() == 0);
}

TEST_CASE("case 49: READY of nothing wakes a thread that sleeps, without an event") {
  const event_queue queue;
  ukevent buffer{};
  sleeping_call sleeper(
      [&] { return ::kevent_get_events(queue.fd(), 1, 1, milliseconds(10'000), &buffer, 0); });
  sleeper.wait_until_asleep();

  CHECK(queue.wake_one() == 0);

  CHECK(sleeper.answer() == 0);
  CHECK(sleeper.returned_after_ms() < 9'000);
}

TEST_CASE("case 50: READY of nothing is kept for one wait call, and only for one") {
  const event_queue queue;
  CHECK(queue.wake_one() == 0);
  CHECK(queue.wake_one() == 0);

  const stopwatch first;
  CHECK(queue.get(1, 1, milliseconds(10'000)).empty());
  CHECK(first.elapsed_ms() < 9'000);

  const stopwatch second;
  CHECK(queue.get(1, 1, milliseconds(40)).empty());
  CHECK(second.elapsed_ms() >= 40);
}

TEST_CASE("clarification, waiting: a wait with timeout 0 consumes READY of nothing, too") {
  event_ring ring(4);
  const event_queue queue(ring);
  REQUIRE(queue.wake_one() == 0);
  CHECK(queue.get(1, 1, no_wait).empty());
  const stopwatch after_get;
  CHECK(queue.wait(1, 0, milliseconds(40)) == 0);
  CHECK(after_get.elapsed_ms() >= 40);

  REQUIRE(queue.wake_one() == 0);
  CHECK(queue.wait(1, 0, no_wait) == 0);
  const stopwatch after_wait;
  CHECK(queue.get(1, 1, milliseconds(40)).empty());
  CHECK(after_wait.elapsed_ms() >= 40);
}

TEST_CASE("case 51: UNOTIFY with READY at ADD comes through the queue") {
  const event_queue queue;
  CHECK(queue.add(unotify_event(1, KEVENT_REQ_READY)) == 0);
  CHECK(queue.next().ret_flags == done);
  CHECK(queue.silent());
}

TEST_CASE("spec 1.5: READY at ADD makes any type ready, whatever the test says") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  CHECK(queue.add(socket_event(pair.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_READY)) == 0);
  CHECK(queue.next().ret_flags == done);
  CHECK(queue.silent());
  pair.put("x");
  CHECK(queue.next().ret_flags == done);
}

TEST_CASE("clarification, calls: event 0 at ADD is EINVAL") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  for (const ukevent& event : {socket_event(pair.ours.get(), 0), poll_event(pair.ours.get(), 0),
                               event_of(KEVENT_UNOTIFY, 1, 0), event_of(KEVENT_TIMER, 1, 0)}) {
    const ukevent entry = queue.handed_back(event);
    CHECK(entry.ret_flags == done_and_broken);
    CHECK(error_of(entry) == -EINVAL);
  }
}

TEST_CASE("clarification, calls: MODIFY with unknown req_flags is EINVAL and changes nothing") {
  const event_queue queue;
  REQUIRE(queue.add(unotify_event(1)) == 0);
  ukevent change = unotify_event(1, KEVENT_REQ_ONESHOT | 0x40u);
  change.event = 8;

  const ukevent entry = queue.modify(change);
  CHECK(entry.ret_flags == done_and_broken);
  CHECK(error_of(entry) == -EINVAL);

  REQUIRE(queue.ready(unotify_event(1)) == 1);
  const ukevent got = queue.next();
  CHECK(got.event == 1);
  CHECK(got.req_flags == 0);
  CHECK(queue.remove(unotify_event(1)).ret_flags == done);
}
