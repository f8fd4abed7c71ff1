/* A program in C that waits for everything kevent knows: one event of each type, each in a line of its own.
   Works in a temporary folder below the current one. Ends with 1, and says where, when something is not as
   kevent.h promises. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <keel/kevent_sys/kevent.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                                     \
  do {                                                                                                       \
    if (!(condition)) {                                                                                      \
      fprintf(stderr, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);              \
      exit(1);                                                                                               \
    }                                                                                                        \
  } while (0)

/* Long enough for a busy machine; nothing here waits for it to pass. */
static const struct timespec patience = {30, 0};

static struct ukevent entry(uint32_t type, uint32_t event, uint32_t id0, uint32_t id1, void* cookie) {
  struct ukevent e;
  memset(&e, 0, sizeof e);
  e.id.raw[0] = id0;
  e.id.raw[1] = id1;
  e.type = type;
  e.event = event;
  e.ptr = cookie;
  return e;
}

static void add(int queue, struct ukevent e) {
  const int handed_back = kevent_ctl(queue, KEVENT_CTL_ADD, 1, &e);
  if (handed_back == 1) fprintf(stderr, "handed back: errno %d\n", -(int)e.ret_data[1]);
  CHECK(handed_back == 0);
}

static void take_off(int queue, struct ukevent e) {
  CHECK(kevent_ctl(queue, KEVENT_CTL_REMOVE, 1, &e) == 0);
  CHECK(e.ret_flags == KEVENT_RET_DONE);
}

/* The next event, which must be of this type and carry this cookie. */
static struct ukevent next(int queue, uint32_t type, void* cookie) {
  struct ukevent e;
  CHECK(kevent_get_events(queue, 1, 1, patience, &e, 0) == 1);
  CHECK(e.type == type);
  CHECK(e.ptr == cookie);
  CHECK(e.ret_flags & KEVENT_RET_DONE);
  return e;
}

static struct ukevent next_intact(int queue, uint32_t type, void* cookie) {
  const struct ukevent e = next(queue, type, cookie);
  if (e.ret_flags & KEVENT_RET_BROKEN) fprintf(stderr, "broken: errno %d\n", -(int)e.ret_data[1]);
  CHECK(!(e.ret_flags & KEVENT_RET_BROKEN));
  return e;
}

static void expect_bytes(int fd, const char* text) {
  char buffer[64];
  size_t got = 0;
  while (got < strlen(text)) {
    const ssize_t n = read(fd, buffer + got, sizeof buffer - got);
    CHECK(n > 0);
    got += (size_t)n;
  }
  CHECK(got == strlen(text) && memcmp(buffer, text, got) == 0);
}

static void wait_for_socket(int queue) {
  int ends[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const struct ukevent e = entry(KEVENT_SOCKET, KEVENT_SOCKET_RECV, (uint32_t)ends[0], 0, ends);
  add(queue, e);

  CHECK(write(ends[1], "x", 1) == 1);
  CHECK(next_intact(queue, KEVENT_SOCKET, ends).id.raw[0] == (uint32_t)ends[0]);

  take_off(queue, e);
  close(ends[0]);
  close(ends[1]);
}

static void wait_for_inode(int queue, int folder) {
  const struct ukevent e = entry(KEVENT_INODE, KEVENT_INODE_CREATE, (uint32_t)folder, 0, &folder);
  add(queue, e);

  CHECK(mkdirat(folder, "entry", 0700) == 0);
  next_intact(queue, KEVENT_INODE, &folder);

  take_off(queue, e);
  CHECK(unlinkat(folder, "entry", AT_REMOVEDIR) == 0);
}

static void wait_for_timer(int queue) {
  struct ukevent e = entry(KEVENT_TIMER, KEVENT_TIMER_FIRED, 0, 1000 * 1000, &e);
  e.req_flags = KEVENT_REQ_ONESHOT;
  add(queue, e);

  next_intact(queue, KEVENT_TIMER, &e);
}

static void wait_for_poll(int queue) {
  const int counter = eventfd(0, EFD_CLOEXEC);
  CHECK(counter >= 0);
  struct ukevent e = entry(KEVENT_POLL, KEVENT_POLL_POLLIN, (uint32_t)counter, 0, &e);
  e.req_flags = KEVENT_REQ_ONESHOT;
  add(queue, e);

  CHECK(eventfd_write(counter, 1) == 0);
  CHECK(next_intact(queue, KEVENT_POLL, &e).ret_data[0] == KEVENT_POLL_POLLIN);

  close(counter);
}

static void wait_for_pipe(int queue) {
  int ends[2];
  CHECK(pipe2(ends, O_CLOEXEC) == 0);
  const struct ukevent e = entry(KEVENT_PIPE, KEVENT_SOCKET_RECV, (uint32_t)ends[0], 0, ends);
  add(queue, e);

  close(ends[1]);
  CHECK(next(queue, KEVENT_PIPE, ends).ret_flags & KEVENT_RET_BROKEN);

  take_off(queue, e);
  close(ends[0]);
}

static void wait_for_signal(int queue) {
  struct ukevent e = entry(KEVENT_SIGNAL, KEVENT_SIGNAL_DELIVERY, 0, 0, &e);
  e.id.raw_u64 = (uint64_t)SIGUSR1 | KEVENT_SIGNAL_NOMASK;
  add(queue, e);

  const union sigval value = {.sival_int = 1234};
  CHECK(sigqueue(getpid(), SIGUSR1, value) == 0);
  const struct ukevent got = next_intact(queue, KEVENT_SIGNAL, &e);
  CHECK(got.ret_data[0] == 1234 && got.ret_data[1] == 1);

  take_off(queue, e);
}

static void wait_for_posix_timer(int queue) {
  int cookie;
  const int timer = kevent_timer_create(queue, CLOCK_MONOTONIC, &cookie);
  CHECK(timer > 0);
  const struct itimerspec soon = {{0, 0}, {0, 1000 * 1000}};
  CHECK(kevent_timer_settime(timer, 0, &soon) == 0);

  CHECK(next_intact(queue, KEVENT_POSIX_TIMER, &cookie).ret_data[0] == 0);

  CHECK(kevent_timer_delete(timer) == 0);
}

static void wait_for_unotify(int queue) {
  struct ukevent e = entry(KEVENT_UNOTIFY, 1, 42, 0, &e);
  add(queue, e);

  struct ukevent call = e;
  CHECK(kevent_ctl(queue, KEVENT_CTL_READY, 1, &call) == 1);
  CHECK(next_intact(queue, KEVENT_UNOTIFY, &e).id.raw_u64 == 42);

  take_off(queue, e);
}

static void wait_for_proc(int queue) {
  int gate[2];
  CHECK(pipe2(gate, O_CLOEXEC) == 0);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    char byte;
    close(gate[1]);
    _exit(read(gate[0], &byte, 1) == 0 ? 7 : 1);
  }
  struct ukevent e = entry(KEVENT_PROC, KEVENT_PROC_EXIT, (uint32_t)child, 0, &e);
  e.req_flags = KEVENT_REQ_ONESHOT;
  add(queue, e);

  close(gate[1]);
  const int status = (int)next(queue, KEVENT_PROC, &e).ret_data[0];
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);

  close(gate[0]);
  CHECK(waitpid(child, NULL, 0) == child);
}

