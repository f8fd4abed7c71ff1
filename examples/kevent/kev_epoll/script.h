// A program's dealings with epoll, written down: the same script runs against the real calls and the shim.
#ifndef KEV_EPOLL_SCRIPT_H
#define KEV_EPOLL_SCRIPT_H

#include <stddef.h>
#include <sys/epoll.h>

struct poller {
  const char* name;
  int (*create)(int flags);
  int (*close)(int epfd);
  int (*ctl)(int epfd, int op, int fd, struct epoll_event* event);
  int (*wait)(int epfd, struct epoll_event* events, int maxevents, int timeout_ms);
};

struct transcript {
  char* text;
  size_t size;
};

// Runs everything; the caller frees the text.
struct transcript run_script(const struct poller* with);

#endif
