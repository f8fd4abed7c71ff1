#include <doctest/doctest.h>
#include <keel/base/unique_fd.hpp>

#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/descriptors.hpp"
#include "support/fd_pairs.hpp"

using namespace keel::test;

TEST_CASE("case 1: a queue without a ring is a descriptor") {
  const int fd = ::kevent_init(nullptr, 0, 0);
  REQUIRE(fd >= 0);
  CHECK(is_open(fd));
  CHECK(::kevent_close(fd) == 0);
  CHECK_FALSE(is_open(fd));
}

TEST_CASE("case 2: a queue with a ring starts at index 0 of round 0") {
  event_ring ring(16);
  const event_queue queue(ring);
  CHECK(ring.kidx() == 0);
  CHECK(ring.over() == 0);
}

TEST_CASE("case 3: a size without a ring is EINVAL") {
  CHECK(::kevent_init(nullptr, 8, 0) == -EINVAL);
}

TEST_CASE("case 4: a ring without a size is EINVAL") {
  event_ring ring(2);
  CHECK(::kevent_init(ring.get(), 0, 0) == -EINVAL);
}

TEST_CASE("case 5: a ring of one entry is EINVAL") {
  event_ring ring(2);
  CHECK(::kevent_init(ring.get(), 1, 0) == -EINVAL);
}

TEST_CASE("case 6: the smallest ring has two entries") {
  event_ring ring(2);
  const event_queue queue(ring);
  make_ready(queue, 1);
  CHECK(queue.wait(1, 0, no_wait) == 1);
  CHECK(ring.kidx() == 1);
}

TEST_CASE("case 7, decision 4: unknown flags of init are EINVAL") {
  event_ring ring(4);
  for (const unsigned flags : {0x8000u, 1u, 0x80000000u}) {
    CHECK(::kevent_init(nullptr, 0, flags) == -EINVAL);
    CHECK(::kevent_init(ring.get(), 4, flags) == -EINVAL);
  }
}

TEST_CASE("case 8: without descriptors to be had init is EMFILE, and leaks none") {
  const std::size_t before = open_descriptors();
  for (int left = 0; left < 4; ++left) {
    int fd = -1;
    {
      const descriptor_limit limit(left);
      fd = ::kevent_init(nullptr, 0, 0);
    }
    CAPTURE(left);
    CHECK((fd >= 0 || fd == -EMFILE));
    if (left == 0) CHECK(fd == -EMFILE);
    if (left >= 2) CHECK(fd >= 0);
    if (fd >= 0) CHECK(::kevent_close(fd) == 0);
    CHECK(open_descriptors() == before);
  }
}

TEST_CASE("case 9: registrations of two queues know nothing of each other") {
  const event_queue a, b;
  CHECK(a.add(unotify_event(1)) == 0);
  CHECK(b.add(unotify_event(1)) == 0);

  CHECK(a.ready(unotify_event(1)) == 1);
  CHECK(b.ready_now() == 0);
  CHECK(a.ready_now() == 1);

  CHECK(a.remove(unotify_event(1)).ret_flags == done);
  CHECK(b.ready(unotify_event(1)) == 1);
  CHECK(b.ready_now() == 1);
}

TEST_CASE("case 10: read and write on the queue fail and consume nothing") {
  const event_queue queue;
  make_ready(queue, 1);
  char bytes[64] = {};

  CHECK(::read(queue.fd(), bytes, sizeof bytes) == -1);
  CHECK(::write(queue.fd(), bytes, sizeof bytes) == -1);

  CHECK(queue.ready_now() == 1);
}

TEST_CASE("clarification, calls: init writes nothing into the ring") {
  event_ring ring(8);
  for (std::uint64_t& word : ring.words()) word = 0xA5A5A5A5A5A5A5A5u;
  ring.words()[0] = 0;
  const std::vector<std::uint64_t> before = ring.words();

  const event_queue queue(ring);

  CHECK(ring.words() == before);
}

TEST_CASE("K1: a ring may be said to be larger than any memory: only entries that are written count") {
  event_ring ring(4);
  const int fd = ::kevent_init(ring.get(), 0xFFFFFFFFu, 0);
  REQUIRE(fd >= 0);
  ukevent event = unotify_event(7, KEVENT_REQ_READY);
  CHECK(::kevent_ctl(fd, KEVENT_CTL_ADD, 1, &event) == 0);
  CHECK(::kevent_wait(fd, 1, 0, no_wait, 0) == 1);
  CHECK(ring.kidx() == 1);
  CHECK(ring[0].id.raw_u64 == 7);
  CHECK(::kevent_close(fd) == 0);
}

TEST_CASE("clarification, descriptors: the queue's own descriptor is closed by exec") {
  event_ring ring(4);
  const event_queue plain, with_ring(ring);
  CHECK(is_close_on_exec(plain.fd()));
  CHECK(is_close_on_exec(with_ring.fd()));
}