static void wait_for_futex(int queue) {
  static uint32_t word = 5;
  struct ukevent e = entry(KEVENT_FUTEX, KEVENT_FUTEX_WAKE, 0, 0, NULL);
  e.id.raw_u64 = (uintptr_t)&word;
  e.user[0] = 5;
  e.user[1] = 99;
  add(queue, e);

  /* A wake that finds nobody is no token: whoever waits in the kernel may not have got there yet. */
  while (syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) != 1) {
    struct ukevent none;
    CHECK(kevent_get_events(queue, 0, 1, patience, &none, 0) == 0);
  }
  struct ukevent got;
  CHECK(kevent_get_events(queue, 1, 1, patience, &got, 0) == 1);
  CHECK(got.type == KEVENT_FUTEX && got.ret_flags == KEVENT_RET_DONE && got.user[1] == 99);

  take_off(queue, e);
}

static int listener_on_loopback(struct sockaddr_in* address) {
  socklen_t length = sizeof *address;
  memset(address, 0, sizeof *address);
  address->sin_family = AF_INET;
  address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(listener >= 0);
  CHECK(bind(listener, (struct sockaddr*)address, length) == 0);
  CHECK(listen(listener, 1) == 0);
  CHECK(getsockname(listener, (struct sockaddr*)address, &length) == 0);
  return listener;
}

/* A connection is made and used without a call that could block. */
static void complete_on_sockets(int queue) {
  struct sockaddr_in address;
  const int listener = listener_on_loopback(&address);
  const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  char accepting, connecting, receiving, sending, buffer[16];
  CHECK(client >= 0);

  CHECK(kevent_aio_accept(queue, listener, SOCK_CLOEXEC, &accepting) == 0);
  CHECK(kevent_aio_connect(queue, client, &address, sizeof address, &connecting) == 0);
  int server = -1;
  for (int i = 0; i < 2; ++i) {
    struct ukevent e;
    CHECK(kevent_get_events(queue, 1, 1, patience, &e, 0) == 1);
    CHECK(e.type == KEVENT_NAIO && e.ret_flags == KEVENT_RET_DONE);
    CHECK(e.ptr == &accepting || e.ptr == &connecting);
    if (e.ptr == &accepting) server = (int)e.ret_data[0];
  }
  CHECK(server >= 0);

  CHECK(kevent_aio_recv(queue, server, buffer, sizeof buffer, 0, &receiving) == 0);
  CHECK(kevent_aio_send(queue, client, "hello", 5, 0, &sending) == 0);
  for (int i = 0; i < 2; ++i) {
    struct ukevent e;
    CHECK(kevent_get_events(queue, 1, 1, patience, &e, 0) == 1);
    CHECK(e.type == KEVENT_NAIO && e.ret_flags == KEVENT_RET_DONE && e.ret_data[0] == 5);
  }
  CHECK(memcmp(buffer, "hello", 5) == 0);

  CHECK(kevent_aio_recv(queue, server, buffer, sizeof buffer, 0, &receiving) == 0);
  CHECK(kevent_aio_cancel(queue, &receiving) == 0);
  const struct ukevent cancelled = next(queue, KEVENT_NAIO, &receiving);
  CHECK((cancelled.ret_flags & KEVENT_RET_BROKEN) && cancelled.ret_data[1] == (uint32_t)-ECANCELED);

  close(server);
  close(client);
  close(listener);
}

