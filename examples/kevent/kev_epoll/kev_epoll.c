// How epoll's modes map to kevent's, all with KEVENT_POLL:
//
//   EPOLLET         KEVENT_REQ_ET
//   EPOLLONESHOT    KEVENT_REQ_ONESHOT; EPOLL_CTL_MOD then adds it anew
//   level           kevent's default mode, silent after a delivery until MODIFY tests it again: so each
//                   delivered registration is modified before kev_epoll_wait returns
//
// ALWAYS_QUEUE lets what is ready at once come through the queue, LAST_CHECK drops what is not true any more
// when it is collected, and POLLERR and POLLHUP are always asked for, as epoll does it.

#define _GNU_SOURCE
#include "kev_epoll.h"

#include <keel/kevent_sys/kevent.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { batch = 64 };

struct interest {
  epoll_data_t data;
  uint32_t events;
  uint32_t generation;  // of the last EPOLL_CTL_ADD: in the events, so that late ones are known
  bool added;
  bool spent;  // EPOLLONESHOT, delivered: kevent has forgotten it
};

struct instance {
  struct instance* next;
  int queue;
  struct interest* interests;  // by descriptor
  int size;
};

static struct instance* instances;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int fail(int error) {
  errno = error < 0 ? -error : error;
  return -1;
}

// The caller holds the lock.
static struct instance* find(int epfd) {
  struct instance* found = instances;
  while (found != NULL && found->queue != epfd) found = found->next;
  return found;
}

int kev_epoll_create(int flags) {
  if ((flags & ~EPOLL_CLOEXEC) != 0) return fail(EINVAL);
  struct instance* made = calloc(1, sizeof *made);
  if (made == NULL) return fail(ENOMEM);
  made->queue = kevent_init(NULL, 0, 0);
  const int queue = made->queue;
  if (queue < 0) {
    free(made);
    return fail(queue);
  }
  pthread_mutex_lock(&lock);
  made->next = instances;
  instances = made;
  pthread_mutex_unlock(&lock);
  return queue;
}

int kev_epoll_close(int epfd) {
  pthread_mutex_lock(&lock);
  struct instance** link = &instances;
  while (*link != NULL && (*link)->queue != epfd) link = &(*link)->next;
  struct instance* gone = *link;
  if (gone != NULL) *link = gone->next;
  pthread_mutex_unlock(&lock);
  if (gone == NULL) return fail(EBADF);
  const int closed = kevent_close(epfd);
  free(gone->interests);
  free(gone);
  return closed < 0 ? fail(closed) : 0;
}

static bool make_room(struct instance* in, int fd) {
  if (fd < in->size) return true;
  int size = in->size == 0 ? 64 : in->size;
  while (size <= fd) size *= 2;
  struct interest* grown = realloc(in->interests, (size_t)size * sizeof *grown);
  if (grown == NULL) return false;
  memset(grown + in->size, 0, (size_t)(size - in->size) * sizeof *grown);
  in->interests = grown;
  in->size = size;
  return true;
}

static struct ukevent registration(int fd, const struct interest* what) {
  const uint32_t events = what->events;
  struct ukevent asked = {.type = KEVENT_POLL};
  asked.id.raw[0] = (uint32_t)fd;
  asked.event = (events & 0xffffu) | KEVENT_POLL_POLLERR | KEVENT_POLL_POLLHUP;
  asked.req_flags = KEVENT_REQ_ALWAYS_QUEUE | KEVENT_REQ_LAST_CHECK;
  if ((events & EPOLLONESHOT) != 0) asked.req_flags |= KEVENT_REQ_ONESHOT;
  if ((events & EPOLLET) != 0) asked.req_flags |= KEVENT_REQ_ET;
  if ((events & EPOLLEXCLUSIVE) == 0) asked.req_flags |= KEVENT_REQ_WAKEUP_ALL;
  asked.user[0] = (uint32_t)fd;
  asked.user[1] = what->generation;
  return asked;
}

// Returns 0 or an errno.
static int change(int queue, unsigned command, struct ukevent asked) {
  const int answer = kevent_ctl(queue, command, 1, &asked);
  if (answer < 0) return -answer;
  const bool refused = command == KEVENT_CTL_ADD ? answer > 0 : (asked.ret_flags & KEVENT_RET_BROKEN) != 0;
  if (!refused) return 0;
  // epoll's word for what cannot be polled, like a regular file.
  return asked.ret_data[1] == (uint32_t)-EINVAL ? EPERM : -(int)asked.ret_data[1];
}

