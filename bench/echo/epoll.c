// epoll: a TCP echo server on edge-triggered epoll, what a careful C programmer writes without io_uring.
//
//   echo_epoll PORT
//
// One thread. A message is received into one shared buffer and sent from it; what cannot be sent at once
// is kept by the connection, which reads no more until it has gone out.

#define _GNU_SOURCE  // accept4

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "listener.h"

enum { buffer_size = 16 * 1024, events_max = 64 };

struct connection {
  int fd;
  char* unsent;
  size_t unsent_begin, unsent_end;
};

static char buffer[buffer_size];

static bool would_wait(void) {
  return errno == EAGAIN || errno == EWOULDBLOCK;
}

static void close_connection(struct connection* c) {
  close(c->fd);
  free(c->unsent);
  free(c);
}

static void accept_all(int epoll, int listener) {
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      // Edge-triggered: leave only when the queue is empty. Without descriptors there is nothing to do.
      if (errno == ECONNABORTED || errno == EINTR) continue;
      return;
    }
    struct connection* c = calloc(1, sizeof *c);
    if (c == NULL) {
      close(fd);
      continue;
    }
    c->fd = fd;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) close_connection(c);
  }
}

// Sends what is kept. True: nothing is left.
static bool flush(struct connection* c, bool* broken) {
  while (c->unsent_begin < c->unsent_end) {
    ssize_t n = send(c->fd, c->unsent + c->unsent_begin, c->unsent_end - c->unsent_begin, MSG_NOSIGNAL);
    if (n < 0) {
      *broken = !would_wait();
      return false;
    }
    c->unsent_begin += (size_t)n;
  }
  free(c->unsent);
  c->unsent = NULL;
  c->unsent_begin = c->unsent_end = 0;
  return true;
}

// Sends `bytes` of the shared buffer and keeps the rest. True: nothing is left.
static bool send_or_keep(struct connection* c, size_t bytes, bool* broken) {
  ssize_t n = send(c->fd, buffer, bytes, MSG_NOSIGNAL);
  if (n == (ssize_t)bytes) return true;
  if (n < 0 && !would_wait()) {
    *broken = true;
    return false;
  }
  const size_t sent = n > 0 ? (size_t)n : 0;
  c->unsent_end = bytes - sent;
  c->unsent = malloc(c->unsent_end);
  if (c->unsent == NULL) {
    *broken = true;
    return false;
  }
  memcpy(c->unsent, buffer + sent, c->unsent_end);
  return flush(c, broken);  // a short send says nothing about the next: only EAGAIN promises an edge
}

static void on_event(struct connection* c, uint32_t events) {
  bool broken = false;
  if (c->unsent != NULL && !flush(c, &broken)) {
    if (broken) close_connection(c);
    return;
  }
  for (;;) {
    ssize_t n = recv(c->fd, buffer, buffer_size, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && would_wait()) return;
    if (n <= 0) break;
    if (!send_or_keep(c, (size_t)n, &broken)) {
      if (broken) break;
      return;
    }
    // A short read has emptied the socket: the next byte makes a new edge. The end of the stream may
    // have come with this one.
    if (n < buffer_size && !(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))) return;
  }
  close_connection(c);
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s PORT\n", argv[0]);
    return 2;
  }
  raise_fd_limit();
  const int listener = listen_on(atoi(argv[1]), SOCK_NONBLOCK);
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
  if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0) {
    perror("epoll");
    return 1;
  }
  for (;;) {
    struct epoll_event events[events_max];
    const int n = epoll_wait(epoll, events, events_max, -1);
    for (int i = 0; i < n; i++) {
      if (events[i].data.ptr == NULL)
        accept_all(epoll, listener);
      else
        on_event(events[i].data.ptr, events[i].events);
    }
  }
}
