/* kevent: one queue for every kind of wait (Evgeniy Polyakov, Linux, 2006), in user space.
 *
 * C11 (with POSIX time types), gnu99 and C++17; stands alone. Man pages: kevent(7) and one for each call.
 *
 * A queue is a descriptor. What is to be waited for is registered on it as a struct ukevent; what happened is
 * collected from it as the same struct, into a buffer (kevent_get_events) or into a ring in the caller's
 * memory (kevent_wait, kevent_commit). Order of collection = order of becoming ready, over all types. Nothing
 * is lost, however small the ring: events that find no room wait.
 *
 * Errors:    every call returns a negative errno; errno is not touched. -EBADF for a descriptor that is not
 *            open (or a queue that was closed meanwhile), -EINVAL for one that is no queue, -EOWNERDEAD
 *            for a queue that was inherited over fork, -ENOMEM. Only the others are named below.
 * Threads:   any thread may use any queue at any time. One thread is woken for each event.
 * Signals:   a signal handler may run during a wait, which then goes on; none of these calls may be made from
 *            a signal handler. The wait calls are no cancellation points.
 * Lifetime:  pointers must be valid (a bad one faults in the caller); each call copies what it reads from
 *            them, but for the buffers of kevent_aio_* and the ring.
 */
#ifndef KEEL_KEVENT_SYS_KEVENT_H
#define KEEL_KEVENT_SYS_KEVENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Types: what is waited for, and what id and event mean. A registration is found by (type, id): the words of
   id that a type does not use tell registrations of one object apart. */
#define KEVENT_SOCKET 0 /* id.raw[0] = socket; KEVENT_SOCKET_* */
#define KEVENT_INODE 1  /* id.raw[0] = descriptor of a directory; KEVENT_INODE_* */
#define KEVENT_TIMER 2  /* id.raw = {seconds, nanoseconds}, a period; KEVENT_TIMER_FIRED */
#define KEVENT_POLL 3   /* id.raw[0] = anything that poll(2) knows; KEVENT_POLL_* */
#define KEVENT_NAIO 4   /* a completion on a socket: not for ADD */
#define KEVENT_AIO 5    /* a completion on a file, or an aio_sendfile: not for ADD */
#define KEVENT_PIPE 6   /* id.raw[0] = an end of a pipe or FIFO; KEVENT_SOCKET_RECV, KEVENT_SOCKET_SEND */
#define KEVENT_SIGNAL 7 /* id.raw_u64 = signal number, perhaps | KEVENT_SIGNAL_NOMASK */
#define KEVENT_POSIX_TIMER 8 /* an expiry of kevent_timer_create's: not for ADD */
#define KEVENT_UNOTIFY 9     /* id = any number; made ready by KEVENT_CTL_READY */
#define KEVENT_PROC 10       /* id.raw[0] = pid, or a pidfd where id.raw[1] == 1; KEVENT_PROC_EXIT */
#define KEVENT_FUTEX 11      /* id.raw_u64 = address of a 32-bit word, user[0] = the value it must have */
#define KEVENT_MAX 12

/* ukevent.event */
#define KEVENT_TIMER_FIRED 0x1u
#define KEVENT_SOCKET_RECV 0x1u
#define KEVENT_SOCKET_ACCEPT 0x2u
#define KEVENT_SOCKET_SEND 0x4u
#define KEVENT_INODE_CREATE 0x1u /* an entry was created in the directory, or moved into it */
#define KEVENT_INODE_REMOVE 0x2u /* an entry was removed from it, or moved away */
#define KEVENT_AIO_BIO 0x1u
#define KEVENT_SIGNAL_DELIVERY 0x1u
#define KEVENT_PROC_EXIT 0x1u
#define KEVENT_FUTEX_WAKE 0x1u
#define KEVENT_POLL_POLLIN 0x0001u
#define KEVENT_POLL_POLLPRI 0x0002u
#define KEVENT_POLL_POLLOUT 0x0004u
#define KEVENT_POLL_POLLERR 0x0008u
#define KEVENT_POLL_POLLHUP 0x0010u
#define KEVENT_POLL_POLLNVAL 0x0020u
#define KEVENT_POLL_POLLRDNORM 0x0040u
#define KEVENT_POLL_POLLRDBAND 0x0080u
#define KEVENT_POLL_POLLWRNORM 0x0100u
#define KEVENT_POLL_POLLWRBAND 0x0200u
#define KEVENT_POLL_POLLMSG 0x0400u
#define KEVENT_POLL_POLLREMOVE 0x1000u
#define KEVENT_POLL_POLLRDHUP 0x2000u
#define KEVENT_MASK_ALL 0xffffffffu
#define KEVENT_MASK_EMPTY 0x0u

/* In id.raw_u64 of KEVENT_SIGNAL: the event only, the program's own handler does not run. */
#define KEVENT_SIGNAL_NOMASK 0x8000000000000000ull

