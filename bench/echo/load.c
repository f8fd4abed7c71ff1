// load: drives a TCP echo server and checks every byte that comes back.
//
//   echo_load HOST PORT CONNECTIONS SIZE SECONDS [DEPTH [SERVER_PID]]
//
// Each connection keeps DEPTH messages of SIZE bytes on their way (1 unless told), for SECONDS after a
// warm-up. Prints one JSON line; exits 1 if anything was wrong. "load_cpu_s" is this program's own CPU
// time in the measured window and, given SERVER_PID, "server_cpu_s" that of all threads of the server in
// exactly the same window. With both programs on one CPU, server_cpu_s / load_cpu_s is a ratio that does
// not move with the speed of the machine.
//
// One thread on io_uring. Each turn: read all completions, then answer each connection that has got whole
// messages back with one send. Sends are tried once and report only when they could not deliver everything
// (limit.c explains why that is safe), receives are one-shot into memory of the connection.

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
  ring_entries = 16384,
  transfer_max_bytes = 64 * 1024,  // of one send or receive
  stream_period = 65521,           // prime: no message size makes the bytes of all messages the same
  octave_steps = 64,
  buckets_n = 40 * octave_steps,
};

static const uint64_t warm_up_ns = 300000000, drain_ns = 2000000000, tick_ns = 20000000;

enum kind { kind_recv, kind_send, kind_send_rest, kind_tick };

// Positions are counted in bytes since the connection began.
struct connection {
  uint64_t given;        // to the kernel for sending
  uint64_t last_given;   // where the last send began
  uint64_t received;     // and found right
  uint64_t answered;     // whole messages received
  uint64_t* started_ns;  // when the last DEPTH messages were given
  char* buffer;
  bool sending_rest;  // of a send that could not deliver everything
  bool ready;         // is in the list of those that may send
  bool dead;
};

static struct io_uring ring;
static struct connection* connections;
static unsigned connections_n, depth = 1, buffer_bytes;
static uint64_t size_bytes;
static char stream[stream_period + transfer_max_bytes];
static uint64_t histogram[buckets_n];
static uint64_t requests, errors, now_ns;
static bool measuring, stopping;
static unsigned alive_n;
static unsigned *ready, ready_n;  // the connections that may send after this turn's completions

static void die(const char* what, int error) {
  fprintf(stderr, "%s: %s (%d)\n", what, strerror(error), error);
  exit(1);
}

