#include <doctest/doctest.h>
#include <keel/base/unique_fd.hpp>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <cstdlib>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/fd_pairs.hpp"
#include "support/temporary_folder.hpp"

using namespace keel::test;

namespace {

keel::unique_fd new_eventfd() {
  keel::unique_fd fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  REQUIRE(fd);
  return fd;
}

void count_up(const keel::unique_fd& fd) {
  const std::uint64_t one = 1;
  REQUIRE(::write(fd.get(), &one, sizeof one) == sizeof one);
}

}  // namespace

TEST_CASE("case 115: POLL works on an eventfd, and says which bits") {
  const keel::unique_fd counter = new_eventfd();
  const event_queue queue;
  REQUIRE(queue.add(poll_event(counter.get(), KEVENT_POLL_POLLIN)) == 0);
  count_up(counter);
  const ukevent got = queue.next();
  CHECK(got.ret_flags == done);
  CHECK(got.ret_data[0] == KEVENT_POLL_POLLIN);
}

TEST_CASE("case 115: POLL works on a terminal") {
  const keel::unique_fd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
  if (!master || ::grantpt(master.get()) != 0 || ::unlockpt(master.get()) != 0) return;
  char name[128] = {};
  REQUIRE(::ptsname_r(master.get(), name, sizeof name) == 0);
  const keel::unique_fd slave(::open(name, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
  REQUIRE(slave);
  const event_queue queue;
  REQUIRE(queue.add(poll_event(slave.get(), KEVENT_POLL_POLLIN)) == 0);
  REQUIRE(::write(master.get(), "line\n", 5) == 5);
  CHECK(queue.next().ret_data[0] == KEVENT_POLL_POLLIN);
}

TEST_CASE("case 115: POLL reports all requested bits that are true, and no others") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  fill(pair.ours.get());
  REQUIRE(queue.add(poll_event(pair.ours.get(), KEVENT_POLL_POLLIN | KEVENT_POLL_POLLRDNORM)) == 0);
  pair.put("x");
  CHECK(queue.next().ret_data[0] == (KEVENT_POLL_POLLIN | KEVENT_POLL_POLLRDNORM));
}

TEST_CASE("case 116: POLL implies neither ERR nor HUP") {
  fd_pair ends = pipe_pair(O_NONBLOCK);
  const event_queue queue;
  const ukevent event = poll_event(ends.ours.get(), KEVENT_POLL_POLLIN);
  REQUIRE(queue.add(event) == 0);
  ends.theirs.reset();
  CHECK(queue.silent());
  CHECK(queue.modify(event).ret_flags == done);
  CHECK(queue.silent());
  CHECK(queue.remove(event).ret_flags == done);
}

TEST_CASE("case 116: POLL reports HUP to who asks, and it is not BROKEN") {
  fd_pair ends = pipe_pair(O_NONBLOCK);
  const event_queue queue;
  REQUIRE(queue.add(poll_event(ends.ours.get(), KEVENT_POLL_POLLIN | KEVENT_POLL_POLLHUP)) == 0);
  ends.theirs.reset();
  const ukevent got = queue.next();
  CHECK(got.ret_flags == done);
  CHECK(got.ret_data[0] == KEVENT_POLL_POLLHUP);
}

TEST_CASE("case 117, decision 6: POLL handed back at ADD says which bits") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  pair.put("x");
  const ukevent got = queue.handed_back(
      poll_event(pair.ours.get(), KEVENT_POLL_POLLIN | KEVENT_POLL_POLLOUT | KEVENT_POLL_POLLPRI));
  CHECK(got.ret_flags == done);
  CHECK(got.ret_data[0] == (KEVENT_POLL_POLLIN | KEVENT_POLL_POLLOUT));
}

TEST_CASE("spec 2.4: POLL of what is ready comes through the queue with ALWAYS_QUEUE") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  REQUIRE(queue.add(poll_event(pair.ours.get(), KEVENT_POLL_POLLOUT, KEVENT_REQ_ALWAYS_QUEUE)) == 0);
  CHECK(queue.next().ret_data[0] == KEVENT_POLL_POLLOUT);
}

TEST_CASE("clarification, readiness: MODIFY of POLL asks for other bits") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  REQUIRE(queue.add(poll_event(pair.ours.get(), KEVENT_POLL_POLLIN)) == 0);
  REQUIRE(queue.modify(poll_event(pair.ours.get(), KEVENT_POLL_POLLOUT)).ret_flags == done);
  const ukevent got = queue.next();
  CHECK(got.ret_data[0] == KEVENT_POLL_POLLOUT);
  CHECK(got.event == KEVENT_POLL_POLLOUT);
}

