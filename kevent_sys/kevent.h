/* The layouts and constants of kevent (Evgeniy Polyakov, 2006): what a ring holds. C99 and C++; stands
   alone. */
#ifndef KEEL_KEVENT_SYS_KEVENT_H
#define KEEL_KEVENT_SYS_KEVENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What waits: the type of an event. */
#define KEVENT_SOCKET 0
#define KEVENT_INODE 1
#define KEVENT_TIMER 2
#define KEVENT_POLL 3
#define KEVENT_NAIO 4 /* a completion on a socket */
#define KEVENT_AIO 5  /* a completion on a file */
#define KEVENT_PIPE 6
#define KEVENT_SIGNAL 7
#define KEVENT_POSIX_TIMER 8
#define KEVENT_UNOTIFY 9 /* a notification from user space, another CPU's included */
#define KEVENT_PROC 10
#define KEVENT_FUTEX 11
#define KEVENT_MAX 12

#define KEVENT_SOCKET_RECV 0x1u
#define KEVENT_SOCKET_ACCEPT 0x2u
#define KEVENT_SOCKET_SEND 0x4u
#define KEVENT_TIMER_FIRED 0x1u
#define KEVENT_MASK_ALL 0xffffffffu

/* ukevent.req_flags */
#define KEVENT_REQ_ONESHOT 0x1u
#define KEVENT_REQ_WAKEUP_ALL 0x2u
#define KEVENT_REQ_ET 0x4u
#define KEVENT_REQ_LAST_CHECK 0x8u
#define KEVENT_REQ_ALWAYS_QUEUE 0x10u
#define KEVENT_REQ_READY 0x20u

/* ukevent.ret_flags */
#define KEVENT_RET_BROKEN 0x1u
#define KEVENT_RET_DONE 0x2u
#define KEVENT_RET_COPY_FAILED 0x4u

/* What is watched. */
struct kevent_id {
  __extension__ union {
    uint32_t raw[2];
    uint64_t raw_u64 __attribute__((aligned(8)));
  };
};

/* One event, 40 bytes, the same for 32-bit and 64-bit callers. */
struct ukevent {
  struct kevent_id id;
  uint32_t type;
  uint32_t event;
  uint32_t req_flags;
  uint32_t ret_flags;
  uint32_t ret_data[2];
  __extension__ union {
    uint32_t user[2];
    void* ptr;
  };
};

/* The ring: ring_kidx is where the next event will be written, ring_over how often the consumer wrapped. */
struct kevent_ring {
  uint32_t ring_kidx;
  uint32_t ring_over;
#ifndef __cplusplus
  struct ukevent event[];
#endif
};

#ifdef __cplusplus
}

static_assert(sizeof(ukevent) == 40 && alignof(ukevent) == 8, "the documented layout of ukevent");
static_assert(offsetof(ukevent, type) == 8 && offsetof(ukevent, ret_data) == 24 &&
                  offsetof(ukevent, ptr) == 32,
              "the documented layout of ukevent");
static_assert(sizeof(kevent_ring) == 8, "the documented layout of kevent_ring");
#endif

#endif /* KEEL_KEVENT_SYS_KEVENT_H */