/* ukevent.req_flags */
#define KEVENT_REQ_ONESHOT 0x1u       /* gone after one delivery */
#define KEVENT_REQ_WAKEUP_ALL 0x2u    /* does not share an object's events with registrations elsewhere */
#define KEVENT_REQ_ET 0x4u            /* an event for each new activity; ret_flags start anew each time */
#define KEVENT_REQ_LAST_CHECK 0x8u    /* dropped at collection when it is not true any more */
#define KEVENT_REQ_ALWAYS_QUEUE 0x10u /* what is ready at ADD comes through the queue, not back from ADD */
#define KEVENT_REQ_READY 0x20u        /* ready at once, whatever the test says */

/* ukevent.ret_flags */
#define KEVENT_RET_BROKEN 0x1u      /* failed, or the object is dead; ret_data[1] = negative errno, or 0 */
#define KEVENT_RET_DONE 0x2u        /* happened */
#define KEVENT_RET_COPY_FAILED 0x4u /* delivered in the buffer alone: the ring was full */

/* kevent_ctl */
#define KEVENT_CTL_ADD 0u
#define KEVENT_CTL_REMOVE 1u
#define KEVENT_CTL_MODIFY 2u
#define KEVENT_CTL_READY 3u

/* The flags of the wait calls: `timeout` is a point of CLOCK_REALTIME. */
#define KEVENT_FLAGS_ABSTIME 1u

/* The documented number of timer_create's sigev_notify; here kevent_timer_create stands for it. */
#define SIGEV_KEVENT 8

/* What is watched. */
__extension__ struct kevent_id {
  __extension__ union {
    uint32_t raw[2];
    uint64_t raw_u64 __attribute__((aligned(8)));
  };
};

/* One registration, or one event: 40 bytes, the same for 32-bit and 64-bit callers. */
struct ukevent {
  struct kevent_id id;
  uint32_t type;        /* KEVENT_* */
  uint32_t event;       /* mask of the type */
  uint32_t req_flags;   /* KEVENT_REQ_* */
  uint32_t ret_flags;   /* KEVENT_RET_* */
  uint32_t ret_data[2]; /* by type; on failure ret_data[1] is a negative errno */
  __extension__ union { /* the caller's, never looked at (but for KEVENT_FUTEX) */
    uint32_t user[2];
    void* ptr;
  };
};

/* The ring. `ring_kidx` is where the next event will be written; it is stored after the entry, so that who
   loads it with acquire order sees whole entries. `ring_over` counts how often the consumer index wrapped.
   The caller zeroes both before kevent_init. */
struct kevent_ring {
  uint32_t ring_kidx;
  uint32_t ring_over;
#ifndef __cplusplus
  struct ukevent event[];
#endif
};

struct itimerspec;

/* Makes a queue; `ring` has `num` entries, or is NULL with num 0: then only kevent_get_events collects.
   Returns a descriptor, with close-on-exec set, which poll(2) says to be readable while something is ready.
   Errors:   -EINVAL (exactly one of ring and num is zero, num is 1, flags is not 0), -EMFILE, -ENFILE.
   Lifetime: the ring must live until kevent_close. */
int kevent_init(struct kevent_ring* ring, unsigned num, unsigned flags);

/* Ends a queue: its registrations go without events, what is in flight is cancelled and awaited, and threads
   that sleep in it return -EBADF. (Do not use close(2): it cannot be seen.) Of an inherited queue it closes
   the child's copies and returns 0. */
int kevent_close(int fd);

/* Changes registrations. `num` is at most 65,536.
     ADD     Returns how many entries are handed back, moved to the front of `arg` in their order: those that
             are ready already (DONE; not registered), and those that failed (BROKEN|DONE with
             ret_data[1] = -EEXIST, -EBADF, -ENOTSOCK, -EINVAL, -ENOSYS, -ENOMEM, ...). The others are
             registered.
     REMOVE  Each entry comes back DONE; BROKEN too when nothing matched. A pending event goes with it.
     MODIFY  Replaces event and req_flags, and tests again. Comes back like REMOVE, with ret_data[1] = -ENOENT
             or -EINVAL when it failed. What is ready now is collected, never handed back.
     READY   Makes entries ready as if they had fired; returns how many, the others are moved to the front.
             With num 0 (arg may be NULL) it makes exactly one wait call, now or later, return early.
   Errors: -EINVAL (unknown cmd, num too large; but for ADD: num greater than the number of registrations),
           -EFAULT (arg is NULL with num > 0, or misaligned). */
int kevent_ctl(int fd, unsigned cmd, unsigned num, struct ukevent* arg);

/* Collects up to `max_nr` events into `buf`, waits until `min_nr` are ready or `timeout` has passed; returns
   how many. Each also goes into the ring, if there is one with room; else its copy in `buf` says COPY_FAILED.
   `timeout`: tv_sec == -1 waits for ever, {0, 0} not at all; with KEVENT_FLAGS_ABSTIME it is a point in time.
   A queue with O_NONBLOCK does not wait, and looks at neither min_nr nor timeout.
   Errors: -EINVAL (timeout, flags), -EFAULT (buf is NULL with max_nr > 0, or misaligned). */
int kevent_get_events(int fd, unsigned min_nr, unsigned max_nr, struct timespec timeout, struct ukevent* buf,
                      unsigned flags);