static void complete_on_files(int queue, int folder) {
  char buffer[16], cookie;
  const int file = openat(folder, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  CHECK(file >= 0);

  CHECK(kevent_aio_write(queue, file, "0123456789", 10, 0, &cookie) == 0);
  CHECK(next_intact(queue, KEVENT_AIO, &cookie).ret_data[0] == 10);
  CHECK(kevent_aio_read(queue, file, buffer, sizeof buffer, 4, &cookie) == 0);
  CHECK(next_intact(queue, KEVENT_AIO, &cookie).ret_data[0] == 6);
  CHECK(memcmp(buffer, "456789", 6) == 0);

  close(file);
}

static void send_files(int queue, int folder, const char* folder_name) {
  int ends[2];
  char path[128], header[] = "header:";
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const int file = openat(folder, "file", O_RDONLY | O_CLOEXEC);
  CHECK(file >= 0);

  const long plain = aio_sendfile(queue, ends[0], file, 2, 3);
  CHECK(plain > 0);
  CHECK(next_intact(queue, KEVENT_AIO, (void*)plain).ret_data[0] == 3);
  expect_bytes(ends[1], "234");

  snprintf(path, sizeof path, "%s/file", folder_name);
  const long by_name = aio_sendfile_path(queue, ends[0], header, strlen(header), path, 8, 100);
  CHECK(by_name > 0 && by_name != plain);
  CHECK(next_intact(queue, KEVENT_AIO, (void*)by_name).ret_data[0] == 2);
  expect_bytes(ends[1], "header:89");

  close(file);
  close(ends[0]);
  close(ends[1]);
}

/* The ring: the event lies in our memory, at our index, until it is committed. */
static void collect_by_ring(void) {
  enum { size = 4 };
  struct kevent_ring* ring = calloc(1, sizeof *ring + size * sizeof ring->event[0]);
  CHECK(ring != NULL);
  const int queue = kevent_init(ring, size, 0);
  CHECK(queue >= 0);
  struct ukevent e = entry(KEVENT_UNOTIFY, 1, 1, 0, &e);
  e.req_flags = KEVENT_REQ_READY | KEVENT_REQ_ONESHOT;
  add(queue, e);

  CHECK(kevent_wait(queue, size - 1, 0, patience, 0) == 1);
  CHECK(ring->ring_kidx == 1 && ring->event[0].ptr == &e);
  CHECK(kevent_commit(queue, 1, ring->ring_over) == 1);

  CHECK(kevent_close(queue) == 0);
  free(ring);
}

static int open_descriptors(void) {
  int count = 0;
  DIR* folder = opendir("/proc/self/fd");
  CHECK(folder != NULL);
  while (readdir(folder) != NULL) ++count;
  closedir(folder);
  return count;
}

static void done(const char* what) {
  puts(what);
  fflush(stdout);
}

static void use_every_type(int queue, int folder, const char* folder_name) {
  wait_for_socket(queue), done("SOCKET");
  wait_for_inode(queue, folder), done("INODE");
  wait_for_timer(queue), done("TIMER");
  wait_for_poll(queue), done("POLL");
  complete_on_sockets(queue), done("NAIO");
  complete_on_files(queue, folder), done("AIO");
  send_files(queue, folder, folder_name), done("AIO: sendfile");
  wait_for_pipe(queue), done("PIPE");
  wait_for_signal(queue), done("SIGNAL");
  wait_for_posix_timer(queue), done("POSIX_TIMER");
  wait_for_unotify(queue), done("UNOTIFY");
  wait_for_proc(queue), done("PROC");
  wait_for_futex(queue), done("FUTEX");
  collect_by_ring(), done("ring");
}

int main(void) {
  char folder_name[] = "every_type_XXXXXX";
  CHECK(mkdtemp(folder_name) != NULL);
  const int folder = open(folder_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  CHECK(folder >= 0);
  const int before = open_descriptors();

  const int queue = kevent_init(NULL, 0, 0);
  if (queue < 0) fprintf(stderr, "kevent_init: %s\n", strerror(-queue));
  CHECK(queue >= 0);
  use_every_type(queue, folder, folder_name);
  CHECK(kevent_close(queue) == 0);

  CHECK(open_descriptors() == before);
  done("descriptors");
  CHECK(unlinkat(folder, "file", 0) == 0);
  CHECK(rmdir(folder_name) == 0);
  return 0;
}
