#define _GNU_SOURCE
#include "script.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { wait_ms = 2000, quiet_ms = 20 };

struct run {
  const struct poller* with;
  FILE* out;
  int epfd;
};

static void ctl(struct run* r, int op, int fd, uint32_t events, uint64_t data) {
  static const char* const names[] = {"?", "add", "del", "mod"};
  struct epoll_event event = {.events = events, .data = {.u64 = data}};
  const int result = r->with->ctl(r->epfd, op, fd, &event);
  fprintf(r->out, "%s %llx: %s\n", names[op], (unsigned long long)data, result == 0 ? "ok" : strerror(errno));
}

static void collect(struct run* r, int most, int timeout_ms) {
  struct epoll_event events[16];
  const int n = r->with->wait(r->epfd, events, most, timeout_ms);
  if (n < 0) fprintf(r->out, "wait: %s\n", strerror(errno));
  if (n == 0) fprintf(r->out, "wait: nothing\n");
  for (int i = 0; i < n; ++i) {
    fprintf(r->out, "wait: %x of %llx\n", events[i].events, (unsigned long long)events[i].data.u64);
  }
}

static void ready(struct run* r) {
  collect(r, 16, wait_ms);
}

static void quiet(struct run* r) {
  collect(r, 16, quiet_ms);
}

static void put(int fd, const char* text) {
  if (write(fd, text, strlen(text)) < 0) perror("write");
}

static void take(int fd, size_t n) {
  char bytes[16];
  if (read(fd, bytes, n) < 0) perror("read");
}

static void make_pipe(int* ends) {
  if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) exit(1);
}

static void make_pair(int* ends) {
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) exit(1);
}

static void done(struct run* r, int* ends) {
  r->with->ctl(r->epfd, EPOLL_CTL_DEL, ends[0], NULL);
  r->with->ctl(r->epfd, EPOLL_CTL_DEL, ends[1], NULL);
  close(ends[0]);
  close(ends[1]);
}

static void level(struct run* r) {
  int p[2];
  make_pipe(p);
  ctl(r, EPOLL_CTL_ADD, p[0], EPOLLIN, 0x1);
  quiet(r);
  put(p[1], "abc");
  ready(r);
  ready(r);
  take(p[0], 1);
  ready(r);
  take(p[0], 2);
  quiet(r);
  put(p[1], "d");
  take(p[0], 1);
  quiet(r);
  done(r, p);
}

static void edge(struct run* r) {
  int p[2];
  make_pipe(p);
  put(p[1], "a");
  ctl(r, EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLET, 0x2);
  ready(r);
  quiet(r);
  put(p[1], "b");
  ready(r);
  take(p[0], 2);
  quiet(r);
  put(p[1], "c");
  ctl(r, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 0x22);
  ready(r);
  quiet(r);
  ctl(r, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 0x23);
  ready(r);
  done(r, p);
}

static void one_shot(struct run* r) {
  int p[2];
  make_pipe(p);
  ctl(r, EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLONESHOT, 0x3);
  put(p[1], "a");
  ready(r);
  quiet(r);
  put(p[1], "b");
  quiet(r);
  ctl(r, EPOLL_CTL_ADD, p[0], EPOLLIN, 0x3);
  ctl(r, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 0x33);
  ready(r);
  quiet(r);
  ctl(r, EPOLL_CTL_MOD, p[0], EPOLLIN, 0x34);
  ready(r);
  ready(r);
  ctl(r, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT | EPOLLET, 0x35);
  ready(r);
  quiet(r);
  ctl(r, EPOLL_CTL_DEL, p[0], 0, 0x35);
  ctl(r, EPOLL_CTL_DEL, p[0], 0, 0x35);
  done(r, p);
}

static void ends_of_streams(struct run* r) {
  int s[2];
  make_pair(s);
  ctl(r, EPOLL_CTL_ADD, s[0], EPOLLIN | EPOLLRDHUP, 0x4);
  quiet(r);
  shutdown(s[1], SHUT_WR);
  ready(r);
  ctl(r, EPOLL_CTL_MOD, s[0], EPOLLIN | EPOLLRDHUP | EPOLLET, 0x44);
  ready(r);
  close(s[1]);
  ready(r);
  done(r, s);

  int p[2];
  make_pipe(p);
  ctl(r, EPOLL_CTL_ADD, p[0], EPOLLIN, 0x5);
  put(p[1], "x");
  close(p[1]);
  ready(r);
  take(p[0], 1);
  ready(r);
  ready(r);
  done(r, p);

  make_pipe(p);
  ctl(r, EPOLL_CTL_ADD, p[1], EPOLLOUT, 0x6);
  ready(r);
  close(p[0]);
  ready(r);
  ctl(r, EPOLL_CTL_MOD, p[1], 0, 0x66);
  ready(r);
  done(r, p);
}