TEST_CASE("case 118: a byte in a pipe is an event of its reading end") {
  const fd_pair ends = pipe_pair(O_NONBLOCK);
  const event_queue queue;
  REQUIRE(queue.add(pipe_event(ends.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  CHECK(queue.silent(5));
  ends.put("x");
  CHECK(queue.next().ret_flags == done);
}

TEST_CASE("case 118, spec 2.7: a FIFO is a pipe") {
  const temporary_folder folder;
  const std::string path = folder / "fifo";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  const keel::unique_fd reader(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  const keel::unique_fd writer(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  REQUIRE((reader && writer));
  const event_queue queue;
  REQUIRE(queue.add(pipe_event(reader.get(), KEVENT_SOCKET_RECV)) == 0);
  REQUIRE(::write(writer.get(), "x", 1) == 1);
  CHECK(queue.next().ret_flags == done);
}

TEST_CASE("case 119: an empty pipe is ready for SEND at ADD") {
  const fd_pair ends = pipe_pair(O_NONBLOCK);
  const event_queue queue;
  CHECK(queue.handed_back(pipe_event(ends.theirs.get(), KEVENT_SOCKET_SEND)).ret_flags == done);
}

TEST_CASE("case 120: a full pipe is not ready for SEND until something was read") {
  const fd_pair ends = pipe_pair(O_NONBLOCK);
  const event_queue queue;
  fill(ends.theirs.get());
  REQUIRE(queue.add(pipe_event(ends.theirs.get(), KEVENT_SOCKET_SEND)) == 0);
  CHECK(queue.silent());
  char page[4096];
  REQUIRE(::read(ends.ours.get(), page, sizeof page) == sizeof page);
  CHECK(queue.next().ret_flags == done);
}

TEST_CASE("case 121, decision 6: the end of an empty pipe is DONE|BROKEN") {
  fd_pair ends = pipe_pair(O_NONBLOCK);
  const event_queue queue;
  REQUIRE(queue.add(pipe_event(ends.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  ends.theirs.reset();
  CHECK(queue.next().ret_flags == done_and_broken);
}

TEST_CASE("case 121: at ADD the end of an empty pipe is handed back DONE|BROKEN") {
  fd_pair ends = pipe_pair(O_NONBLOCK);
  const event_queue queue;
  ends.theirs.reset();
  CHECK(queue.handed_back(pipe_event(ends.ours.get(), KEVENT_SOCKET_RECV)).ret_flags == done_and_broken);
}

TEST_CASE("spec 2.7: a pipe with data and no writer is ready, and BROKEN") {
  fd_pair ends = pipe_pair(O_NONBLOCK);
  const event_queue queue;
  ends.put("last words");
  ends.theirs.reset();
  CHECK(queue.handed_back(pipe_event(ends.ours.get(), KEVENT_SOCKET_RECV)).ret_flags == done_and_broken);
  CHECK(drain(ends.ours.get()) == 10);
}

TEST_CASE("case 122: a pipe without a reader is BROKEN for SEND") {
  fd_pair ends = pipe_pair(O_NONBLOCK);
  const event_queue queue;
  fill(ends.theirs.get());
  REQUIRE(queue.add(pipe_event(ends.theirs.get(), KEVENT_SOCKET_SEND)) == 0);
  ends.ours.reset();
  CHECK(queue.next().ret_flags == done_and_broken);
}

TEST_CASE("case 148, decision 6: an object that dies is BROKEN to every listener, in every queue") {
  fd_pair ends = pipe_pair(O_NONBLOCK);
  const event_queue a, b, c;
  for (const event_queue* queue : {&a, &b, &c})
    REQUIRE(queue->add(pipe_event(ends.ours.get(), KEVENT_SOCKET_RECV)) == 0);
  ends.theirs.reset();
  for (const event_queue* queue : {&a, &b, &c}) CHECK(queue->next().ret_flags == done_and_broken);
}

TEST_CASE("decision 6: what is BROKEN stays registered until REMOVE") {
  fd_pair ends = pipe_pair(O_NONBLOCK);
  const event_queue queue;
  const ukevent event = pipe_event(ends.ours.get(), KEVENT_SOCKET_RECV);
  REQUIRE(queue.add(event) == 0);
  ends.theirs.reset();
  CHECK(queue.next().ret_flags == done_and_broken);
  CHECK(queue.silent());
  CHECK(queue.remove(event).ret_flags == done);
}

TEST_CASE("spec 1.7: PIPE in ET mode reports each write") {
  const fd_pair ends = pipe_pair(O_NONBLOCK);
  const event_queue queue;
  REQUIRE(queue.add(pipe_event(ends.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_ET)) == 0);
  for (int round = 0; round < 3; ++round) {
    ends.put("x");
    CHECK(queue.next().ret_flags == done);
    drain(ends.ours.get());
  }
}