static int add(struct instance* in, int fd, const struct epoll_event* event) {
  if (!make_room(in, fd)) return ENOMEM;
  struct interest* what = &in->interests[fd];
  if (what->added) return EEXIST;
  struct interest wanted = {event->data, event->events, what->generation + 1, true, false};
  const int error = change(in->queue, KEVENT_CTL_ADD, registration(fd, &wanted));
  if (error == 0) *what = wanted;
  return error;
}

static int modify(struct instance* in, int fd, const struct epoll_event* event) {
  struct interest* what = &in->interests[fd];
  const struct interest wanted = {event->data, event->events, what->generation, true, false};
  const unsigned command = what->spent ? KEVENT_CTL_ADD : KEVENT_CTL_MODIFY;
  const int error = change(in->queue, command, registration(fd, &wanted));
  if (error == 0) *what = wanted;
  return error;
}

static int forget(struct instance* in, int fd) {
  struct interest* what = &in->interests[fd];
  if (!what->spent) change(in->queue, KEVENT_CTL_REMOVE, registration(fd, what));
  what->added = false;
  return 0;
}

int kev_epoll_ctl(int epfd, int op, int fd, struct epoll_event* event) {
  if (fd < 0) return fail(EBADF);
  if (op != EPOLL_CTL_DEL && event == NULL) return fail(EFAULT);
  if (fd == epfd) return fail(EINVAL);
  int error = EBADF;
  pthread_mutex_lock(&lock);
  struct instance* in = find(epfd);
  if (in != NULL) {
    const bool added = fd < in->size && in->interests[fd].added;
    switch (op) {
      case EPOLL_CTL_ADD: error = add(in, fd, event); break;
      case EPOLL_CTL_MOD: error = added ? modify(in, fd, event) : ENOENT; break;
      case EPOLL_CTL_DEL: error = added ? forget(in, fd) : ENOENT; break;
      default: error = EINVAL;
    }
  }
  pthread_mutex_unlock(&lock);
  return error == 0 ? 0 : fail(error);
}

// Turns what was collected into epoll's events, and arms what is level-triggered again.
static int translate(int epfd, const struct ukevent* collected, int n, struct epoll_event* events) {
  struct ukevent again[batch];
  unsigned again_n = 0;
  int told = 0;
  pthread_mutex_lock(&lock);
  struct instance* in = find(epfd);
  for (int i = 0; in != NULL && i < n; ++i) {
    const struct ukevent* event = &collected[i];
    const int fd = (int)event->user[0];
    struct interest* what = fd < in->size ? &in->interests[fd] : NULL;
    if (what == NULL || !what->added || what->generation != event->user[1]) continue;
    events[told].data = what->data;
    events[told].events = event->ret_data[0];
    if ((event->ret_flags & KEVENT_RET_BROKEN) != 0) events[told].events = EPOLLERR | EPOLLHUP;
    ++told;
    if ((what->events & EPOLLONESHOT) != 0) {
      what->spent = true;
    } else if ((what->events & EPOLLET) == 0) {
      again[again_n++] = registration(fd, what);
    }
  }
  if (again_n > 0) kevent_ctl(epfd, KEVENT_CTL_MODIFY, again_n, again);
  pthread_mutex_unlock(&lock);
  return told;
}

int kev_epoll_wait(int epfd, struct epoll_event* events, int maxevents, int timeout_ms) {
  if (maxevents <= 0) return fail(EINVAL);
  struct timespec limit = {.tv_sec = -1};
  if (timeout_ms >= 0) {
    // A point in time: a wait that finds late events only goes on to the same deadline.
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += timeout_ms / 1000;
    limit.tv_nsec += timeout_ms % 1000 * 1000000L;
    limit.tv_sec += limit.tv_nsec / 1000000000;
    limit.tv_nsec %= 1000000000;
  }
  for (;;) {
    struct ukevent collected[batch];
    const unsigned most = maxevents < batch ? (unsigned)maxevents : batch;
    const int n = kevent_get_events(epfd, 1, most, limit, collected, KEVENT_FLAGS_ABSTIME);
    if (n < 0) return fail(n);
    const int told = translate(epfd, collected, n, events);
    if (told > 0 || n == 0) return told;
  }
}