static void several(struct run* r) {
  int p[4][2];
  for (unsigned i = 0; i < 4; ++i) {
    make_pipe(p[i]);
    ctl(r, EPOLL_CTL_ADD, p[i][0], i == 3 ? EPOLLIN | EPOLLET : EPOLLIN, 0x100000000 + i);
  }
  put(p[2][1], "a");
  put(p[0][1], "b");
  put(p[3][1], "c");
  ready(r);
  ready(r);
  // One at a time, they take turns.
  collect(r, 1, wait_ms);
  collect(r, 1, wait_ms);
  collect(r, 1, wait_ms);
  take(p[0][0], 1);
  collect(r, 1, wait_ms);
  ctl(r, EPOLL_CTL_DEL, p[2][0], 0, 2);
  quiet(r);
  for (unsigned i = 0; i < 4; ++i) done(r, p[i]);
}

static void masks(struct run* r) {
  int s[2];
  make_pair(s);
  ctl(r, EPOLL_CTL_ADD, s[0], EPOLLIN | EPOLLOUT, 0x7);
  ready(r);
  put(s[1], "x");
  ready(r);
  ctl(r, EPOLL_CTL_MOD, s[0], EPOLLIN, 0x77);
  ready(r);
  ctl(r, EPOLL_CTL_MOD, s[0], 0, 0x78);
  quiet(r);
  ctl(r, EPOLL_CTL_MOD, s[0], EPOLLOUT, 0x79);
  ready(r);
  ctl(r, EPOLL_CTL_MOD, s[0], EPOLLRDHUP, 0x7a);
  quiet(r);
  done(r, s);

  int e = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  ctl(r, EPOLL_CTL_ADD, e, EPOLLIN, 0x8);
  quiet(r);
  eventfd_write(e, 5);
  ready(r);
  eventfd_t value = 0;
  eventfd_read(e, &value);
  quiet(r);
  ctl(r, EPOLL_CTL_DEL, e, 0, 0x8);
  close(e);
}

static void errors(struct run* r) {
  int p[2];
  make_pipe(p);
  ctl(r, EPOLL_CTL_ADD, p[0], EPOLLIN, 0x9);
  ctl(r, EPOLL_CTL_ADD, p[0], EPOLLIN, 0x9);
  ctl(r, EPOLL_CTL_MOD, p[1], EPOLLOUT, 0x9);
  ctl(r, EPOLL_CTL_DEL, p[1], 0, 0x9);
  ctl(r, EPOLL_CTL_ADD, r->epfd, EPOLLIN, 0x9);
  ctl(r, EPOLL_CTL_ADD, -1, EPOLLIN, 0x9);
  collect(r, 0, 0);
  collect(r, -1, 0);
  const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  ctl(r, EPOLL_CTL_ADD, file, EPOLLIN, 0x9);
  close(file);
  done(r, p);
  ctl(r, EPOLL_CTL_ADD, p[0], EPOLLIN, 0x9);
}

struct transcript run_script(const struct poller* with) {
  struct transcript made = {NULL, 0};
  struct run r = {with, open_memstream(&made.text, &made.size), with->create(EPOLL_CLOEXEC)};
  if (r.out == NULL || r.epfd < 0) {
    fprintf(stderr, "%s cannot begin: %s\n", with->name, strerror(errno));
    exit(1);
  }
  void (*const parts[])(struct run*) = {level, edge, one_shot, ends_of_streams, several, masks, errors};
  static const char* const titles[] = {"level",   "edge",  "one shot", "ends of streams",
                                       "several", "masks", "errors"};
  for (size_t i = 0; i < sizeof parts / sizeof parts[0]; ++i) {
    fprintf(r.out, "-- %s\n", titles[i]);
    parts[i](&r);
  }
  with->close(r.epfd);
  fclose(r.out);
  return made;
}
