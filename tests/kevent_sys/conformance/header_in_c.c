/* Every name of the header, as a program in C uses them; it is only compiled. C++17 compiles it, too. */
#include <keel/kevent_sys/kevent.h>

int uses_every_call(struct kevent_ring* ring, struct ukevent* events, struct timespec timeout);

int uses_every_call(struct kevent_ring* ring, struct ukevent* events, struct timespec timeout) {
  char path[] = "file";
  struct ukevent event = events[0];
  int fd = kevent_init(ring, 16, 0);
#ifndef __cplusplus
  events[0] = ring->event[0];
#endif
  event.id.raw[0] = 1;
  event.id.raw_u64 |= KEVENT_SIGNAL_NOMASK;
  event.type = KEVENT_FUTEX;
  event.ptr = events;
  event.user[1] = ring->ring_kidx + ring->ring_over;
  fd += kevent_ctl(fd, KEVENT_CTL_ADD, 1, &event);
  fd += kevent_get_events(fd, 1, 16, timeout, events, KEVENT_FLAGS_ABSTIME);
  fd += kevent_wait(fd, 1, 0, timeout, 0);
  fd += kevent_commit(fd, 0, 0);
  fd += aio_sendfile(fd, 0, 0, 0, 1) > 0;
  fd += aio_sendfile_path(fd, 0, path, sizeof path, path, 0, 1) > 0;
  fd += kevent_aio_accept(fd, 0, 0, path);
  fd += kevent_aio_connect(fd, 0, path, 1, path);
  fd += kevent_aio_recv(fd, 0, path, 1, 0, path);
  fd += kevent_aio_send(fd, 0, path, 1, 0, path);
  fd += kevent_aio_read(fd, 0, path, 1, 0, path);
  fd += kevent_aio_write(fd, 0, path, 1, 0, path);
  fd += kevent_aio_cancel(fd, path);
  fd += kevent_timer_create(fd, 0, path);
  fd += kevent_timer_settime(fd, 0, (const struct itimerspec*)0);
  fd += kevent_timer_delete(fd);
  return kevent_close(fd);
}