/* Moves up to `num` ready events into the ring, waiting for the first one; returns how many. Sleeps while
   nothing is ready or the ring is full; not at all when `old_uidx` is not the current consumer index.
   Errors: -EINVAL (no ring, num > its size, timeout, flags). */
int kevent_wait(int fd, unsigned num, unsigned old_uidx, struct timespec timeout, unsigned flags);

/* Frees the entries before index `new_uidx`; returns how many that were. `over` must be ring_over as it was
   when they were read. A call that frees nothing changes nothing, so a full ring takes two calls.
   Errors: -EOVERFLOW (`over` is stale), -EINVAL (an index that is no entry, behind, or not produced yet). */
int kevent_commit(int fd, unsigned new_uidx, unsigned over);

/* Sends the bytes [offset, min(offset + count, size)) of a regular file to a socket; returns a cookie > 0.
   One event follows, type KEVENT_AIO, ptr = cookie: DONE with the bytes sent as a 64-bit number in ret_data,
   or DONE|BROKEN with ret_data[1] = -errno and ret_data[0] = the low 32 bits of what the socket took.
   Requests of one queue on one socket run one after the other, in the order of their submission.
   Lifetime: sock_fd and in_fd stay open until the event.
   Errors:   -EINVAL (offset < 0), -ENOTSOCK. That in_fd is no regular file (-EINVAL) comes with the event. */
long aio_sendfile(int kevent_fd, int sock_fd, int in_fd, off_t offset, size_t count);

/* The same with `header` in front, of a file that is opened (without blocking the caller) and closed. Header
   and filename are copied. Header bytes are not counted. Errors of the open come with the event.
   Errors: -EINVAL (also: header NULL with header_size > 0), -ENOTSOCK, -EFAULT (filename is NULL). */
long aio_sendfile_path(int kevent_fd, int sock_fd, void* header, size_t header_size, char* filename,
                       off_t offset, size_t count);

/* Completions. Each call submits one operation and returns 0; its one event has type KEVENT_NAIO (sockets) or
   KEVENT_AIO (files), id.raw[0] = fd, ptr = user, and DONE with ret_data[0] = result, or DONE|BROKEN with
   ret_data[1] = -errno. O_NONBLOCK on `fd` is ignored: the operation waits. recv and send move like one
   recv(2) and send(2): any positive count, 0 = end of stream; no SIGPIPE.
   Lifetime: `fd` stays open, and the buffers belong to the library, until the event.
   Errors:   -EINVAL, -ENOTSOCK, -EFAULT (buffer NULL with size > 0). */
/* Its result is the new descriptor, with close-on-exec set. flags: 0, SOCK_NONBLOCK, SOCK_CLOEXEC. */
int kevent_aio_accept(int kevent_fd, int fd, unsigned flags, void* user);
/* `addr` is copied. */
int kevent_aio_connect(int kevent_fd, int fd, const void* addr, unsigned addr_len, void* user);
int kevent_aio_recv(int kevent_fd, int fd, void* buf, size_t size, unsigned flags, void* user);
int kevent_aio_send(int kevent_fd, int fd, const void* buf, size_t size, unsigned flags, void* user);
/* offset -1: at the file position, which is what pipes need. */
int kevent_aio_read(int kevent_fd, int fd, void* buf, size_t size, off_t offset, void* user);
int kevent_aio_write(int kevent_fd, int fd, const void* buf, size_t size, off_t offset, void* user);
/* Asks the oldest operation with this `user` to end; it still completes, with -ECANCELED unless faster.
   Errors: -ENOENT (there is none in flight). */
int kevent_aio_cancel(int kevent_fd, void* user);

/* A timer on CLOCK_REALTIME, CLOCK_MONOTONIC or CLOCK_BOOTTIME whose expiries come as events of type
   KEVENT_POSIX_TIMER with ptr = sival_ptr and ret_data[0] = the overrun count. Returns an id > 0; it counts
   as a registration until it is deleted. Errors: -EINVAL (clock_id), -EMFILE, -ENFILE. */
int kevent_timer_create(int kevent_fd, int clock_id, void* sival_ptr);
/* Arms it, or with it_value zero disarms it, as timer_settime(2); a pending expiry is dropped. flags: 0 or
   TIMER_ABSTIME. Errors: -EINVAL (id, flags, value), -EFAULT (value is NULL). */
int kevent_timer_settime(int timer_id, int flags, const struct itimerspec* value);
/* Nothing is reported. Errors: -EINVAL (id). */
int kevent_timer_delete(int timer_id);

#ifdef __cplusplus
}

static_assert(sizeof(struct ukevent) == 40 && alignof(struct ukevent) == 8,
              "the documented layout of ukevent");
static_assert(offsetof(struct ukevent, type) == 8 && offsetof(struct ukevent, ret_data) == 24 &&
                  offsetof(struct ukevent, ptr) == 32,
              "the documented layout of ukevent");
static_assert(sizeof(struct kevent_ring) == 8, "the documented layout of kevent_ring");
#endif

#endif /* KEEL_KEVENT_SYS_KEVENT_H */
