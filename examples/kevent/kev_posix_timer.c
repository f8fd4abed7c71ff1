// POSIX timers whose expiries are events: three clocks, periods, a single shot, overruns.
//
//   kev_posix_timer [EXPIRIES]     (of the periodic timer; 5)
//
// Each line is one expiry: the timer's name, and its overruns: how many further expiries nobody has collected
// in time. At the end the program looks away for a while, so the last line counts at least one.

#define _GNU_SOURCE
#include <keel/kevent_sys/kevent.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { millisecond = 1000000 };

static const struct timespec for_ever = {.tv_sec = -1};

static int check(int result, const char* call) {
  if (result >= 0) return result;
  fprintf(stderr, "%s: %s\n", call, strerror(-result));
  exit(1);
}

static struct timespec from_now(clockid_t clock, long ns) {
  struct timespec t;
  clock_gettime(clock, &t);
  t.tv_nsec += ns;
  t.tv_sec += t.tv_nsec / 1000000000;
  t.tv_nsec %= 1000000000;
  return t;
}

// Returns the timer's id; its name is what its events carry.
static int start(int queue, clockid_t clock, char* name, int flags, struct timespec first, long period_ns) {
  const int timer = check(kevent_timer_create(queue, clock, name), "kevent_timer_create");
  const struct itimerspec when = {.it_value = first, .it_interval = {.tv_nsec = period_ns}};
  check(kevent_timer_settime(timer, flags, &when), "kevent_timer_settime");
  return timer;
}

static struct ukevent next(int queue) {
  struct ukevent event;
  while (check(kevent_get_events(queue, 1, 1, for_ever, &event, 0), "kevent_get_events") == 0) continue;
  return event;
}

int main(int argc, char** argv) {
  char monotonic[] = "monotonic", realtime[] = "realtime", boottime[] = "boottime";
  const unsigned long wanted = argc > 1 ? strtoul(argv[1], NULL, 10) : 5;
  const int queue = check(kevent_init(NULL, 0, 0), "kevent_init");

  const struct timespec soon = {.tv_nsec = 20 * millisecond};
  const int periodic = start(queue, CLOCK_MONOTONIC, monotonic, 0, soon, 20 * millisecond);
  const int once = start(queue, CLOCK_BOOTTIME, boottime, 0, soon, 0);
  const struct timespec at = from_now(CLOCK_REALTIME, 50 * millisecond);
  const int absolute = start(queue, CLOCK_REALTIME, realtime, TIMER_ABSTIME, at, 0);

  unsigned long expiries = 0;
  int others = 0;
  while (expiries < wanted || others < 2) {
    const struct ukevent event = next(queue);
    if (event.ptr == monotonic) expiries += 1 + event.ret_data[0];
    if (event.ptr != monotonic) ++others;
    printf("%s expired, overruns %u\n", (char*)event.ptr, event.ret_data[0]);
  }

  // An expiry that waits already would hide what comes: begin anew.
  const struct itimerspec often = {.it_value = soon, .it_interval = {.tv_nsec = 10 * millisecond}};
  check(kevent_timer_settime(periodic, 0, &often), "kevent_timer_settime");
  nanosleep(&(struct timespec){.tv_nsec = 100 * millisecond}, NULL);
  printf("%s expired while nobody looked, overruns %u\n", monotonic, next(queue).ret_data[0]);

  check(kevent_timer_delete(periodic), "kevent_timer_delete");
  check(kevent_timer_delete(once), "kevent_timer_delete");
  check(kevent_timer_delete(absolute), "kevent_timer_delete");
  return -check(kevent_close(queue), "kevent_close");
}
