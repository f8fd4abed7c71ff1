// Adds anything to a kevent queue and prints what comes out, one line of text for each event.
//
//   kev_probe timer:0.1 signal:USR1 pipe:stdin --count 5
//   kev_probe socket:accept:127.0.0.1:0 --drain --count 2
//   kev_probe user:7@et user:8 --ready 2 --stable        user:8: event DONE
//   kev_probe --help                                      every source, flag and option
//
// A line begins with its source as it was given. Then comes what ADD did ("handed back", when that was not a
// registration), or "event"; then ret_flags, an errno as text if it is BROKEN, and ret_data. The program ends
// with 0 after --count events, with 1 when --timeout comes first, with 2 when a source makes no sense.

#define _GNU_SOURCE
#include "source.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
  unsigned long count;
  struct timespec timeout;
  unsigned ring_entries;
  bool drain, modify, stable;
} options = {.count = 1, .timeout = {.tv_sec = -1}};

static int queue;
static struct kevent_ring* ring;

static int check(int result, const char* call) {
  if (result >= 0) return result;
  fprintf(stderr, "kev_probe: %s: %s\n", call, strerror(-result));
  exit(3);
}

static void print(const char* what, const struct ukevent* event) {
  const struct source* source = event->ptr;
  const int error = -(int)event->ret_data[1];
  const bool broken = (event->ret_flags & KEVENT_RET_BROKEN) != 0;
  printf("%s: %s", source->text, what);
  if ((event->ret_flags & KEVENT_RET_DONE) != 0) printf(" DONE");
  if (broken) printf(" BROKEN");
  if ((event->ret_flags & KEVENT_RET_COPY_FAILED) != 0) printf(" COPY_FAILED");
  if (broken && error > 0) {
    printf(", %s\n", strerror(error));
    return;
  }
  const bool differs = event->type == KEVENT_TIMER || event->type == KEVENT_POSIX_TIMER;
  if (options.stable && differs) {
    printf("\n");
  } else {
    printf(", ret_data %u %u\n", event->ret_data[0], event->ret_data[1]);
  }
  if (source->how == how_read_file && event->ret_data[0] > 0) {
    printf("%s: bytes \"%.*s\"\n", source->text, (int)strcspn(source->bytes, "\n"), source->bytes);
  }
}

// The object is as quiet again as if nothing had happened.
static void drain(const struct source* source) {
  char bytes[4096];
  if (source->fd < 0 || source->how != how_add) return;
  fcntl(source->fd, F_SETFL, fcntl(source->fd, F_GETFL) | O_NONBLOCK);
  if (source->listens) {
    for (int fd; (fd = accept(source->fd, NULL, NULL)) >= 0;) close(fd);
  } else if (source->asked.type != KEVENT_INODE) {
    for (ssize_t n; (n = read(source->fd, bytes, sizeof bytes)) > 0;) {
      printf("%s: drained %zd bytes\n", source->text, n);
    }
  }
}

static void begin(struct source* source) {
  if (source->how == how_read_file) {
    check(kevent_aio_read(queue, source->fd, source->bytes, sizeof source->bytes - 1, 0, source), "aio_read");
  } else if (source->how == how_clock) {
    const struct itimerspec when = {.it_interval = source->period, .it_value = source->first};
    const int id = check(kevent_timer_create(queue, source->clock_id, source), "kevent_timer_create");
    check(kevent_timer_settime(id, 0, &when), "kevent_timer_settime");
  } else {
    struct ukevent asked = source->asked;
    if (check(kevent_ctl(queue, KEVENT_CTL_ADD, 1, &asked), "kevent_ctl") > 0) print("handed back", &asked);
  }
}

static int collect_from_ring(struct ukevent* event) {
  static unsigned index, taken;
  const int moved = check(kevent_wait(queue, 1, index, options.timeout, 0), "kevent_wait");
  if (moved == 0) return 0;
  *event = ring->event[index];
  const unsigned over = ring->ring_over;
  index = ++taken % options.ring_entries;
  check(kevent_commit(queue, index, over), "kevent_commit");
  return 1;
}

static int collect(struct ukevent* event) {
  if (ring != NULL) return collect_from_ring(event);
  return check(kevent_get_events(queue, 1, 1, options.timeout, event, 0), "kevent_get_events");
}

