// epoll's calls on top of kevent, for programs that know nothing else: level-triggered unless EPOLLET is
// asked for, EPOLLONESHOT, EPOLLRDHUP, EPOLLEXCLUSIVE, and 64 bits of data that come back.
//
// Errors are epoll's own: -1 and errno. What differs:
//   - a descriptor is to be removed before it is closed: a close cannot be seen from here;
//   - a signal does not interrupt kev_epoll_wait (no EINTR), and there is no signal mask;
//   - kev_epoll_close instead of close(2).
// The descriptor may be polled, or added to another instance or to a real epoll, like epoll's.
#ifndef KEV_EPOLL_H
#define KEV_EPOLL_H

#include <sys/epoll.h>

// `flags`: 0 or EPOLL_CLOEXEC; the descriptor has close-on-exec set in any case.
int kev_epoll_create(int flags);
int kev_epoll_close(int epfd);
int kev_epoll_ctl(int epfd, int op, int fd, struct epoll_event* event);
int kev_epoll_wait(int epfd, struct epoll_event* events, int maxevents, int timeout_ms);

#endif
