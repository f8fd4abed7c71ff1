// What quiet connections of an echo server feel when others flood it.
//
//     echo_flood HOST PORT [QUIET FLOODS SECONDS]        100 quiet connections, 1 flood, 3 seconds
//
// The quiet ones take turns: one sends 64 bytes and waits for their echo, then a pause. First alone, then
// while FLOODS connections, in a process of their own, send without ever waiting for what comes back. One
// JSON line: the 50th and 99th percentile of both, in microseconds, and the ratio of the 99ths.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { message_bytes = 64, quiet_max = 10000, floods_max = 64, samples_max = 1000000 };
static const long pause_ns = 200 * 1000;

static void fail(const char* what) {
  perror(what);
  exit(1);
}

static double now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int connect_to(const char* host, const char* port) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
  if (inet_pton(AF_INET, host, &at.sin_addr) != 1) fail(host);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int one = 1;
  if (fd < 0 || connect(fd, (struct sockaddr*)&at, sizeof at) != 0) fail("connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

// Until it is killed.
static void flood(const char* host, const char* port, int count) {
  static char bytes[1 << 16];
  struct pollfd polled[floods_max];
  for (int i = 0; i < count; ++i) {
    polled[i].fd = connect_to(host, port);
    polled[i].events = POLLIN | POLLOUT;
    fcntl(polled[i].fd, F_SETFL, O_NONBLOCK);
  }
  for (;;) {
    if (poll(polled, (nfds_t)count, -1) < 0) fail("poll");
    for (int i = 0; i < count; ++i) {
      if (polled[i].revents & POLLOUT && send(polled[i].fd, bytes, sizeof bytes, MSG_NOSIGNAL) < 0 &&
          errno != EAGAIN)
        fail("send");
      if (polled[i].revents & POLLIN && recv(polled[i].fd, bytes, sizeof bytes, 0) <= 0 && errno != EAGAIN)
        fail("recv");
    }
  }
}

static double round_trip(int fd) {
  char bytes[message_bytes] = "quiet";
  const double begin = now_us();
  if (send(fd, bytes, sizeof bytes, MSG_NOSIGNAL) != message_bytes) fail("send");
  if (recv(fd, bytes, sizeof bytes, MSG_WAITALL) != message_bytes) fail("recv");
  return now_us() - begin;
}

static int ascending(const void* a, const void* b) {
  const double left = *(const double*)a;
  const double right = *(const double*)b;
  return (left > right) - (left < right);
}

struct percentiles {
  double p50, p99;
  int count;
};

static struct percentiles measure(const int* fds, int count, double seconds) {
  static double samples[samples_max];
  struct percentiles found = {0, 0, 0};
  const double end = now_us() + seconds * 1e6;
  int n = 0;
  while (n < samples_max && now_us() < end) {
    samples[n] = round_trip(fds[n % count]);
    ++n;
    const struct timespec rest = {0, pause_ns};
    nanosleep(&rest, NULL);
  }
  qsort(samples, (size_t)n, sizeof samples[0], ascending);
  found.count = n;
  found.p50 = samples[n / 2];
  found.p99 = samples[n * 99 / 100];
  return found;
}

int main(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: %s HOST PORT [QUIET FLOODS SECONDS]\n", argv[0]);
    return 2;
  }
  static int fds[quiet_max];
  const int quiet = argc > 3 ? atoi(argv[3]) : 100;
  const int floods = argc > 4 ? atoi(argv[4]) : 1;
  const double seconds = argc > 5 ? atof(argv[5]) : 3;
  if (quiet < 1 || quiet > quiet_max || floods < 1 || floods > floods_max || seconds <= 0) {
    fprintf(stderr, "1 to %d quiet connections, 1 to %d floods\n", quiet_max, floods_max);
    return 2;
  }
  for (int i = 0; i < quiet; ++i) fds[i] = connect_to(argv[1], argv[2]);
  measure(fds, quiet, seconds / 4);
  const struct percentiles idle = measure(fds, quiet, seconds);
  const pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    for (int i = 0; i < quiet; ++i) close(fds[i]);
    nice(10);
    flood(argv[1], argv[2], floods);
  }
  measure(fds, quiet, seconds / 4);
  const struct percentiles flooded = measure(fds, quiet, seconds);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  printf(
      "{\"bench\": \"echo_flood\", \"quiet\": %d, \"floods\": %d, \"idle_p50_us\": %.1f, \"idle_p99_us\": "
      "%.1f, "
      "\"p50_us\": %.1f, \"p99_us\": %.1f, \"p99_ratio\": %.2f, \"samples\": %d}\n",
      quiet, floods, idle.p50, idle.p99, flooded.p50, flooded.p99, flooded.p99 / idle.p99, flooded.count);
  return 0;
}