static uint64_t clock_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double own_cpu_s(void) {
  struct rusage use;
  getrusage(RUSAGE_SELF, &use);
  return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
         (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

// The CPU time of all threads of a process. Exact for threads that are not running at this moment, and on one
// CPU nobody else is.
static double process_cpu_s(int pid) {
  char path[300];
  snprintf(path, sizeof path, "/proc/%d/task", pid);
  DIR* tasks = opendir(path);
  if (tasks == NULL) die("cannot read the server's CPU time", errno);
  unsigned long long sum_ns = 0, ns;
  for (struct dirent* task; (task = readdir(tasks)) != NULL;) {
    snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, task->d_name);
    FILE* file = task->d_name[0] == '.' ? NULL : fopen(path, "r");
    if (file == NULL) continue;
    if (fscanf(file, "%llu", &ns) == 1) sum_ns += ns;
    fclose(file);
  }
  closedir(tasks);
  return (double)sum_ns / 1e9;
}

// Log-linear buckets: 64 per power of two, so that a percentile is at most 1.6 % off.
static unsigned bucket_of(uint64_t ns) {
  if (ns < octave_steps) return (unsigned)ns;
  const unsigned octave = 63u - (unsigned)__builtin_clzll(ns);
  const unsigned bucket = (octave - 5) * octave_steps + (unsigned)(ns >> (octave - 6)) - octave_steps;
  return bucket < buckets_n ? bucket : buckets_n - 1;
}

static double percentile_us(double part) {
  uint64_t seen = 0, wanted = (uint64_t)((double)requests * part);
  unsigned bucket = 0;
  while (bucket < buckets_n - 1 && (seen += histogram[bucket]) <= wanted) bucket++;
  if (bucket < octave_steps) return bucket / 1e3;
  const unsigned octave = bucket / octave_steps + 5;
  return (double)((uint64_t)(bucket % octave_steps + octave_steps) << (octave - 6)) / 1e3;
}

// The bytes that connection `index` sends at `position`: each has its own place in the common stream.
static const char* bytes_at(unsigned index, uint64_t position) {
  return stream + (index * 7919u + position) % stream_period;
}

static struct io_uring_sqe* next_sqe(void) {
  struct io_uring_sqe* sqe;
  while ((sqe = io_uring_get_sqe(&ring)) == NULL) io_uring_submit(&ring);
  return sqe;
}

static void finish_sqe(struct io_uring_sqe* sqe, enum kind kind, unsigned index, unsigned flags) {
  sqe->flags |= (uint8_t)flags;
  io_uring_sqe_set_data64(sqe, (uint64_t)index << 8 | kind);
}

static void arm_recv(unsigned index) {
  struct io_uring_sqe* sqe = next_sqe();
  io_uring_prep_recv(sqe, (int)index, connections[index].buffer, buffer_bytes, 0);
  sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
  finish_sqe(sqe, kind_recv, index, IOSQE_FIXED_FILE);
}

static void send_once(unsigned index, uint64_t from, uint64_t bytes) {
  struct io_uring_sqe* sqe = next_sqe();
  io_uring_prep_send(sqe, (int)index, bytes_at(index, from), bytes,
                     MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL);
  finish_sqe(sqe, kind_send, index, IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS);
}

static void send_rest(unsigned index, uint64_t from, uint64_t bytes) {
  struct io_uring_sqe* sqe = next_sqe();
  io_uring_prep_send(sqe, (int)index, bytes_at(index, from), bytes, MSG_WAITALL | MSG_NOSIGNAL);
  finish_sqe(sqe, kind_send_rest, index, IOSQE_FIXED_FILE);
  connections[index].sending_rest = true;
}

static void arm_tick(void) {
  static struct __kernel_timespec tick = {.tv_nsec = tick_ns};
  struct io_uring_sqe* sqe = next_sqe();
  io_uring_prep_timeout(sqe, &tick, 0, 0);
  finish_sqe(sqe, kind_tick, 0, 0);
}

static void fail(unsigned index, const char* what, int answer) {
  struct connection* c = &connections[index];
  if (errors++ == 0) fprintf(stderr, "connection %u: %s (%d)\n", index, what, answer);
  if (!c->dead) alive_n--;
  c->dead = true;
}

static void list_ready(unsigned index) {
  struct connection* c = &connections[index];
  if (!c->ready) ready[ready_n++] = index;
  c->ready = true;
}

static void send_what_is_due(unsigned index) {
  struct connection* c = &connections[index];
  c->ready = false;
  if (c->dead || c->sending_rest) return;
  const uint64_t begun = (c->given + size_bytes - 1) / size_bytes;  // messages
  const uint64_t until = (stopping ? begun : c->answered + depth) * size_bytes;
  if (until <= c->given) return;
  const uint64_t bytes = until - c->given < transfer_max_bytes ? until - c->given : transfer_max_bytes;
  c->last_given = c->given;
  c->given += bytes;
  send_once(index, c->last_given, bytes);
  for (uint64_t message = begun; message * size_bytes < c->given; message++)
    c->started_ns[message % depth] = now_ns;
}

// What is wrong with a receive, or NULL.
static const char* complaint(unsigned index, int answer) {
  const struct connection* c = &connections[index];
  if (answer <= 0) return "the server has closed";
  if (c->received + (uint64_t)answer > c->given) return "more bytes than were sent";
  if (memcmp(c->buffer, bytes_at(index, c->received), (size_t)answer) != 0) return "wrong bytes";
  return NULL;
}

static void on_recv(unsigned index, int answer) {
  struct connection* c = &connections[index];
  const char* wrong = complaint(index, answer);
  if (wrong != NULL) {
    fail(index, wrong, answer);
    return;
  }
  c->received += (uint64_t)answer;
  for (; c->received >= (c->answered + 1) * size_bytes; c->answered++) {
    if (!measuring) continue;
    requests++;
    histogram[bucket_of(now_ns - c->started_ns[c->answered % depth])]++;
  }
  arm_recv(index);
  list_ready(index);
}

static void on_send(unsigned index, enum kind kind, int answer) {
  struct connection* c = &connections[index];
  const uint64_t wanted = c->given - c->last_given, sent = answer > 0 ? (uint64_t)answer : 0;
  c->sending_rest = false;
  c->last_given += sent;
  if (sent == wanted)
    list_ready(index);
  else if (kind == kind_send && (answer > 0 || answer == -EAGAIN))
    send_rest(index, c->last_given, wanted - sent);
  else
    fail(index, "cannot send", answer);
}

static void take_turn(void) {
  const int answer = io_uring_submit_and_wait(&ring, 1);
  if (answer < 0 && answer != -EINTR) die("io_uring_enter", -answer);
  while (io_uring_sq_ready(&ring) != 0) io_uring_submit(&ring);
  now_ns = clock_ns();

  struct io_uring_cqe* cqe;
  unsigned head, n = 0;
  io_uring_for_each_cqe(&ring, head, cqe) {
    const enum kind kind = (enum kind)(cqe->user_data & 0xff);
    const unsigned index = (unsigned)(cqe->user_data >> 8);
    n++;
    if (kind == kind_tick)
      arm_tick();
    else if (connections[index].dead)
      continue;
    else if (kind == kind_recv)
      on_recv(index, cqe->res);
    else
      on_send(index, kind, cqe->res);
  }
  io_uring_cq_advance(&ring, n);
  // Not earlier: now it is known which sends of the last turn left something to do.
  for (unsigned i = 0; i < ready_n; i++) send_what_is_due(ready[i]);
  ready_n = 0;
}

static bool all_came_back(void) {
  for (unsigned i = 0; i < connections_n; i++)
    if (!connections[i].dead && connections[i].received != connections[i].given) return false;
  return true;
}

struct window {
  double seconds, load_cpu_s, server_cpu_s;
};

static struct window measure(double seconds, int server_pid) {
  struct window window = {0};
  const uint64_t warm_ns = clock_ns() + warm_up_ns;
  do take_turn();
  while (alive_n > 0 && now_ns < warm_ns);

  const uint64_t begin_ns = clock_ns();
  const double load_s = own_cpu_s(), server_s = server_pid ? process_cpu_s(server_pid) : 0;
  measuring = true;
  do take_turn();
  while (alive_n > 0 && now_ns < begin_ns + (uint64_t)(seconds * 1e9));
  measuring = false;
  window.seconds = (double)(clock_ns() - begin_ns) / 1e9;
  window.load_cpu_s = own_cpu_s() - load_s;
  window.server_cpu_s = server_pid ? process_cpu_s(server_pid) - server_s : 0;

  stopping = true;
  const uint64_t deadline_ns = now_ns + drain_ns;
  while (alive_n > 0 && now_ns < deadline_ns && !all_came_back()) take_turn();
  for (unsigned i = 0; i < connections_n; i++)
    if (!connections[i].dead && connections[i].received != connections[i].given)
      fail(i, "bytes that never came back", (int)(connections[i].given - connections[i].received));
  return window;
}

static int connect_to(const char* host, int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) die("HOST must be an IPv4 address", EINVAL);
  const int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket", errno);
  if (connect(fd, (struct sockaddr*)&address, sizeof address) != 0) die("cannot connect", errno);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

static void* zeros(size_t n, size_t size) {
  void* memory = calloc(n, size);
  if (memory == NULL) die("memory", ENOMEM);
  return memory;
}

static void set_up(const char* host, int port) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                            IORING_SETUP_SUBMIT_ALL};
  int error = io_uring_queue_init_params(ring_entries, &ring, &params);
  if (error < 0) die("cannot make an io_uring", -error);
  error = io_uring_register_ring_fd(&ring);
  if (error < 0) die("cannot register the ring", -error);

  uint32_t random = 2463534242u;
  for (size_t i = 0; i < sizeof stream; i++) {
    random ^= random << 13, random ^= random >> 17, random ^= random << 5;
    stream[i] = i < stream_period ? (char)random : stream[i - stream_period];
  }
  const uint64_t window_bytes = depth * size_bytes;
  buffer_bytes = (unsigned)(window_bytes < transfer_max_bytes ? window_bytes : transfer_max_bytes);
  connections = zeros(connections_n, sizeof *connections);
  ready = zeros(connections_n, sizeof *ready);
  int* fds = zeros(connections_n, sizeof *fds);
  for (unsigned i = 0; i < connections_n; i++) {
    fds[i] = connect_to(host, port);
    connections[i].started_ns = zeros(depth, sizeof(uint64_t));
    connections[i].buffer = zeros(1, buffer_bytes);
  }
  error = io_uring_register_files(&ring, fds, connections_n);
  if (error < 0) die("cannot register the sockets", -error);
  free(fds);
}

