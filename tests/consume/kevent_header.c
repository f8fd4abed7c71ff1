/* What <keel/kevent_sys/kevent.h> promises to a compiler, in C and in C++: it stands alone, may be included
   twice, has the documented layout, and declares each call with C linkage. Compiled, never linked. */
#include <keel/kevent_sys/kevent.h>

#include <stddef.h>

/* A promise that gnu99 can check too. */
#define PROMISE(name, condition) typedef char promise_##name[(condition) ? 1 : -1]

PROMISE(size, sizeof(struct ukevent) == 40);
PROMISE(id, offsetof(struct ukevent, id) == 0 && sizeof(struct kevent_id) == 8);
PROMISE(type, offsetof(struct ukevent, type) == 8);
PROMISE(event, offsetof(struct ukevent, event) == 12);
PROMISE(req_flags, offsetof(struct ukevent, req_flags) == 16);
PROMISE(ret_flags, offsetof(struct ukevent, ret_flags) == 20);
PROMISE(ret_data, offsetof(struct ukevent, ret_data) == 24);
PROMISE(user, offsetof(struct ukevent, user) == 32 && offsetof(struct ukevent, ptr) == 32);
PROMISE(ring, sizeof(struct kevent_ring) == 8 && offsetof(struct kevent_ring, ring_over) == 4);
#ifndef __cplusplus
PROMISE(first_entry, offsetof(struct kevent_ring, event) == 8);
#endif

PROMISE(last_type, KEVENT_FUTEX == 11 && KEVENT_MAX == 12);
PROMISE(nomask, KEVENT_SIGNAL_NOMASK == 1ull << 63);
PROMISE(sigev, SIGEV_KEVENT == 8);

#ifdef __cplusplus
extern "C" {
#endif

/* A call that changed its type or its linkage conflicts with this second declaration. */
int kevent_init(struct kevent_ring*, unsigned, unsigned);
int kevent_close(int);
int kevent_ctl(int, unsigned, unsigned, struct ukevent*);
int kevent_get_events(int, unsigned, unsigned, struct timespec, struct ukevent*, unsigned);
int kevent_wait(int, unsigned, unsigned, struct timespec, unsigned);
int kevent_commit(int, unsigned, unsigned);
long aio_sendfile(int, int, int, off_t, size_t);
long aio_sendfile_path(int, int, void*, size_t, char*, off_t, size_t);
int kevent_aio_accept(int, int, unsigned, void*);
int kevent_aio_connect(int, int, const void*, unsigned, void*);
int kevent_aio_recv(int, int, void*, size_t, unsigned, void*);
int kevent_aio_send(int, int, const void*, size_t, unsigned, void*);
int kevent_aio_read(int, int, void*, size_t, off_t, void*);
int kevent_aio_write(int, int, const void*, size_t, off_t, void*);
int kevent_aio_cancel(int, void*);
int kevent_timer_create(int, int, void*);
int kevent_timer_settime(int, int, const struct itimerspec*);
int kevent_timer_delete(int);

struct ukevent socket_registration(int fd, void* cookie);

#ifdef __cplusplus
}
#endif

/* The members can be reached by the documented names, without a warning. */
struct ukevent socket_registration(int fd, void* cookie) {
  struct ukevent event;
  event.id.raw_u64 = 0;
  event.id.raw[0] = (uint32_t)fd;
  event.type = KEVENT_SOCKET;
  event.event = KEVENT_SOCKET_RECV | KEVENT_SOCKET_ACCEPT | KEVENT_SOCKET_SEND;
  event.req_flags = KEVENT_REQ_ONESHOT | KEVENT_REQ_WAKEUP_ALL | KEVENT_REQ_ET | KEVENT_REQ_LAST_CHECK |
                    KEVENT_REQ_ALWAYS_QUEUE | KEVENT_REQ_READY;
  event.ret_flags = KEVENT_RET_BROKEN | KEVENT_RET_DONE | KEVENT_RET_COPY_FAILED;
  event.ret_data[0] = event.ret_data[1] = 0;
  event.user[0] = event.user[1] = 0;
  event.ptr = cookie;
  return event;
}
