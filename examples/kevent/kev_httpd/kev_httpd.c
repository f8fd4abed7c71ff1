// A small web server in callback style: files below a folder, over HTTP/1.1, on one thread and one queue.
//
//   kev_httpd [--port PORT] [--idle SECONDS] [--connections N] FOLDER     (8080, 30, what ulimit -n allows)
//
//   kev_httpd . & curl -i localhost:8080/README.md; kill %1
//
// It prints where it listens, and at the end (SIGINT, SIGTERM) how many requests it has answered. Everything
// is one kind of event: the listener and the connections KEVENT_SOCKET, the idle limit KEVENT_TIMER, the end
// KEVENT_SIGNAL, a file that was opened, sent with its head, and closed, one KEVENT_AIO (aio_sendfile_path).
// The files are request.c, which reads heads, and connection.c.

#define _GNU_SOURCE
#include "server.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { batch = 64, descriptors_for_us = 64 };

struct server server = {.idle_s = 30};

static int check(int result, const char* call) {
  if (result >= 0) return result;
  fprintf(stderr, "kev_httpd: %s: %s\n", call, strerror(-result));
  exit(1);
}

int watch(struct watcher* watcher, uint32_t type, struct kevent_id id, uint32_t event, uint32_t flags) {
  struct ukevent asked = {.id = id, .type = type, .event = event, .req_flags = flags, .ptr = watcher};
  const int handed_back = kevent_ctl(server.queue, KEVENT_CTL_ADD, 1, &asked);
  return handed_back > 0 ? (int)asked.ret_data[1] : handed_back;
}

static void read_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  server.now_s = (uint64_t)now.tv_sec;
}

static void on_accept(struct watcher* self, const struct ukevent* event) {
  (void)self, (void)event;
  accept_connections();
}

static void on_tick(struct watcher* self, const struct ukevent* event) {
  (void)self, (void)event;
  read_clock();
  close_idle_connections();
}

static void on_stop(struct watcher* self, const struct ukevent* event) {
  (void)self, (void)event;
  server.stopping = true;
}

static int listen_on(unsigned long port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  const int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
      bind(fd, (struct sockaddr*)&address, size) != 0 || listen(fd, 4096) != 0 ||
      getsockname(fd, (struct sockaddr*)&address, &size) != 0) {
    perror("kev_httpd: listen");
    exit(1);
  }
  server.listener = fd;
  return ntohs(address.sin_port);
}

// A file that is being sent needs a descriptor next to its connection's.
static void share_out_descriptors(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t most = limit.rlim_cur < 1 << 20 ? limit.rlim_cur : 1 << 20;
  const unsigned all =
      most > 2 * descriptors_for_us ? (unsigned)most - descriptors_for_us : descriptors_for_us;
  server.sends_max = all / 4;
  if (server.connections_max == 0 || server.connections_max > all - all / 4) {
    server.connections_max = all - all / 4;
  }
}

static int usage(FILE* out, int code) {
  fprintf(out, "kev_httpd [--port PORT] [--idle SECONDS] [--connections N] FOLDER\n");
  return code;
}

static unsigned long parse_options(int argc, char** argv) {
  static const struct option known[] = {{"port", required_argument, NULL, 'p'},
                                        {"idle", required_argument, NULL, 'i'},
                                        {"connections", required_argument, NULL, 'c'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  unsigned long port = 8080;
  for (int option; (option = getopt_long(argc, argv, "p:i:c:h", known, NULL)) != -1;) {
    const unsigned long value = optarg != NULL ? strtoul(optarg, NULL, 10) : 0;
    switch (option) {
      case 'p': port = value; break;
      case 'i': server.idle_s = value; break;
      case 'c': server.connections_max = (unsigned)value; break;
      case 'h': exit(usage(stdout, 0));
      default: exit(usage(stderr, 2));
    }
  }
  if (optind + 1 != argc || port > 65535) exit(usage(stderr, 2));
  return port;
}

static void watch_everything(void) {
  const struct kevent_id listener = {.raw = {(uint32_t)server.listener}}, second = {.raw = {1}};
  const uint32_t flags = KEVENT_REQ_ET | KEVENT_REQ_ALWAYS_QUEUE;
  check(watch(&server.accepts, KEVENT_SOCKET, listener, KEVENT_SOCKET_ACCEPT, flags), "watch the listener");
  check(watch(&server.ticks, KEVENT_TIMER, second, KEVENT_TIMER_FIRED, KEVENT_REQ_ET), "watch a timer");
  static const uint64_t ends[] = {SIGINT | KEVENT_SIGNAL_NOMASK, SIGTERM | KEVENT_SIGNAL_NOMASK};
  for (int i = 0; i < 2; ++i) {
    const struct kevent_id end = {.raw_u64 = ends[i]};
    check(watch(&server.stops, KEVENT_SIGNAL, end, KEVENT_SIGNAL_DELIVERY, KEVENT_REQ_ET), "watch a signal");
  }
}

static void serve(void) {
  const struct timespec for_ever = {.tv_sec = -1};
  while (!server.stopping) {
    struct ukevent events[batch];
    const int n = check(kevent_get_events(server.queue, 1, batch, for_ever, events, 0), "kevent_get_events");
    for (int i = 0; i < n; ++i) {
      struct watcher* watcher = events[i].ptr;
      if (events[i].type == KEVENT_AIO) {
        file_sent(&events[i]);
      } else {
        watcher->told(watcher, &events[i]);
      }
    }
    bury_the_dead();
  }
}

int main(int argc, char** argv) {
  const unsigned long port = parse_options(argc, argv);
  if (chdir(argv[optind]) != 0) {
    perror(argv[optind]);
    return 1;
  }
  signal(SIGPIPE, SIG_IGN);
  share_out_descriptors();
  read_clock();
  server.accepts.told = on_accept;
  server.ticks.told = on_tick;
  server.stops.told = on_stop;
  server.queue = check(kevent_init(NULL, 0, 0), "kevent_init");
  const int bound = listen_on(port);
  watch_everything();
  printf("listening on 127.0.0.1:%d\n", bound);
  fflush(stdout);

  serve();

  // Sends that are under way end here; only then may their sockets be closed.
  check(kevent_close(server.queue), "kevent_close");
  close(server.listener);
  close_all_connections();
  printf("%llu requests answered\n", (unsigned long long)server.answers);
  return 0;
}