static int usage(FILE* out, int code) {
  fprintf(out,
          "kev_probe [OPTIONS] SOURCE ...\n"
          "  -c, --count N      end after N events (1)\n"
          "  -t, --timeout S    end with 1 when no event comes for S seconds (wait for ever)\n"
          "  -r, --ring N       collect through a ring of N entries\n"
          "  -d, --drain        after an event, read or accept what there is\n"
          "  -m, --modify       after an event, KEVENT_CTL_MODIFY\n"
          "  -R, --ready N      KEVENT_CTL_READY for the Nth source, once all are added; may be repeated\n"
          "  -s, --stable       leave out what differs from run to run\n"
          "%s",
          sources_help);
  return code;
}

static unsigned long positive(const char* text) {
  char* end;
  const unsigned long value = strtoul(text, &end, 10);
  if (*text < '0' || *text > '9' || *end != '\0' || value > 1 << 20) exit(usage(stderr, 2));
  return value;
}

static void mark_ready(struct source* sources, unsigned long sources_n, unsigned long which) {
  if (which == 0 || which > sources_n) exit(usage(stderr, 2));
  struct ukevent asked = sources[which - 1].asked;
  if (check(kevent_ctl(queue, KEVENT_CTL_READY, 1, &asked), "kevent_ctl") == 0) print("not found", &asked);
}

static struct {
  unsigned long of[16];
  unsigned n;
} ready;

static struct timespec seconds(const char* text) {
  char* end;
  const double value = strtod(text, &end);
  if (end == text || *end != '\0' || !(value >= 0 && value < 1e6)) exit(usage(stderr, 2));
  return (struct timespec){(time_t)value, (long)((value - (double)(long)value) * 1e9)};
}

static void parse_options(int argc, char** argv) {
  static const struct option known[] = {{"count", required_argument, NULL, 'c'},
                                        {"timeout", required_argument, NULL, 't'},
                                        {"ring", required_argument, NULL, 'r'},
                                        {"drain", no_argument, NULL, 'd'},
                                        {"modify", no_argument, NULL, 'm'},
                                        {"ready", required_argument, NULL, 'R'},
                                        {"stable", no_argument, NULL, 's'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  for (int option; (option = getopt_long(argc, argv, "c:t:r:dmR:sh", known, NULL)) != -1;) {
    switch (option) {
      case 'c': options.count = positive(optarg); break;
      case 't': options.timeout = seconds(optarg); break;
      case 'r': options.ring_entries = (unsigned)positive(optarg); break;
      case 'd': options.drain = true; break;
      case 'm': options.modify = true; break;
      case 's': options.stable = true; break;
      case 'R':
        if (ready.n == sizeof ready.of / sizeof ready.of[0]) exit(usage(stderr, 2));
        ready.of[ready.n++] = positive(optarg);
        break;
      case 'h': exit(usage(stdout, 0));
      default: exit(usage(stderr, 2));
    }
  }
  if (optind == argc) exit(usage(stderr, 2));
}

int main(int argc, char** argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  parse_options(argc, argv);
  const unsigned long sources_n = (unsigned long)(argc - optind);
  struct source* sources = calloc(sources_n, sizeof *sources);
  if (sources == NULL) return 3;
  if (options.ring_entries > 0) {
    ring = calloc(1, sizeof *ring + options.ring_entries * sizeof ring->event[0]);
    if (ring == NULL) return 3;
  }
  queue = check(kevent_init(ring, options.ring_entries, 0), "kevent_init");
  for (unsigned long i = 0; i < sources_n; ++i) parse_source(&sources[i], argv[optind + (int)i]);
  for (unsigned long i = 0; i < sources_n; ++i) begin(&sources[i]);
  for (unsigned i = 0; i < ready.n; ++i) mark_ready(sources, sources_n, ready.of[i]);

  unsigned long seen = 0;
  for (struct ukevent event; seen < options.count && collect(&event) > 0; ++seen) {
    print("event", &event);
    if (options.drain) drain(event.ptr);
    if (options.modify) check(kevent_ctl(queue, KEVENT_CTL_MODIFY, 1, &event), "kevent_ctl");
  }
  check(kevent_close(queue), "kevent_close");
  free(sources);
  free(ring);
  return seen == options.count ? 0 : 1;
}