int main(int argc, char** argv) {
  if (argc < 6 || argc > 8 || atoi(argv[3]) <= 0 || atoi(argv[4]) <= 0 || (argc > 6 && atoi(argv[6]) <= 0)) {
    fprintf(stderr, "usage: %s HOST PORT CONNECTIONS SIZE SECONDS [DEPTH [SERVER_PID]]\n", argv[0]);
    return 2;
  }
  alive_n = connections_n = (unsigned)atoi(argv[3]);
  size_bytes = (uint64_t)atoi(argv[4]);
  if (argc > 6) depth = (unsigned)atoi(argv[6]);
  const int server_pid = argc > 7 ? atoi(argv[7]) : 0;
  set_up(argv[1], atoi(argv[2]));
  for (unsigned i = 0; i < connections_n; i++) {
    arm_recv(i);
    list_ready(i);
  }
  for (unsigned i = 0; i < ready_n; i++) send_what_is_due(ready[i]);
  ready_n = 0;
  arm_tick();

  const struct window window = measure(atof(argv[5]), server_pid);
  printf(
      "{\"connections\": %u, \"size\": %u, \"depth\": %u, \"seconds\": %.3f, \"requests\": %llu, "
      "\"errors\": %llu, \"load_cpu_s\": %.6f, ",
      connections_n, (unsigned)size_bytes, depth, window.seconds, (unsigned long long)requests,
      (unsigned long long)errors, window.load_cpu_s);
  if (server_pid) printf("\"server_cpu_s\": %.6f, ", window.server_cpu_s);
  printf("\"rtt_p50_us\": %.1f, \"rtt_p99_us\": %.1f}\n", percentile_us(0.5), percentile_us(0.99));
  return errors == 0 ? 0 : 1;
}
