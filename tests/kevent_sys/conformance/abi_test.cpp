#include <doctest/doctest.h>

#include "kevent_sys/conformance/kevent_support.hpp"

TEST_CASE("spec 1.1: the layout of ukevent and of the ring") {
  CHECK(sizeof(ukevent) == 40);
  CHECK(alignof(ukevent) == 8);
  CHECK(offsetof(ukevent, id) == 0);
  CHECK(offsetof(ukevent, type) == 8);
  CHECK(offsetof(ukevent, event) == 12);
  CHECK(offsetof(ukevent, req_flags) == 16);
  CHECK(offsetof(ukevent, ret_flags) == 20);
  CHECK(offsetof(ukevent, ret_data) == 24);
  CHECK(offsetof(ukevent, user) == 32);
  CHECK(sizeof(kevent_ring) == 8);
  CHECK(offsetof(kevent_ring, ring_over) == 4);
  ukevent event{};
  event.id.raw_u64 = 0x1122334455667788u;
  CHECK(event.id.raw[0] == 0x55667788u);
  CHECK(event.id.raw[1] == 0x11223344u);
}

TEST_CASE("spec 1.2: the values of the types, flags and commands") {
  const int types[] = {KEVENT_SOCKET, KEVENT_INODE, KEVENT_TIMER,  KEVENT_POLL,        KEVENT_NAIO,
                       KEVENT_AIO,    KEVENT_PIPE,  KEVENT_SIGNAL, KEVENT_POSIX_TIMER, KEVENT_UNOTIFY,
                       KEVENT_PROC,   KEVENT_FUTEX, KEVENT_MAX};
  for (int value = 0; value < 13; ++value) CHECK(types[value] == value);

  CHECK(KEVENT_REQ_ONESHOT == 0x1);
  CHECK(KEVENT_REQ_WAKEUP_ALL == 0x2);
  CHECK(KEVENT_REQ_ET == 0x4);
  CHECK(KEVENT_REQ_LAST_CHECK == 0x8);
  CHECK(KEVENT_REQ_ALWAYS_QUEUE == 0x10);
  CHECK(KEVENT_REQ_READY == 0x20);
  CHECK(KEVENT_RET_BROKEN == 0x1);
  CHECK(KEVENT_RET_DONE == 0x2);
  CHECK(KEVENT_RET_COPY_FAILED == 0x4);
  CHECK(KEVENT_CTL_ADD == 0);
  CHECK(KEVENT_CTL_REMOVE == 1);
  CHECK(KEVENT_CTL_MODIFY == 2);
  CHECK(KEVENT_CTL_READY == 3);
  CHECK(KEVENT_FLAGS_ABSTIME == 1);
  CHECK(SIGEV_KEVENT == 8);
}

TEST_CASE("spec 1.2: the values of the event masks") {
  CHECK(KEVENT_TIMER_FIRED == 0x1);
  CHECK(KEVENT_SOCKET_RECV == 0x1);
  CHECK(KEVENT_SOCKET_ACCEPT == 0x2);
  CHECK(KEVENT_SOCKET_SEND == 0x4);
  CHECK(KEVENT_INODE_CREATE == 0x1);
  CHECK(KEVENT_INODE_REMOVE == 0x2);
  CHECK(KEVENT_AIO_BIO == 0x1);
  CHECK(KEVENT_SIGNAL_DELIVERY == 0x1);
  CHECK(KEVENT_PROC_EXIT == 0x1);
  CHECK(KEVENT_FUTEX_WAKE == 0x1);
  CHECK(KEVENT_SIGNAL_NOMASK == 0x8000000000000000u);
  CHECK(KEVENT_MASK_ALL == 0xffffffffu);
  CHECK(KEVENT_MASK_EMPTY == 0);
  CHECK(KEVENT_POLL_POLLIN == POLLIN);
  CHECK(KEVENT_POLL_POLLPRI == POLLPRI);
  CHECK(KEVENT_POLL_POLLOUT == POLLOUT);
  CHECK(KEVENT_POLL_POLLERR == POLLERR);
  CHECK(KEVENT_POLL_POLLHUP == POLLHUP);
  CHECK(KEVENT_POLL_POLLNVAL == POLLNVAL);
  CHECK(KEVENT_POLL_POLLRDNORM == POLLRDNORM);
  CHECK(KEVENT_POLL_POLLRDBAND == POLLRDBAND);
  CHECK(KEVENT_POLL_POLLWRNORM == POLLWRNORM);
  CHECK(KEVENT_POLL_POLLWRBAND == POLLWRBAND);
  CHECK(KEVENT_POLL_POLLMSG == 0x400);
  CHECK(KEVENT_POLL_POLLREMOVE == 0x1000);
  CHECK(KEVENT_POLL_POLLRDHUP == 0x2000);
}
