// Signals as events: next to the program's own handler, or instead of it.
//
//   kev_signal           sends itself both signals, prints two lines and ends
//   kev_signal --wait    prints its process id; kill -USR1 or -USR2 it from outside, end it with kill -TERM
//
// SIGUSR1 is registered plainly: the handler runs, and the event comes. SIGUSR2 has KEVENT_SIGNAL_NOMASK: the
// event comes, and the handler does not run although there is one. SIGTERM needs no handler at all.

#define _GNU_SOURCE
#include <keel/kevent_sys/kevent.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t handled[NSIG];

static void on_signal(int number) {
  ++handled[number];
}

static int check(int result, const char* call) {
  if (result >= 0) return result;
  fprintf(stderr, "%s: %s\n", call, strerror(-result));
  exit(1);
}

static void add_signal(int queue, int number, uint64_t flags) {
  struct ukevent event = {.type = KEVENT_SIGNAL, .event = KEVENT_SIGNAL_DELIVERY, .req_flags = KEVENT_REQ_ET};
  event.id.raw_u64 = (uint64_t)number | flags;
  if (check(kevent_ctl(queue, KEVENT_CTL_ADD, 1, &event), "kevent_ctl") == 0) return;
  check((int)event.ret_data[1], "add a signal");
}

static void send_myself(int number, int value) {
  const union sigval with = {.sival_int = value};
  if (sigqueue(getpid(), number, with) != 0) perror("sigqueue");
}

static void print(const struct ukevent* event) {
  const int number = (int)(event->id.raw_u64 & ~KEVENT_SIGNAL_NOMASK);
  printf("SIG%s: event with value %u, sent %u times; handler has run %d times\n", sigabbrev_np(number),
         event->ret_data[0], event->ret_data[1], (int)handled[number]);
  fflush(stdout);
}

int main(int argc, char** argv) {
  const int wait = argc > 1 && strcmp(argv[1], "--wait") == 0;
  if (argc > 1 && !wait) {
    fprintf(stderr, "kev_signal [--wait]\n");
    return 2;
  }
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGUSR2, &action, NULL);

  const int queue = check(kevent_init(NULL, 0, 0), "kevent_init");
  add_signal(queue, SIGUSR1, 0);
  add_signal(queue, SIGUSR2, KEVENT_SIGNAL_NOMASK);
  add_signal(queue, SIGTERM, KEVENT_SIGNAL_NOMASK);

  if (wait) {
    printf("waiting for signals as %d\n", (int)getpid());
    fflush(stdout);
  } else {
    send_myself(SIGUSR1, 7);
    send_myself(SIGUSR2, 8);
  }
  const struct timespec for_ever = {.tv_sec = -1};
  for (int collected = 0; wait || collected < 2; ++collected) {
    struct ukevent event;
    if (check(kevent_get_events(queue, 1, 1, for_ever, &event, 0), "kevent_get_events") == 0) continue;
    if (event.id.raw[0] == SIGTERM) break;
    print(&event);
  }
  return -check(kevent_close(queue), "kevent_close");
}
